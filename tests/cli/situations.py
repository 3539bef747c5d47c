"""Situations that ``calib explain`` has an advice for, and what has to come of it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection

from airflow_calib_provider.api import amend_group
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.errors import NotOpen, RenderError
from airflow_calib_provider.injection.inject import inject_folder
from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.jobsets.folders import attempt_folder
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import editions, generations
from tests.cli.conftest import Calib
from tests.cli.test_airflow import CLEAR, RUN, FakeAirflow, be_filled, be_opened, cleared, down, in_fill, task
from tests.cli.world import DEMO, NOW, OTHER, World, late_fill, row

Cause = dict[str, Any]


@dataclass
class Place:
    """An installation with its Airflow, and what the commands of an advice said."""

    world: World
    airflow: FakeAirflow
    calib: Calib
    fill_in: dict[str, str] = field(default_factory=lambda: {"NAME": "anew"})
    fails: set[str] = field(default_factory=set)
    said: list[tuple[str, str]] = field(default_factory=list)

    def causes(self, ask: tuple[str, ...]) -> list[Cause]:
        return list(self.calib.json("explain", *ask)["causes"])

    def follow(self, release: str) -> list[str]:
        """Give each command of an advice; what only a person knows is filled in."""
        commands = re.findall("`([^`]+)`", release)
        for command in commands:
            words = [self.fill_in.get(word, word) for word in shlex.split(command)]
            if words[0] == "airflow":
                self.said.append((command, ""))
                continue
            assert words[0] == "calib"
            result = self.calib(*words[1:])
            assert (result.exit_code == 0) is (" ".join(words[1:3]) not in self.fails), result.output
            self.said.append((command, result.stdout))
        return commands

    def state(self, name: str, task: str) -> str:
        from airflow_calib_provider.ledger.groups import task_of

        with self.world.ledger.read() as connection:
            return str(task_of(connection, self.world.group(name), task).state)

    # Situations

    def of_run(self) -> None:
        """The group of run 2 has a DAG run, which Airflow can clear."""
        self.world.once("opened", be_opened)
        self.airflow.set(CLEAR, {"task_instances": [task(None)], "total_entries": 1})

    def of_fill(self, *done: int) -> None:
        """Runs 2 and 3 make up a closed fill; of these runs the first task is done."""
        self.world.once("-".join(map(str, ("filled", *done))), lambda world: be_filled(world, *done))

    def fail(self, name: str, task: str, code: str = "killed", **more: Any) -> int:
        generation = self.world.begin(name, task)
        self.world.end(generation, "failed", {"code": code, "airflow_state": "failed", **more})
        return generation


@dataclass(frozen=True)
class Scenario:
    """A situation and what has to come of the advice.

    :ivar make: makes the situation, and says what ``explain`` is asked.
    :ivar then: what others do when the commands were given, with what has to be true now.
    :ivar stays: the reason is there still, as the advice only shows something.
    """

    make: Callable[[Place], tuple[str, ...]]
    then: Callable[[Place], None] = lambda place: None
    stays: bool = False


SKIM = ("run-r2", "--workflow", "demo", "--task", "skim")


SCALE = ("fill-r2", "--workflow", "demo", "--task", "scale", "--no-airflow")


def began(place: Place, *, name: str = "run-r2", task_id: str = "skim") -> None:
    """Airflow has cleared the task and begins it again, whatever it was before."""
    assert any(task_id in tasks for tasks, _ in cleared(place.airflow)), place.airflow.asked
    place.world.begin(name, task_id, max_tries=17)
    assert place.state(name, task_id) == "processing"
    place.airflow.task(task("deferred"))
    place.airflow.set(RUN, {"state": "running"})


def run_ended(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.airflow.set(RUN, {"state": "success"})
    place.airflow.task(task("success"))
    return (*SKIM, "--no-airflow")


def killed(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.fail("run-r2", "skim")
    place.airflow.task(task("failed"))
    return (*SKIM, "--no-airflow")


def in_airflow(state: str, run_state: str = "failed") -> Callable[[Place], tuple[str, ...]]:
    def make(place: Place) -> tuple[str, ...]:
        place.of_run()
        place.airflow.set(RUN, {"state": run_state, "end_date": NOW.isoformat()})
        place.airflow.task(task(state))
        return SKIM

    return make


def failed_before_jobs(place: Place) -> tuple[str, ...]:
    place.of_run()
    record_failure(place.world.ledger, place.world.group("run-r2").id, "skim", RenderError("cannot render"), NOW)
    place.airflow.task(task("failed"))
    return (*SKIM, "--no-airflow")


def jobs_failed(place: Place) -> tuple[str, ...]:
    place.of_run()
    failed = [[1, "exit code 3"]]
    generation = place.fail("run-r2", "skim", "jobs_failed", n_failed=1, n_jobs=2, failed=failed)
    with place.world.ledger.read() as connection:
        folder = generations.by_id(connection, generation).folder
    attempt = attempt_folder(folder, 1, 1)
    attempt.mkdir(parents=True)
    (attempt / "stdout").write_text("not a count: noise\n")
    place.airflow.task(task("failed"))
    return (*SKIM, "--no-airflow")


def jobs_shown(place: Place) -> None:
    assert "noise" in place.said[0][1]
    began(place)


def publication_failed(place: Place) -> tuple[str, ...]:
    place.of_fill(2, 3)
    place.world.do("fill-r2", "scale")
    record_failure(place.world.ledger, place.world.group("fill-r2").id, "deliver", "the interval overlaps", NOW)
    in_fill(place.airflow, group="success", locks="success", scale="success", deliver="failed")
    return ("fill-r2", "--workflow", "demo", "--task", "deliver", "--no-airflow")


def published(place: Place) -> None:
    assert cleared(place.airflow) == [(["deliver"], True)]
    place.world.publish("fill-r2")


class NoBackend:
    """A backend that knows nothing, and has nothing to remove."""

    name = "none"

    def observe(self, *_: Any) -> Any:
        from airflow_calib_provider.errors import BackendError

        raise BackendError("away")


def marked(place: Place) -> tuple[str, ...]:
    place.of_fill(2, 3)
    generation = place.world.begin("fill-r2", "scale")
    assert settle(place.world.ledger, lambda _: NoBackend(), generation, "success", NOW) == "kept"  # type: ignore[arg-type,return-value]
    in_fill(place.airflow, group="success", locks="success", scale="success", deliver="success")
    return SCALE


def cleared_scale(place: Place) -> None:
    assert [tasks[:2] for tasks, _ in cleared(place.airflow)] == [["scale.locks", "scale"]]
    if place.state("fill-r2", "scale") == "failed":
        began(place, name="fill-r2", task_id="scale")


def before_it(place: Place) -> tuple[str, ...]:
    place.of_fill(2, 3)
    place.fail("fill-r2", "scale")
    in_fill(place.airflow, group="success", locks="success", scale="failed", deliver="upstream_failed")
    return ("fill-r2", "--task", "deliver", "--no-airflow")


def passed_by_hand(place: Place) -> tuple[str, ...]:
    place.of_fill(2)
    with pytest.raises(NotOpen) as refused:
        place.world.begin("fill-r2", "scale")
    record_failure(place.world.ledger, place.world.group("fill-r2").id, "scale", refused.value, NOW)
    in_fill(place.airflow, group="success", locks="success", scale="failed", deliver="upstream_failed")
    return SCALE


def added_later(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.airflow.set(RUN, {"state": "success"})
    place.airflow.task()
    place.airflow.set(f"{RUN}/clear", {"state": "queued"})
    place.airflow.happens[f"{RUN}/clear"] = lambda: place.airflow.task(task(None))
    return SKIM


def added(place: Place) -> None:
    assert f"{RUN}/clear" in [path for method, path, _ in place.airflow.asked if method == "POST"]
    began(place)


def needing(place: Place) -> tuple[str, ...]:
    place.of_fill(2)
    return SCALE


def selected_none(place: Place) -> tuple[str, ...]:
    place.of_run()
    return ("run-r2", "--workflow", "third", "--task", "never", "--no-airflow")


def skipped_there(place: Place) -> tuple[str, ...]:
    (place.world.specs / "other.yaml").write_text(OTHER.replace("run.fill == 99", "run.fill == 1"))
    place.of_run()
    place.calib.plain("skip", "2", "--workflow", "other", "--reason", "noise")
    return ("run-r2", "--workflow", "third", "--task", "never", "--no-airflow")


def held(number: str) -> Callable[[Place], tuple[str, ...]]:
    def make(place: Place) -> tuple[str, ...]:
        place.world.inject(row(2), row(3, completed=False), row(4))
        return (number, "--workflow", "demo", "--no-airflow")

    return make


def injected(place: Place) -> None:
    place.world.inject()
    place.world.group("run-r4")


def finite(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(3), row(4, completed=False))
    place.calib.plain("campaign", "create", "again", "--source", "daq", "--runs", "2-4", "--workflow", "demo")
    return ("2", "--campaign", "again", "--workflow", "demo", "--no-airflow")


def grouped(place: Place) -> None:
    place.world.inject()
    causes = place.causes(("2", "-c", "again", "-w", "demo", "--no-airflow"))
    assert "run-r2" in {cause["group"] for cause in causes}


def gone(place: Place) -> tuple[str, ...]:
    place.of_run()
    inject_folder(place.world.ledger, place.world.specs, now=NOW)
    (place.world.specs / "demo.yaml").unlink()
    inject_folder(place.world.ledger, place.world.specs, now=NOW)
    place.fill_in["GROUP"] = "run-r2"
    return ("run-r2", "--workflow", "demo", "--no-airflow")


def nothing_open(place: Place) -> None:
    assert place.state("run-r2", "skim") == "skipped"


def forming(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(3))
    return ("fill-r2", "--workflow", "demo", "--no-airflow")


def late(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(4))
    place.world.inject(row(2), row(3), row(4))
    return ("3", "--workflow", "demo", "--no-airflow")


def candidate(place: Place) -> tuple[str, ...]:
    late_fill(place.world)
    return ("fill-r3", "--workflow", "demo", "--task", "deliver", "--no-airflow")


def amended(then: Callable[[Connection, editions.ToClear], None]) -> Callable[[Place], tuple[str, ...]]:
    """What Airflow was asked for has ended, and nothing of the edition has begun."""

    def make(place: Place) -> tuple[str, ...]:
        late_fill(place.world)
        place.world.open_dag_runs()
        place.world.do("run-r2", "skim")
        place.world.do("fill-r2", "scale")
        place.world.publish("fill-r2")
        amend_group(place.world.ledger, "fill-r2", add=[3], reason="late", person="ada")
        with place.world.ledger.write() as connection:
            (row,) = editions.to_clear(connection)
            then(connection, row)
        in_fill(place.airflow, group="success", locks="success", scale="success", deliver="success")
        return SCALE

    return make


def scale_began(place: Place) -> None:
    began(place, name="fill-r2", task_id="scale")


def valid(place: Place) -> None:
    assert [line["state"] for line in place.calib.json("payload", "list")] == ["published"]


def before_first_seen(place: Place) -> tuple[str, ...]:
    (place.world.specs / "demo.yaml").write_text(DEMO.replace("since: 2, ", ""))
    place.world.inject(row(2), row(3))
    return ("3", "--workflow", "demo", "--no-airflow")


def changed(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(3))
    place.world.inject(row(2), row(3, lumi=7.0))
    return ("3", "--workflow", "demo", "--no-airflow")


def taken_anew(place: Place) -> None:
    """The run is in a group of the new campaign."""
    place.world.inject()
    codes = {cause["code"] for cause in place.causes(("3", "-c", "anew", "--workflow", "demo", "--no-airflow"))}
    assert not codes & {"late", "before_first_seen", "source_changed", "next_inject"}
    lines = place.calib.json("runs", "list", "-c", "anew", "-w", "demo")
    (state,) = [item["state"] for item in lines if item["run"] == 3 and item["grouping"] == "run"]
    assert state == "grouped"


def at_work(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.world.begin("run-r2", "skim")
    return (*SKIM, "--no-airflow")


def on_hold(n: int) -> Callable[[Place], tuple[str, ...]]:
    def make(place: Place) -> tuple[str, ...]:
        place.of_run()
        (place.world.specs / "demo.yaml").write_text(DEMO.replace("count: 2", f"count: {n}"))
        generation = place.world.begin("run-r2", "skim")
        for job in range(n):
            text = f"no space on disk {'abcdefgh'[job]}"
            place.world.observe(generation, job, AttemptState.HELD, reason=text, failure=FailureClass.TRANSFER)
        return (*SKIM, "--no-airflow")

    return make


def listed(place: Place) -> None:
    ((command, said),) = place.said
    assert "--group run-r2" in command
    assert "skim" in said


def every_hold(place: Place) -> None:
    listed(place)
    assert place.said[0][1].count("no space on disk") == 7


def broken(place: Place) -> tuple[str, ...]:
    place.of_run()
    inject_folder(place.world.ledger, place.world.specs, now=NOW)
    (place.world.specs / "demo.yaml").write_text(DEMO.replace("group_by: run", "group_by: rum"))
    place.fails = {"spec check"}
    return SKIM


def refused(place: Place) -> tuple[str, ...]:
    place.of_run()
    (place.world.specs / "fresh.yaml").write_text(
        DEMO.replace("demo", "fresh").replace("group_by: run", "group_by: rum")
    )
    place.fails = {"spec check"}
    return ("2", "--no-airflow")


def import_error(place: Place) -> tuple[str, ...]:
    error = {"filename": "demo.py", "stack_trace": "Traceback\nSpecErrors: bad", "timestamp": NOW.isoformat()}
    place.airflow.set("/api/v2/importErrors", {"import_errors": [error], "total_entries": 1})
    return broken(place)


def mended(place: Place) -> None:
    """``spec check`` names the mistake; when it is mended, it says so."""
    (place.world.specs / "demo.yaml").write_text(DEMO)
    (place.world.specs / "fresh.yaml").unlink(missing_ok=True)
    assert place.calib.plain("spec", "check")
    place.airflow.set("/api/v2/importErrors", {"import_errors": [], "total_entries": 0})


def not_found(place: Place) -> tuple[str, ...]:
    place.of_run()
    del place.airflow.codes["/api/v2/dags/demo__run"]
    return SKIM


def stub_written(place: Place) -> None:
    assert "demo" in (place.world.folder / "dags" / "demo.py").read_text()
    place.airflow.set("/api/v2/dags/demo__run", {"is_paused": False, "relative_fileloc": "demo.py"})


def component(name: str) -> Callable[[Place], tuple[str, ...]]:
    def make(place: Place) -> tuple[str, ...]:
        place.of_run()
        place.airflow.set("/api/v2/monitor/health", down(name))
        return SKIM

    return make


def paused(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.airflow.set("/api/v2/dags/demo__run", {"is_paused": True})
    return SKIM


def of_airflow(place: Place) -> None:
    """Airflow's own command line takes the commands; what they do there is Airflow's."""
    from airflow.cli.cli_parser import get_parser

    for command, _ in place.said:
        get_parser().parse_args(shlex.split(command)[1:])
    place.airflow.set("/api/v2/monitor/health", {**down("none"), "none": {"status": "healthy"}})
    place.airflow.set("/api/v2/dags/demo__run", {"is_paused": False, "relative_fileloc": "demo.py"})


def unheard_of(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2))
    return ("9", "--workflow", "demo", "--no-airflow")
