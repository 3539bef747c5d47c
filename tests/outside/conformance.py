"""What every outside store of payloads must do, as far as it is read.

Its tests subclass :class:`ConditionsStoreConformance` and override fixtures only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.asking import AT_ONE_PLACE, Asker
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import look
from airflow_calib_provider.outside.conditions import ConditionsStore, look_up
from tests.ledger.making import facts, group_ids, new_ledger, put_runs, task, workflow

Interval = tuple[int, int | None, str]
"""First run, last run (``None``: until the next one begins), file."""

Put = Callable[[str, Iterable[Interval]], None]

SLOWEST = 20.0
"""Seconds after which a store that does not answer has said so: what ``timeout`` is for others."""


class ConditionsStoreConformance:
    """A store, how to put something there, and how to make it fail."""

    @pytest.fixture
    def name(self) -> str:
        """In specs."""
        raise NotImplementedError

    @pytest.fixture
    def place(self, tmp_path: Path) -> str:
        """Where the store is."""
        raise NotImplementedError

    @pytest.fixture
    def no_place(self) -> str:
        """Where none can be."""
        raise NotImplementedError

    @pytest.fixture
    def put(self, place: str) -> Put:
        """Lets a tag have these intervals and no others, in this order."""
        raise NotImplementedError

    @pytest.fixture
    def breaks(self, place: str) -> Callable[[], None]:
        """Lets the store be out of order from now on."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, name: str, place: str) -> ConditionsStore:
        found: ConditionsStore = CONDITIONS_STORES.member(name)(place)
        return found

    def test_it_is_in_the_table(self, name, store, place):
        assert name in CONDITIONS_STORES
        assert isinstance(store, ConditionsStore)
        assert store.place == place

    def test_a_place_is_judged_without_going_there(self, name, place, no_place):
        kind = CONDITIONS_STORES.member(name)
        assert kind.fault(place) == kind.fault(f"{place}/not/there/yet") == ""
        said = kind.fault(no_place)
        assert said, "it is told when a spec is read"
        assert said.isprintable()

    def test_a_listing_is_in_order_with_ends(self, store, put):
        put("Laser", [(20, 29, "c"), (1, 9, "a"), (40, None, "e"), (30, None, "d"), (10, 15, "b")])
        found = store.listing("Laser")
        spans = [(one.first_run, one.last_run) for one in found]
        assert spans == [(1, 9), (10, 15), (20, 29), (30, 39), (40, None)]
        assert [one.file[-1] for one in found] == ["a", "b", "c", "d", "e"]
        assert all(isinstance(one.hash, str) for one in found)
        covered = [run for run in (0, 1, 9, 16, 19, 20, 39, 40, 10**9) if look_up(found, run)]
        assert covered == [1, 9, 20, 39, 40, 10**9]

    def test_it_says_the_same_again_and_what_is_new(self, store, put):
        put("Laser", [(1, 9, "a")])
        first = store.listing("Laser")
        assert store.listing("Laser") == first
        put("Laser", [(1, 9, "a"), (10, 19, "b")])
        assert store.listing("Laser")[:1] == first
        assert len(store.listing("Laser")) == 2

    def test_tags_are_apart(self, store, put):
        put("Laser", [(1, 9, "a")])
        put("LaserOther", [(5, 7, "b")])
        assert [one.first_run for one in store.listing("Laser")] == [1]
        assert [one.first_run for one in store.listing("LaserOther")] == [5]

    def test_a_tag_that_is_not_there(self, store, put):
        put("Laser", [(1, 9, "a")])
        self._is_told(store, "Pedestals", "Pedestals")

    @pytest.mark.parametrize(
        "intervals", [[(1, 9, "a"), (9, 12, "b")], [(1, 9, "a"), (1, 9, "b")], [(7, 3, "a")]], ids=str
    )
    def test_what_contradicts_itself_is_never_listed(self, store, put, intervals):
        try:
            put("Laser", intervals)
        except ValueError:
            return  # the store itself does not take it
        self._is_told(store, "Laser", "Laser")

    def test_one_that_is_out_of_order_says_so_in_time(self, store, put, breaks):
        put("Laser", [(1, 9, "a")])
        breaks()
        began = time.monotonic()
        self._is_told(store, "Laser", "")
        assert time.monotonic() - began < SLOWEST

    def _is_told(self, store: ConditionsStore, tag: str, named: str) -> None:
        with pytest.raises(OutsideError) as caught:
            store.listing(tag)
        said = caught.value.message
        assert said.isprintable(), "people read it in a reason"
        assert named in said

    def test_several_may_ask_at_once(self, store, put):
        put("Laser", [(run, run, "a") for run in range(1, 200)])
        with ThreadPoolExecutor(AT_ONE_PLACE) as pool:
            first, *others = pool.map(store.listing, ["Laser"] * 8)
        assert len(first) == 199
        assert all(one == first for one in others)

    @pytest.fixture
    def ledger(self, tmp_path: Path) -> Iterator[Ledger]:
        folder = tmp_path / "ledger"
        folder.mkdir()
        made = new_ledger(folder)
        yield made
        made.close()

    def test_what_waits_for_it(self, ledger, name, place, put, breaks):
        """Runs that it covers go on; one that is away takes nothing back, and is no error of anybody."""
        put_runs(ledger, workflow("flow", task("fit")), [facts(run) for run in (1, 5, 12)])
        ids = group_ids(ledger, "run", "flow")
        parameters = {"store": f"{name}:{place}", "tag": "Laser", "what": f"Laser in {name}", "every": 0}
        lock = {"task": "fit", "position": 0, "kind": "stored_payload", "parameters": parameters}
        with ledger.write() as connection:
            connection.execute(insert(tables.lock), [{"group_id": group, **lock} for group in ids.values()])

        def asked() -> dict[str, Any]:
            asker, keys = Asker(ledger), [(group, "fit") for group in ids.values()]
            assert asker.start(keys) == 1, "once for all that ask the same"
            asker.finish(SLOWEST)
            with ledger.read() as connection:
                return {group: look(connection, [(number, "fit")])[number, "fit"] for group, number in ids.items()}

        put("Laser", [(1, 9, "a")])
        first = asked()
        assert {group: one.state for group, one in first.items()} == {
            "run-r1": "open", "run-r5": "open", "run-r12": "waiting",
        }  # fmt: skip
        assert "no payload there yet" in render(first["run-r12"].reason)
        breaks()
        second = asked()
        assert {group: one.state for group, one in second.items()} == {
            "run-r1": "open", "run-r5": "open", "run-r12": "waiting",
        }  # fmt: skip
        assert "cannot be asked: " in render(second["run-r12"].reason)
