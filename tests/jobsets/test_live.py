"""What is told of jobs while they run, and of those that are held."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.jobsets import progress
from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.ledger import live_reasons, tables
from airflow_calib_provider.ledger.explain import Scope, explain_group
from tests.jobsets.scripted import HELD, RUNNING, SUBMITTED, Story, T, job_of


def test_progress_of_running_jobs(tell: Callable[..., Story], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_REPORT_INTERVAL", "0")
    story = tell(3)
    for job in range(2):
        story.backend.tell(job, RUNNING)
    story.step(1)
    folder = story.world.rows(tables.generation)[0].folder
    report = attempt_folder(folder, 0, 1) / "report.jsonl"
    report.write_text('{"type": "progress", "value": 0.2}\n{"type": "progress", "value": 0.4}\n{"type": "prog')
    (attempt_folder(folder, 2, 1) / "report.jsonl").write_text('{"type": "progress", "value": 1}\n')
    story.step(2)
    assert [row.progress for row in story.world.rows(tables.job)] == [0.4, None, None]
    monkeypatch.setenv("CALIB_REPORT_INTERVAL", "1000")
    report.write_text('{"type": "progress", "value": 0.9}\n')
    story.step(3)
    assert job_of(story).progress == 0.4
    monkeypatch.setattr(progress, "AT_ONCE", 1)
    monkeypatch.setenv("CALIB_REPORT_INTERVAL", "0")
    for _ in range(2):
        story.step(4)
    assert job_of(story).progress == 0.9


def test_values_of_running_jobs_are_told_while_they_run(
    tell: Callable[..., Story], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_REPORT_INTERVAL", "0")
    story = tell(2)
    story.backend.tell(0, RUNNING)
    story.step(1)
    folder = story.world.rows(tables.generation)[0].folder
    report = attempt_folder(folder, 0, 1) / "report.jsonl"
    line = '{"type": "value", "name": "shift", "value": %g, "error": 0.1}\n'
    report.write_text(line % 1.5 + '{"type": "value", "name": "", "value": 1}\n{"type": "progress", "value": 0.4}\n')
    story.step(2)
    story.step(3)
    report.write_text(line % 2.5)
    story.step(4)
    told = [row for row in story.world.rows(tables.event) if row.entity == "value"]
    assert [row.data for row in told] == [
        {"progress": 0.4, "values": {"shift": [1.5, 0.1]}},
        {"values": {"shift": [2.5, 0.1]}},
    ]
    assert {(row.task, row.job_index, row.attempt, row.from_state, row.to_state) for row in told} == {
        ("skim", 0, 1, None, None)
    }
    story.backend.tell(0, AttemptState.SUCCEEDED)
    report.write_text(line % 3.5)
    story.step(5)
    assert len([row for row in story.world.rows(tables.event) if row.entity == "value"]) == 2
    ended = [row for row in story.world.rows(tables.event) if (row.entity, row.to_state) == ("job", "succeeded")]
    assert [row.data["values"] for row in ended] == [{"shift": [3.5, 0.1]}]


def test_explain_says_what_holds_the_jobs(tell: Callable[..., Story]) -> None:
    story = tell(5)
    for job in (0, 1):
        story.backend.tell(job, SUBMITTED, reason="idle: no machine matches")
    story.backend.tell(2, HELD, reason="no space left", failure=FailureClass.TRANSFER)
    story.backend.tell(3, RUNNING, reason="suspended")
    story.backend.trouble = "the log is not readable"
    assert story.step(1).said == "2 submitted: idle: no machine matches"
    with story.world.ledger.read() as connection:
        found = explain_group(connection, Scope("prompt", T), "run-r1").causes
    assert [cause.text for cause in found if cause.code in ("backend_trouble", "live_jobs")] == [
        "the backend local is in trouble: the log is not readable",
        "2 jobs submitted: idle: no machine matches",
        "1 job held: no space left; released or tried anew at 2026-05-01 00:05 UTC",
        "1 job running: suspended",
    ]
    assert [cause.about for cause in found if not cause.release] == []
    (trouble,) = [cause for cause in found if cause.code == "backend_trouble"]
    assert trouble.since == T + timedelta(seconds=1)


def test_what_is_said_of_many_jobs_is_one_line(tell: Callable[..., Story]) -> None:
    """The path of a job's own file makes no reason of its own; what is not told is counted."""
    story = tell(30)
    for job in range(20):
        reason = f"held (12): /spool/job-{job:05d}-a1/condor.err: Permission denied"
        story.backend.tell(job, HELD, reason=reason, failure=FailureClass.TRANSFER)
    for job in range(20, 28):
        story.backend.tell(job, SUBMITTED, reason=f"idle: {'x' * job}")
    standing = story.step(1)
    assert standing.said == "20 held: held (12): /spool/job-00000-a1/condor.err: Permission denied"
    with story.world.ledger.read() as connection:
        found = explain_group(connection, Scope("prompt", T), "run-r1").causes
    live = [cause.text for cause in found if cause.code == "live_jobs"]
    assert len(live) == 5
    assert live[0].startswith("20 jobs held: held (12): /spool/job-00000-a1/condor.err: Permission denied")
    assert [cause.text for cause in found if cause.code == "more_live_jobs"] == ["4 more jobs, for 4 other reasons"]


def test_of_too_many_reasons_those_of_most_jobs_are_read(
    tell: Callable[..., Story], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_reasons, "MOST", 2)
    story = tell(6)
    for job, reason in enumerate(("a", "b", "c", "z", "z", "z")):
        story.backend.tell(job, SUBMITTED, reason=reason)
    assert story.step(1).said == "3 submitted: z"
