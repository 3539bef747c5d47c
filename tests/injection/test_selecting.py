"""Conditions at injection: evaluated once for each run, and never while others wait for the ledger."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest
from sqlalchemy import func, select

from airflow_calib_provider.injection.inject import InjectionReport, inject
from airflow_calib_provider.ledger import campaigns, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.conditions import Condition
from airflow_calib_provider.spec.models import FieldType
from tests.ledger.making import SOURCE, T0, fill, task, total, workflow, write_runs

LATER = T0 + timedelta(days=100)
GROUPINGS = (task("skim"), task("scale", fill(50)), task("check", total(100)))


def run_injection(ledger: Ledger, folder: Path, where: str) -> InjectionReport:
    flow = workflow("ecal", *GROUPINGS, where=where)
    return inject(ledger, {"ecal": flow}, {"daq": SOURCE}, folder, now=LATER)


def can_write(ledger: Ledger) -> bool:
    """Whether somebody else could write at this moment."""

    def write() -> None:
        with ledger.write():
            pass

    other = Thread(target=write, daemon=True)
    other.start()
    other.join(timeout=5)
    return not other.is_alive()


@pytest.fixture
def asked(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, bool]]:
    """The runs that conditions were evaluated for, each with whether others could write meanwhile."""
    seen: list[tuple[object, bool]] = []
    real = Condition.evaluate

    def evaluate(self: Condition, fields: Mapping[str, object]) -> bool:
        seen.append((fields["number"], can_write(ledger)))
        return real(self, fields)

    monkeypatch.setattr(Condition, "evaluate", evaluate)
    return seen


def test_others_can_write_while_conditions_are_evaluated(
    ledger: Ledger, tmp_path: Path, asked: list[tuple[object, bool]]
) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in (1, 2, 3)])
    assert run_injection(ledger, tmp_path, "run.number > 1").not_selected == 3
    assert asked == [(1, True), (2, True), (3, True)]


def test_each_run_is_asked_about_once(ledger: Ledger, tmp_path: Path, asked: list[tuple[object, bool]]) -> None:
    with ledger.write() as connection:
        campaigns.create(connection, "again", kind="streamed")
    write_runs(tmp_path / "runs.csv", [{"number": 1}, {"number": 2, "fill": None}])
    report = run_injection(ledger, tmp_path, "run.fill >= 0")
    assert (report.assigned, report.refused) == (6, 6)
    assert [number for number, _ in asked] == [1, 2]
    assert run_injection(ledger, tmp_path, "run.fill >= 0").assigned == 0
    assert len(asked) == 2


def test_runs_before_the_workflow_are_not_asked_about(
    ledger: Ledger, tmp_path: Path, asked: list[tuple[object, bool]]
) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in (1, 2)])
    flow = workflow("ecal", *GROUPINGS, where="run.number > 0", since=2)
    inject(ledger, {"ecal": flow}, {"daq": SOURCE}, tmp_path, now=LATER)
    assert [number for number, _ in asked] == [2]


def test_times_of_a_source_are_times_at_injection(ledger: Ledger, tmp_path: Path) -> None:
    fields = {name: SOURCE.fields[name] for name in ("number", "start", "end")} | {"t": FieldType.TIME}
    source = SOURCE.model_copy(update={"fields": fields})
    lines = [f"{number},2026-01-02,2026-01-02T01:00:00Z,{t}" for number, t in ((1, "2026-01-02"), (2, "2024-01-01"))]
    (tmp_path / "runs.csv").write_text("\n".join(["number,start,end,t", *lines]) + "\n")
    where = "run.t > timestamp('2025-01-01T00:00:00Z') && run.t == run.start"
    flow = workflow("ecal", task("skim"), where=where)
    report = inject(ledger, {"ecal": flow}, {"daq": source}, tmp_path, now=LATER)
    assert (report.assigned, report.not_selected, report.refused, report.errors) == (1, 1, 0, [])


def test_a_condition_that_no_longer_fits_its_source_is_named(ledger: Ledger, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": 1}])
    (error,) = run_injection(ledger, tmp_path, "run.fill == 'a'").errors
    assert "workflow ecal: the condition \"run.fill == 'a'\" puts together what does not fit" in error


def test_a_list_of_610_runs_for_a_thousand(ledger: Ledger, tmp_path: Path) -> None:
    write_runs(tmp_path / "runs.csv", [{"number": number} for number in range(355_000, 356_000)])
    where = f"run.number in [{', '.join(str(355_000 + 2 * number) for number in range(610))}]"
    spent: list[float] = []
    real = Condition.evaluate

    def evaluate(self: Condition, fields: Mapping[str, object]) -> bool:
        begun = time.process_time()
        result = real(self, fields)
        spent.append(time.process_time() - begun)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Condition, "evaluate", evaluate)
        report = run_injection(ledger, tmp_path, where)
    assert (report.assigned, report.not_selected) == (1500, 1500)
    assert len(spent) == 1000
    assert sum(spent) < 1
    with ledger.read() as connection:
        assert connection.execute(select(func.count()).select_from(tables.membership)).scalar_one() == 3000
