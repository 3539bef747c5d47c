"""Errors for people end a task without a traceback of ours in its log; unforeseen ones with theirs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.errors import CalibError, LedgerError, SpecError
from airflow_calib_provider.hooks.told import ToldFailure, ToldTrouble, told
from airflow_calib_provider.jobsets import tails
from airflow_calib_provider.jobsets.tails import failed_jobs, tail
from airflow_calib_provider.ledger import generations
from airflow_calib_provider.operators.inject import InjectOperator
from airflow_calib_provider.operators.jobs import JobSetOperator, JobsOperator
from airflow_calib_provider.operators.publish import PublishOperator
from airflow_calib_provider.sensors.ledger_sensor import LedgerSensor
from tests.jobsets.conftest import database, make_world  # noqa: F401 - fixtures
from tests.jobsets.world import World


class Ends(BaseOperator):
    def __init__(self, *, error: BaseException, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._error = error

    @told
    def end(self) -> None:
        raise self._error


@pytest.fixture
def logged() -> Iterator[list[Any]]:
    """What Airflow would log, with structlog set up as a list of processors."""
    before = structlog.get_config()
    seen: list[Any] = []

    def keep(_logger: Any, _name: str, event: Any) -> Any:
        seen.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.stdlib.add_log_level, keep])
    yield seen
    structlog.configure(**before)


def end(error: BaseException) -> BaseException:
    """As Airflow's task runner does it."""
    try:
        Ends(error=error, task_id="t").end()
    except Exception as caught:  # noqa: BLE001 - as there
        structlog.get_logger("task").exception("Task failed with exception")
        return caught
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (AirflowFailException("1 of 2 jobs failed\nsecond"), ToldFailure, "Task failed: 1 of 2 jobs failed"),
        (LedgerError("it is locked", "try again"), ToldTrouble, "Task failed: it is locked; try again"),
        (SpecError("no such key"), ToldTrouble, "Task failed: <text>:0:0: no such key"),
        (CalibError("a\x1b[31mb"), ToldTrouble, r"Task failed: a\x1b[31mb"),
        (CalibError(""), ToldTrouble, "Task failed: "),
    ],
)
def test_errors_for_people_have_no_traceback(
    logged: list[Any], error: Exception, kind: type[Exception], said: str
) -> None:
    caught = end(error)
    assert type(caught) is kind
    assert caught.__cause__ is None
    assert caught.__suppress_context__ or caught.__context__ is None
    assert [(event["event"], "exc_info" in event) for event in logged if "event" in event][-1] == (said, False)


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), KeyError("x")])
def test_unforeseen_errors_keep_theirs(logged: list[Any], error: Exception) -> None:
    end(CalibError("told before"))
    assert end(error) is error
    assert logged[-1]["event"] == "Task failed with exception"
    assert logged[-1]["exc_info"]


def test_a_skip_is_a_skip() -> None:
    with pytest.raises(AirflowSkipException):
        Ends(error=AirflowSkipException("dropped"), task_id="t").end()


def _plain(kind: Any) -> Any:
    """The method, without what Airflow puts around it."""
    method = kind.__dict__["execute"]
    while "told" not in method.__code__.co_qualname and hasattr(method, "__wrapped__"):
        method = method.__wrapped__
    assert "told" in method.__code__.co_qualname
    return method


@pytest.mark.parametrize("kind", [JobSetOperator, PublishOperator, InjectOperator, LedgerSensor])
def test_who_tells(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    module = __import__(kind.__module__, fromlist=["task_ledger"])
    monkeypatch.setattr(module, "task_ledger", lambda: (_ for _ in ()).throw(LedgerError("not there")))
    made = JobsOperator if kind is JobSetOperator else kind
    operator = made.__new__(made)
    with pytest.raises(ToldTrouble, match="not there"):
        _plain(kind)(operator, {"params": {}})


def test_the_output_of_failed_jobs(make_world: Callable[..., World]) -> None:  # noqa: F811
    world = make_world(
        'test $CALIB_JOB = 0 || { seq 1 3000 >&2; printf "bad \\033[31mred\\n" >&2; exit 3; }; test $CALIB_JOB != 2', 6
    )
    generation = world.begin().generation_id
    assert world.finish(generation).state == "failed"
    with world.ledger.read() as connection:
        row = generations.by_id(connection, generation)
    lines = failed_jobs(world.ledger, row)
    assert lines[0].startswith("job 1, attempt 1, on ")
    assert lines[0].endswith("exit code 3")
    assert lines[1].endswith("/stderr ends with:")
    assert Path(lines[1].split()[0]).is_file()
    assert lines[2].startswith("  | ... ")
    assert "  | bad \\x1b[31mred" in lines
    assert "  all of it: calib jobs logs run-r1 skim 1 --campaign prompt --workflow ecal --stderr" in lines
    assert lines[-1] == "... and 2 more jobs failed"
    assert sum(line.startswith("job ") for line in lines) == tails.MOST_JOBS
    assert len(lines) < 3 * (tails.TAIL_LINES + 4)
    assert all(line == escaped(line) for line in lines)


def test_tails_of_anything(tmp_path: Path) -> None:
    file = tmp_path / "stderr"
    assert tail(file) is None
    file.write_bytes(b"")
    assert tail(file) == []
    file.write_bytes(b"\xff\x00\r\nx\n\n")
    assert tail(file) == ["\ufffd\\x00", "x"]
    file.write_bytes(b"y" * 1_000_000)
    (line,) = tail(file) or [""]
    assert len(line) < 5_000
    file.unlink()
    file.symlink_to("/etc/passwd")
    assert tail(file) is None
    file.unlink()
    os.mkfifo(file)
    assert tail(file) is None


def test_a_job_without_output(make_world: Callable[..., World]) -> None:  # noqa: F811
    world = make_world("echo only here; exit 1")
    generation = world.begin().generation_id
    world.finish(generation)
    with world.ledger.read() as connection:
        row = generations.by_id(connection, generation)
    assert "  | only here" in failed_jobs(world.ledger, row)
    assert "--stdout" in failed_jobs(world.ledger, row)[-1]
