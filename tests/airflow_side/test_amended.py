"""Airflow is asked to run the editions of amended groups until they have begun, and not for ever (rule 51).

Airflow stands aside here: what it is asked for is kept, and it answers as it is told to. A real one is asked in
``tests/integration/test_amending.py``.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from sqlalchemy import select, update
from structlog.testing import capture_logs

from airflow_calib_provider.api import amend_group
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.hooks import dag_runs
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.ledger import editions, tables
from airflow_calib_provider.ledger.groups import TaskChange, change_tasks
from airflow_calib_provider.operators import inject
from tests.cli.world import NOW, World, late_fill
from tests.ledger.test_explain import ask, world  # noqa: F401 - world is a fixture


class Airflow:
    """What it was asked to clear, and why it refuses."""

    def __init__(self, at: World) -> None:
        self.world, self.asked, self.error = at, 0, ""
        self.logged: list[Any] = []

    def clear(self, _dag_id: str, run_id: str) -> str | None:
        assert run_id == "prompt__fill-r2"
        self.asked += 1
        return self.error or None

    def again(self, times: int = 1) -> int:
        """What calib_inject does, each time when the wait since the last one is over.

        :returns: how often Airflow was asked.
        """
        before, past = self.asked, datetime.now(UTC) - timedelta(hours=2)
        for _ in range(times):
            with self.world.ledger.write() as connection:
                late = tables.group_edition.c.not_before.is_not(None)
                connection.execute(update(tables.group_edition).where(late).values(not_before=past))
            self.once()
        return self.asked - before

    def once(self) -> None:
        with capture_logs() as logged:
            dag_runs.clear_amended(self.world.ledger, structlog.get_logger())
        self.logged += logged

    def set(self, task: str, state: str, reason: dict[str, object] | None = None) -> None:
        change = TaskChange(self.world.group("fill-r2").id, task, state, reason)
        with self.world.ledger.write() as connection:
            change_tasks(connection, [change], datetime.now(UTC))

    def state(self) -> str:
        with self.world.ledger.read() as connection:
            return str(connection.execute(select(tables.group_edition.c.state)).scalar_one())

    def causes(self) -> dict[tuple[str | None, str], Cause]:
        return {(cause.task, cause.code): cause for cause in ask(self.world, "fill-r2").causes}


@pytest.fixture
def airflow(world: World, monkeypatch: pytest.MonkeyPatch) -> Airflow:  # noqa: F811
    """Fill 1 is amended: scale and deliver, which needs it, were done, and are to run again."""
    late_fill(world)
    world.open_dag_runs()
    world.do("run-r2", "skim")
    world.do("fill-r2", "scale")
    world.publish("fill-r2")
    amend_group(world.ledger, "fill-r2", add=[3], reason="late", person="ada")
    made = Airflow(world)
    monkeypatch.setattr(dag_runs, "_clear", made.clear)
    return made


def test_it_is_asked_ever_more_rarely_and_in_the_end_no_more(airflow: Airflow) -> None:
    airflow.once()
    airflow.once()
    assert airflow.asked == 1, "not twice at once"
    assert airflow.causes()["scale", "stale"].release == "Airflow, which is asked to run it again by calib_inject"
    assert airflow.again(50) == editions.MOST_ASKED - 1
    assert airflow.state() == "stuck"
    (said,) = [line for line in airflow.logged if line["log_level"] == "warning"]
    assert (said["group"], said["run_id"], said["asked"]) == ("fill-r2", "prompt__fill-r2", 8)
    assert "calib retry fill-r2" in said["what_to_do"]
    found = airflow.causes()["scale", "stale_stuck"]
    assert "Airflow was asked 8 times, and it has not begun" in found.text
    assert found.release.startswith("`calib retry fill-r2 --workflow demo`, when")
    # A person has mended it.
    airflow.set("scale", "processing")
    assert (airflow.again(), airflow.state()) == (0, "settled")


def test_another_amendment_of_what_is_stuck_is_asked_for_anew(airflow: Airflow) -> None:
    airflow.again(50)
    amend_group(airflow.world.ledger, "fill-r2", remove=[3], reason="noise", person="ada")
    assert airflow.again() == 1
    with airflow.world.ledger.read() as connection:
        assert [(row.n, row.asked) for row in editions.to_clear(connection)] == [(3, 1)]


def test_what_comes_later_and_was_begun_by_hand_settles_nothing(airflow: Airflow) -> None:
    """As by `calib retry --task deliver`: the first task is as it was."""
    airflow.set("deliver", "failed", {"code": "error", "message": "scale is not done"})
    assert (airflow.again(), airflow.state()) == (1, "to_clear")
    airflow.set("scale", "waiting", {"code": "forming"})
    assert (airflow.again(), airflow.state()) == (0, "settled")
    airflow.set("scale", "failed", {"code": "error", "message": "it was in vain"})
    assert airflow.again() == 0


def test_what_runs_is_not_cleared(airflow: Airflow) -> None:
    airflow.set("deliver", "processing")
    assert (airflow.again(5), airflow.state()) == (0, "to_clear")


def test_it_refuses(airflow: Airflow) -> None:
    airflow.error = "404: there is no such DAG"
    assert airflow.again(2) == 2
    found = airflow.causes()["scale", "stale_refused"]
    assert "and Airflow, asked 2 times, refuses: 404: there is no such DAG" in found.text
    assert found.release
    airflow.again(50)
    assert "(it refuses: 404: there is no such DAG)" in airflow.causes()["scale", "stale_stuck"].text


def test_a_refusal_fails_no_injection(airflow: Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow.error = "404: there is no such DAG"
    monkeypatch.setattr(inject, "task_ledger", lambda: airflow.world.ledger)
    monkeypatch.setattr(inject, "open_dag_runs", lambda *_, **options: 0)
    operator = inject.InjectOperator(task_id="inject", specs=str(airflow.world.specs))
    found = operator.execute({"params": {}, "ti": object()})  # type: ignore[typeddict-item]
    assert (found["opened"], airflow.asked) == (0, 1)


def edited(at: World) -> None:
    """The folder is injected as it is now; `third`, which waits for the tag, has to go."""
    (at.specs / "third.yaml").unlink()
    _, errors = inject_folder(at.ledger, at.specs, now=NOW)
    assert errors == []


def test_nobody_waits_for_what_the_spec_has_no_more(airflow: Airflow) -> None:
    file = airflow.world.specs / "demo.yaml"
    file.write_text(file.read_text().partition("  scale:")[0])
    edited(airflow.world)
    assert (airflow.again(), airflow.state()) == (0, "settled")
    found = airflow.causes()
    assert {task for task, code in found if code == "stale_gone"} == {"scale", "deliver"}
    assert "the spec has no such task any more" in found["scale", "stale_gone"].text


def test_what_followed_a_task_that_is_gone_is_the_first_one(airflow: Airflow) -> None:
    file = airflow.world.specs / "demo.yaml"
    text = file.read_text().replace("  scale:\n", "  other:\n").replace("scale", "other")
    file.write_text(text)
    edited(airflow.world)
    assert airflow.again() == 1
    airflow.set("deliver", "waiting", {"code": "forming"})
    assert (airflow.again(), airflow.state()) == (0, "settled")
