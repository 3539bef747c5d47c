"""What a view costs in statements: as many for a few runs as for many."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.page import app_of, ask, fill, statements, views
from tests.postgres.places import migrated


def counts(folder: Path, runs: int, tasks: int) -> dict[str, tuple[int, int]]:
    """View → statements, and bytes."""
    folder.mkdir()
    ledger = migrated(f"sqlite:///{folder}/ledger.db")
    fill(ledger, folder, runs, tasks)
    app = app_of(ledger)
    found = {}
    for name, address in views(runs).items():
        with statements(ledger) as seen:
            size = ask(app, address)
        found[name.replace(str(runs), "n")] = len(seen), size
    ledger.close()
    return found


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple[int, int]]]:
    folder = tmp_path_factory.mktemp("counted")
    return [counts(folder / "few", 21, 2), counts(folder / "many", 84, 6)]


def test_a_view_costs_as_many_statements_whatever_it_shows(counted: list[dict[str, tuple[int, int]]]) -> None:
    few, many = counted
    assert (
        set(few)
        == set(many)
        == {"n runs", "n runs that have failed", "50 runs", "a group", "campaigns", "needs a person"}
    )
    for name, (n, _) in few.items():
        # Of what is listed in part all is counted, by one statement for each kind.
        assert n <= many[name][0] <= n + (2 if name == "needs a person" else 0), name
        assert n < 40, name


def test_the_larger_one_really_shows_more(counted: list[dict[str, tuple[int, int]]]) -> None:
    few, many = counted
    assert all(many[name][1] > few[name][1] for name in few)
