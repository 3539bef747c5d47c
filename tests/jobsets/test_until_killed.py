"""SIGKILL between a value's recording and its run's assignment: whoever comes next groups as if nothing had been."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from airflow_calib_provider.backends import get_backend
from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.ledger import schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from tests import processes
from tests.docs.stand_in import StandIn

FOUND = {1: 60, 2: 50, 3: 70, 4: 40, 5: 10}
POINTS = (
    "jobs.before_apply",  # the job has reported, and nothing is recorded
    "jobs.after_apply",
    "generation.before_done",  # recorded, and not counted: the task is not done yet
    "generation.after_done",  # counted, and nobody has assigned the run
    "inject.before_commit",
    "inject.after_commit",
)
SOURCES = "apiVersion: calib/v1\nsources: {daq: {csv: {path: ../runs.csv}, fields: {pairs: int}}}\n"
FLOW = """\
apiVersion: calib/v1
workflow: muon
runs: {source: daq, since: 1}
tasks:
  select:
    group_by: run
    jobs: {command: [sh, -c, 'echo "{\\"type\\": \\"value\\", \\"name\\": \\"pairs\\", \\"value\\": $0}" >> "$CALIB_REPORT"', "{{ run.pairs }}"]}
  scale:
    group_by: {until: {task: select, when: sum.pairs >= 100 && count >= 2}}
    needs: [select]
    jobs: {command: ["true"]}
"""  # noqa: E501


def list_runs(specs: str) -> None:
    """The first injection: runs are groups, and no value is known."""
    StandIn(Path(specs)).take()


def go_on(specs: str) -> None:
    """What watchers of job sets and injections do, until nothing is left to do."""
    stand, generation = StandIn(Path(specs)), tables.generation
    while True:
        with stand.ledger.read() as connection:
            query = select(generation.c.id).where(generation.c.state == "running")
            running = list(connection.execute(query).scalars())
        if not running:
            break
        advance(stand.ledger, get_backend, running, datetime.now(UTC), base_delay=0.0)
    for _ in range(2):
        stand.inject()


def test_dying_between_what_was_found_and_its_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    specs = tmp_path / "specs"
    specs.mkdir()
    for name, text in (("sources", SOURCES), ("muon", FLOW)):
        (specs / f"{name}.yaml").write_text(text)
    (tmp_path / "runs.csv").write_text("\n".join(["number,pairs", *(f"{run},{n}" for run, n in FOUND.items())]) + "\n")
    ledger = Ledger()
    schema.upgrade(ledger)
    assert processes.run(list_runs, str(specs)).returncode == 0
    crash = {"CALIB_CRASH_AT": ",".join(POINTS), "CALIB_CRASH_FOLDER": str(tmp_path)}
    member, value = tables.membership, tables.value
    seen: dict[str, tuple[int, int]] = {}
    for _ in POINTS:
        dead = processes.run(go_on, str(specs), **crash)
        assert dead.returncode == -signal.SIGKILL, dead.stderr
        with ledger.read() as connection:
            n_grouped = len(connection.execute(select(member).where(member.c.grouping == "until")).all())
            n_known = len(connection.execute(select(value)).all())
        (here,) = [point for point in POINTS if (tmp_path / point).exists() and point not in seen]
        seen[here] = (n_known, n_grouped)
    assert list(seen) == list(POINTS)
    assert [seen[f"inject.{when}_commit"] for when in ("before", "after")] == [(5, 0), (5, 5)]
    assert seen["jobs.before_apply"] == (0, 0)
    assert {grouped for point, (_, grouped) in seen.items() if not point.startswith("inject")} == {0}
    last = processes.run(go_on, str(specs), **crash)
    assert last.returncode == 0, last.stderr
    with ledger.read() as connection:
        group = tables.run_group
        groups = connection.execute(select(group).where(group.c.grouping == "until").order_by(group.c.first_run)).all()
        query = select(member).where(member.c.grouping == "until").order_by(member.c.run)
        members = {row.run: row for row in connection.execute(query)}
        assert len(connection.execute(select(value)).all()) == len(FOUND)
    assert [(row.name, row.state, (row.close_reason or {}).get("values")) for row in groups] == [
        ("until-r1", "closed", {"sum.pairs": 110.0, "count": 2}),
        ("until-r3", "closed", {"sum.pairs": 110.0, "count": 2}),
        ("until-r5", "forming", None),
    ]
    frozen = {run: row.record["reported values"]["select"]["pairs"][0] for run, row in members.items()}
    assert frozen == FOUND
    ledger.close()
