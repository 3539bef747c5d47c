"""What every outside store of payloads must do that can be written, whatever befalls a call.

Its tests subclass :class:`WritableStoreConformance` and override fixtures only.
"""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

from airflow_calib_provider.errors import StoreBusy, StoreInvalid, StoreUnavailable, StoreUnknown
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.outside.placing import (
    NO_GUARD,
    Guard,
    Placement,
    Ref,
    StorePlan,
    TagPlan,
    WantedPlacement,
    applied,
    undone,
)
from airflow_calib_provider.outside.writing import WritableStore

Expected = dict[str, list[Placement]]

AGAIN = (StoreUnavailable, StoreBusy, StoreUnknown)


class Faults(Protocol):
    """What befalls the calls of a store."""

    def arm(self, number: int, what: str, pid: int) -> None:
        """Let it befall the call of this number from now: ``before`` it does anything, ``after`` it has done it and
        before it says so, ``kill_before`` and ``kill_after`` whoever calls."""

    def calls(self) -> int:
        """How many there were so far."""

    def disarm(self) -> None:
        """Nothing more befalls."""


class WritableStoreConformance:
    """A store, how its tags are made, and what may befall its calls."""

    tags = ("Scale", "Errors")

    @pytest.fixture
    def faults(self) -> Faults:
        raise NotImplementedError

    @pytest.fixture
    def ready_tags(self, store: WritableStore) -> Callable[[], tuple[str, str]]:
        """Two tags of which nothing is there yet, others each time."""
        raise NotImplementedError

    @pytest.fixture
    def content(self, tmp_path: Path) -> Callable[[str], tuple[Path, str]]:
        def make(text: str) -> tuple[Path, str]:
            digest = hashlib.sha256(text.encode()).hexdigest()
            path = tmp_path / "kept" / digest
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            return path, digest

        return make

    @pytest.fixture
    def publish(self, store, content):
        """Publish a text under tags for the runs of a group; what the ledger would know is ``expected``."""

        def run(
            expected: Expected, text: str, first: int, last: int, tags: tuple[str, ...], *, group: int = 1,
            after: str = "next", key: str = "k", tries: int = 1, guard: Guard = NO_GUARD,
        ) -> StorePlan:  # fmt: skip
            wanted = []
            for tag in tags:
                _, digest = content(f"{text}: {tag}")
                ref = store.ref(tag, digest, "c.yaml")
                wanted.append(WantedPlacement(tag, first, last, ref, group, after, ref if after == "default" else None))
            for left in range(tries - 1, -1, -1):
                try:
                    for one in wanted:
                        store.put(one.tag, content(f"{text}: {one.tag}")[0], one.ref, "c.yaml")
                    break
                except AGAIN:
                    if not left:
                        raise
            plan = self._tried(lambda: store.plan(wanted, expected, guard), tries)
            if plan.conflicts:
                return plan
            self._tried(lambda: store.apply(plan, key), tries)
            for change in plan.tags:
                expected[change.tag] = applied(expected.get(change.tag, []), change)
            return plan

        return run

    @staticmethod
    def _tried(what: Callable[[], object], tries: int) -> object:
        for left in range(tries - 1, -1, -1):
            try:
                return what()
            except AGAIN:
                if not left:
                    raise
        raise AssertionError

    def has(self, store: WritableStore, expected: Expected) -> None:
        """The store has what the ledger says, and nothing else."""
        for tag, placed in expected.items():
            assert [Placement.found(one).key for one in store.current(tag)] == [one.key for one in placed]

    def test_what_it_can_is_said(self, store):
        can = store.capabilities()
        assert can.last_run == store.last_run > 10**12
        assert can.overlap in ("refuse", "cut", "hide")
        assert store.connection(store.place)
        assert store.place_key

    def test_a_file_that_is_put_is_seen_by_nobody_and_has_one_place(self, store, content, ready_tags):
        tag, _ = ready_tags()
        path, digest = content("a: 1")
        ref = store.ref(tag, digest, "c.yaml")
        assert ref == store.ref(tag, digest, "c.yaml")
        for _ in range(2):
            store.put(tag, path, ref, "c.yaml")
        assert store.current(tag) == []

    def test_set_after_set(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        store.ready(tags)
        publish(expected, "a", 100, 199, tags)
        self.has(store, expected)
        publish(expected, "b", 200, 299, tags, group=2)
        publish(expected, "c", 50, 79, tags, group=3)
        self.has(store, expected)
        found = store.look_up(tags[0], 150)
        assert found is not None
        assert found.first_run == 100
        assert store.look_up(tags[0], 250).first_run == 200
        assert store.look_up(tags[0], 49) is None
        beyond = store.look_up(tags[0], 300)
        assert (beyond is None) == store.capabilities().ends, "its end counts, whatever the store makes of it"

    def test_the_same_again_is_nothing(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        before = {tag: store.current(tag) for tag in tags}
        plan = publish(expected, "a", 100, 199, tags)
        assert all(one.is_empty for one in plan.tags)
        assert before == {tag: store.current(tag) for tag in tags}

    def test_a_plan_that_is_applied_again_does_nothing(self, store, content, ready_tags):
        (tag, _), expected = ready_tags(), {}
        path, digest = content("a: 1")
        wanted = WantedPlacement(tag, 100, 199, store.ref(tag, digest, "c.yaml"), 1)
        store.put(tag, path, wanted.ref, "c.yaml")
        plan = store.plan([wanted], {tag: []})
        first = store.apply(plan, "k")
        had = store.current(tag)
        again = store.apply(plan, "k")
        assert (first.key, first.tags) == (again.key, again.tags)
        assert store.current(tag) == had
        assert expected == {}

    def test_a_revision_takes_the_place_of_the_former_one(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        publish(expected, "b", 200, 299, tags, group=2)
        publish(expected, "a2", 100, 189, tags)
        self.has(store, expected)
        publish(expected, "a3", 90, 199, tags)
        self.has(store, expected)
        assert store.look_up(tags[0], 95).hash == expected[tags[0]][0].ref.hash

    def test_what_it_did_is_taken_back(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        former = {tag: list(placed) for tag, placed in expected.items()}
        plan = publish(expected, "b", 100, 199, tags)
        store.apply(StorePlan(tuple(undone(one) for one in plan.tags)), "back")
        self.has(store, former)

    def test_former_ones_hold_again_by_their_receipt(self, store, publish, content, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        former = {tag: placed[0].ref for tag, placed in expected.items()}
        plan = publish(expected, "b", 100, 199, tags)
        receipt = store.apply(plan, "k")
        store.replace(receipt, former)
        assert [store.look_up(tag, 150).hash for tag in tags] == [former[tag].hash for tag in tags]

    def test_another_groups_runs_are_a_conflict_and_nothing_is_done(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        plan = publish(expected, "b", 150, 250, tags, group=2)
        assert len(plan.conflicts) == 2
        assert all("for some of the runs [150, 250]" in said for said in plan.conflicts)
        self.has(store, expected)
        with pytest.raises(StoreInvalid):
            store.apply(plan, "k")

    def test_what_is_held_beyond_its_group_is_cut(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags, after="hold")
        assert store.look_up(tags[0], 10**9).first_run == 100
        publish(expected, "c", 300, 399, tags, group=3, after="hold")
        plan = publish(expected, "b", 200, 299, tags, group=2, after="hold")
        assert plan.cuts
        assert not plan.conflicts
        self.has(store, expected)
        assert [store.look_up(tags[0], run).first_run for run in (199, 200, 299, 300, 10**9)] == [
            100,
            200,
            200,
            300,
            300,
        ]

    def test_a_default_holds_behind_a_group_until_the_next_one(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags, after="default")
        assert [one.first_run for one in store.current(tags[0])] == [100, 200]
        publish(expected, "b", 200, 299, tags, group=2, after="default")
        assert [one.first_run for one in store.current(tags[0])] == [100, 200, 300]
        self.has(store, expected)

    @pytest.fixture
    def withdraw(self, store):
        """Take back what a group has under tags."""

        def run(
            expected: Expected, first: int, last: int, tags: tuple[str, ...], *, group: int = 1, after: str = "next",
            default: Ref | None = None, tries: int = 1, guard: Guard = NO_GUARD,
        ) -> StorePlan:  # fmt: skip
            ref = Ref("", "")
            taken = [WantedPlacement(tag, first, last, ref, group, after, default) for tag in tags]
            plan = self._tried(lambda: store.plan_withdrawal(taken, expected, guard), tries)
            if not plan.conflicts:
                self._tried(lambda: store.apply(plan, "w"), tries)
                for change in plan.tags:
                    expected[change.tag] = applied(expected[change.tag], change)
            return plan

        return run

    def test_what_is_withdrawn_is_gone_and_the_others_stay(self, store, publish, withdraw, ready_tags):
        tags, expected = ready_tags(), {}
        for group in (1, 2, 3):
            publish(expected, "abc"[group - 1], 100 * group, 100 * group + 99, tags, group=group)
        withdraw(expected, 200, 299, tags, group=2)
        self.has(store, expected)
        assert [one.first_run for one in store.current(tags[1])] == [100, 300]
        found = store.look_up(tags[0], 250)
        assert (found is None) == store.capabilities().ends, "without ends the one before goes on"
        plan = withdraw(expected, 200, 299, tags, group=2)
        assert all(one.is_empty for one in plan.tags)
        for group in (1, 3):
            withdraw(expected, 100 * group, 100 * group + 99, tags, group=group)
        assert [store.current(tag) for tag in tags] == [[], []]
        publish(expected, "b", 200, 299, tags, group=2)
        self.has(store, expected)

    def test_what_was_held_before_what_is_withdrawn_goes_on_again(self, store, publish, withdraw, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags, after="hold")
        before = {tag: store.current(tag) for tag in tags}
        publish(expected, "b", 200, 299, tags, group=2, after="hold")
        withdraw(expected, 200, 299, tags, group=2, after="hold")
        self.has(store, expected)
        assert {tag: store.current(tag) for tag in tags} == before

    def test_what_was_open_before_we_came_goes_on_again(self, store, put, publish, withdraw, ready_tags):
        tag, _ = ready_tags()
        put(tag, [(0, None, "old")])
        before = store.current(tag)
        expected = {tag: [Placement.found(one) for one in before]}
        publish(expected, "a", 100, 199, (tag,))
        withdraw(expected, 100, 199, (tag,))
        assert store.current(tag) == before

    def test_a_default_holds_again_behind_the_group_before(self, store, publish, withdraw, ready_tags):
        (tag, _), expected = ready_tags(), {}
        publish(expected, "a", 100, 199, (tag,), after="default")
        default = expected[tag][-1].ref
        before = store.current(tag)
        publish(expected, "b", 200, 299, (tag,), group=2, after="default")
        withdraw(expected, 200, 299, (tag,), group=2, after="default", default=default)
        self.has(store, expected)
        assert store.current(tag) == before

    def test_what_was_processed_is_not_withdrawn(self, store, publish, withdraw, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        for guard in (Guard(150), Guard(250, move=True)):
            plan = withdraw(expected, 100, 199, tags, guard=guard)
            assert "were processed already" in plan.conflicts[0]
        plan = withdraw(expected, 100, 199, tags, guard=Guard(150, move=True))
        assert plan.moved == 150
        self.has(store, expected)
        assert store.look_up(tags[0], 149) is not None
        assert (store.look_up(tags[0], 150) is None) == store.capabilities().ends

    def test_any_call_of_a_withdrawal_may_fail(self, store, publish, withdraw, ready_tags, faults):
        for what, number in (("before", 2), ("after", 3), ("before", 4), ("after", 5)):
            tags, expected = ready_tags(), {}
            publish(expected, "a", 100, 199, tags)
            publish(expected, "b", 200, 299, tags, group=2)
            faults.arm(number, what, os.getpid())
            withdraw(expected, 100, 199, tags, tries=4)
            faults.disarm()
            self.has(store, expected)

    def test_what_somebody_has_changed_is_told_and_refused(self, store, publish, put, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        put(tags[0], [(100, 149, "by-hand")])
        plan = publish(expected, "b", 200, 299, tags, group=2)
        assert any("was changed there" in said and "by-hand" in said for said in plan.conflicts), plan.conflicts

    def test_what_was_processed_is_kept_or_the_start_is_moved(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        refused = publish(expected, "b", 100, 199, tags, guard=Guard(150))
        assert "runs below 150 were processed already" in refused.conflicts[0]
        moved = publish(expected, "b", 100, 199, tags, guard=Guard(150, move=True))
        assert moved.moved == 150
        self.has(store, expected)
        hashes = [store.look_up(tags[0], run).hash for run in (100, 149, 150, 199)]
        assert hashes[0] == hashes[1] != hashes[2] == hashes[3]

    def test_a_run_beyond_its_range_is_a_conflict(self, store, publish, ready_tags):
        plan = publish({}, "a", 5, store.last_run + 1, ready_tags())
        assert "beyond the last one" in plan.conflicts[0]

    some: int | None = None
    """How many calls are tried in a short test, where each costs much; none: all."""

    def _numbers(self, publish, ready_tags, faults: Faults, *, every: bool) -> list[int]:
        """The calls of a publication that something is to befall."""
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        begun = faults.calls()
        publish(expected, "b", 100, 149, tags)
        count = faults.calls() - begun
        assert count > 3
        if every or self.some is None:
            return list(range(1, count + 1))
        return sorted({1 + round(number * (count - 1) / (self.some - 1)) for number in range(self.some)})

    @pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "every"])
    @pytest.mark.parametrize("what", ["before", "after"])
    def test_any_call_may_fail(self, store, publish, ready_tags, faults, what, every):
        """Whatever it says, in the end the store has what was wanted."""
        for number in self._numbers(publish, ready_tags, faults, every=every):
            tags, expected = ready_tags(), {}
            publish(expected, "a", 100, 199, tags)
            faults.arm(number, what, os.getpid())
            publish(expected, "b", 100, 149, tags, tries=4)
            faults.disarm()
            self.has(store, expected)

    @pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "every"])
    @pytest.mark.parametrize("what", ["kill_before", "kill_after"])
    def test_whoever_calls_may_die(self, store, content, publish, ready_tags, faults, what, every):
        for number in self._numbers(publish, ready_tags, faults, every=every):
            tags, expected = ready_tags(), {}
            publish(expected, "a", 100, 199, tags)
            child = os.fork()
            if not child:
                signal.alarm(60)
                try:
                    faults.arm(number, what, os.getpid())
                    publish(expected, "b", 100, 149, tags)
                finally:
                    os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
            faults.disarm()
            self._finished(store, content, expected, tags)

    def _finished(self, store, content, expected: Expected, tags: tuple[str, ...]) -> None:
        """What was begun is finished by whoever comes next, from the plan that the ledger has."""
        former = {tag: list(placed) for tag, placed in expected.items()}
        made = [
            Placement(100, 149, store.ref(tag, hashlib.sha256(f"b: {tag}".encode()).hexdigest(), "c.yaml"), 149, 1)
            for tag in tags
        ]
        ends = store.capabilities().ends
        if not ends:
            made = [Placement(100, None, one.ref, 149, 1) for one in made]
        plan = StorePlan(tuple(TagPlan(tag, tuple(former[tag]), (one,)) for tag, one in zip(tags, made, strict=True)))
        for one, tag in zip(made, tags, strict=True):
            store.put(tag, content(f"b: {tag}")[0], one.ref, "c.yaml")
        store.apply(plan, "k")
        self.has(store, {tag: [one] for tag, one in zip(tags, made, strict=True)})


class KeptContentsConformance:
    """What besides holds of a store whose contents lie in files that somebody may change."""

    @pytest.fixture
    def spoil(self) -> Callable[[WritableStore, PlacedPayload, str | None], None]:
        """Put another text in the place of a content, by hand; ``None``: take it away."""
        raise NotImplementedError

    def test_a_content_that_somebody_has_changed_is_told_and_refused(self, store, publish, spoil, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        publish(expected, "b", 200, 299, tags, group=2)
        assert [store.altered(tag, store.current(tag)) for tag in tags] == [[], []]
        one, other = store.current(tags[0])
        spoil(store, other, "by hand")
        for quickly in (False, True):
            (said,) = store.altered(tags[0], store.current(tags[0]), quickly=quickly)
            assert f"has the hash {hashlib.sha256(b'by hand').hexdigest()[:12]} now" in said
            assert other.hash in said
        assert store.altered(tags[1], store.current(tags[1])) == []
        plan = publish(expected, "c", 300, 399, tags, group=3)
        assert any("was changed there" in said and other.hash in said for said in plan.conflicts), plan.conflicts
        spoil(store, one, None)
        found = store.altered(tags[0], store.current(tags[0]), quickly=True)
        assert [said for said in found if one.hash in said], found
