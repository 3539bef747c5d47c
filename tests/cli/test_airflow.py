"""Causes on Airflow's side, and ``calib retry``, against a server that answers as Airflow's REST API does."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import CalibError, NotOpen
from airflow_calib_provider.jobsets.begin import record_failure
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.rest.client import token_from_environment
from airflow_calib_provider.spec.language import GROUP_SENSOR
from tests.cli.conftest import Calib
from tests.cli.world import NOW, World, row

HEALTHY = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy", "latest_scheduler_heartbeat": NOW.isoformat()},
    "triggerer": {"status": "healthy", "latest_triggerer_heartbeat": NOW.isoformat()},
    "dag_processor": {"status": "healthy", "latest_dag_processor_heartbeat": NOW.isoformat()},
}
RUN = "/api/v2/dags/demo__run/dagRuns/prompt__run-r2"


class FakeAirflow:
    """Answers by path; what is not there is not found."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.codes: dict[str, list[int]] = {}
        self.asked: list[tuple[str, str, Any]] = []
        self.token: str | None = None
        self.happens: dict[str, Callable[[], None]] = {}
        """Path → what Airflow does when something is changed there."""
        self.set("/auth/token", {"access_token": "for-everybody"})
        self.set("/api/v2/monitor/health", HEALTHY)
        self.set("/api/v2/importErrors", {"import_errors": [], "total_entries": 0})
        self.pools({"name": "default_pool", "slots": 128, "open_slots": 100})
        self.set("/api/v2/dags/demo__run", {"is_paused": False, "relative_fileloc": "demo.py"})
        self.set(RUN, {"state": "running"})
        self.task({"task_id": "skim", "state": None, "pool": "default_pool"})

    def set(self, path: str, answer: Any, *codes: int) -> None:
        self.answers[path] = answer
        self.codes[path] = list(codes) or [200]

    def pools(self, *pools: Any) -> None:
        self.set("/api/v2/pools", {"pools": pools, "total_entries": len(pools)})

    def task(self, *tasks: Any) -> None:
        self.set(f"{RUN}/taskInstances", {"task_instances": tasks, "total_entries": len(tasks)})


@pytest.fixture
def airflow(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAirflow]:
    fake = FakeAirflow()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        do_PATCH = do_POST
        do_DELETE = do_GET

        def _answer(self, body: Any) -> None:
            path = self.path.partition("?")[0]
            fake.asked.append((self.command, path, body))
            if self.command != "GET" and path in fake.happens:
                fake.happens[path]()
            fake.token = self.headers.get("Authorization")
            codes = fake.codes.get(path, [404])
            code = codes.pop(0) if len(codes) > 1 else codes[0]
            answer = json.dumps(fake.answers.get(path, {"detail": f"{path} was not found"})).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("CALIB_AIRFLOW_URL", f"http://127.0.0.1:{server.server_port}")
    yield fake
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def opened(world: World) -> World:
    """The groups of runs 2 and 3 have DAG runs."""
    world.once("opened", be_opened)
    return world


def be_opened(world: World) -> None:
    world.inject(row(2), row(3))
    world.open_dag_runs()


def codes(calib: Calib, what: str = "run-r2") -> list[str]:
    found = calib.json("explain", what, "--workflow", "demo")
    return [cause["code"] for cause in found["causes"] if cause["code"] != "dag_run_opened"]


def down(component: str) -> dict[str, Any]:
    heartbeat = {f"latest_{component}_heartbeat": NOW.isoformat()}
    return {**HEALTHY, component: {"status": "unhealthy", **heartbeat}}


def task(state: str | None, task_id: str = "skim") -> dict[str, Any]:
    return {"task_id": task_id, "state": state, "pool": "default_pool", "queued_when": NOW.isoformat(), "try_number": 2}


def test_a_healthy_airflow_adds_nothing(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    assert codes(calib) == []
    assert airflow.token == "Bearer for-everybody"


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/api/v2/monitor/health", down("scheduler"), "scheduler_down"),
        ("/api/v2/monitor/health", down("triggerer"), "triggerer_down"),
        ("/api/v2/monitor/health", down("dag_processor"), "dag_processor_down"),
        ("/api/v2/monitor/health", {**HEALTHY, "metadatabase": {"status": "unhealthy"}}, "metadatabase_down"),
        ("/api/v2/dags/demo__run", {"is_paused": True}, "dag_paused"),
        ("/api/v2/dags/demo__run", {"is_paused": False, "is_stale": True}, "dag_not_found"),
        (RUN, {"state": "queued", "queued_at": NOW.isoformat()}, "dag_run_queued"),
        (RUN, {"state": "failed", "end_date": NOW.isoformat()}, "dag_run_failed"),
        (f"{RUN}/taskInstances", {"task_instances": [task("queued")], "total_entries": 1}, "task_queued"),
        (f"{RUN}/taskInstances", {"task_instances": [task("scheduled")], "total_entries": 1}, "task_queued"),
        (f"{RUN}/taskInstances", {"task_instances": [task("up_for_retry")], "total_entries": 1}, "up_for_retry"),
        (
            f"{RUN}/taskInstances",
            {"task_instances": [task("upstream_failed")], "total_entries": 1},
            "airflow_upstream_failed",
        ),
        (f"{RUN}/taskInstances", {"task_instances": [task("success")], "total_entries": 1}, "airflow_task_ended"),
    ],
)
def test_causes(opened: World, airflow: FakeAirflow, calib: Calib, path: str, answer: Any, expected: str) -> None:
    airflow.set(path, answer)
    assert codes(calib) == [expected]
    assert "released by" in calib.plain("explain", "run-r2", "--workflow", "demo")


def test_a_full_pool(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    airflow.task(task("scheduled"))
    airflow.pools({"name": "default_pool", "slots": 4, "open_slots": 0})
    assert codes(calib) == ["pool_full"]


def test_a_dag_that_airflow_does_not_know(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    del airflow.codes["/api/v2/dags/demo__run"]
    assert codes(calib) == ["dag_not_found"]
    error = {"filename": "demo.py", "stack_trace": "Traceback\nSpecErrors: bad", "timestamp": NOW.isoformat()}
    airflow.set("/api/v2/importErrors", {"import_errors": [error], "total_entries": 1})
    assert codes(calib) == ["dag_import_error"]
    assert "SpecErrors: bad" in calib.plain("explain", "run-r2", "--workflow", "demo")


def test_a_dag_run_that_somebody_deleted(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    del airflow.codes[RUN]
    assert codes(calib) == ["dag_run_missing"]


def test_one_error_inside_airflow_is_passed_over(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    airflow.set("/api/v2/monitor/health", HEALTHY, 503, 200)
    assert codes(calib) == []


@pytest.mark.parametrize("code", [401, 403, 500])
def test_an_airflow_that_does_not_answer_is_a_cause(
    opened: World, airflow: FakeAirflow, calib: Calib, code: int
) -> None:
    airflow.set("/api/v2/monitor/health", {}, code)
    assert codes(calib) == ["airflow_unreachable"]


def test_nobody_listens(opened: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_AIRFLOW_URL", "http://127.0.0.1:9")
    assert codes(calib) == ["airflow_unreachable"]
    monkeypatch.setenv("CALIB_AIRFLOW_URL", "ftp://airflow")
    assert codes(calib) == ["airflow_unreachable"]


def test_what_has_ended_is_not_asked_for(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    opened.do("run-r2", "skim")
    airflow.asked.clear()
    assert codes(calib) == ["done"]
    assert not airflow.asked


def test_the_token_file(
    opened: World, airflow: FakeAirflow, calib: Calib, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("mine\n")
    file.chmod(0o600)
    monkeypatch.setenv("CALIB_AIRFLOW_TOKEN_FILE", str(file))
    assert codes(calib) == []
    assert airflow.token == "Bearer mine"
    file.chmod(0o640)
    assert codes(calib) == ["airflow_unreachable"]
    assert "mode 0640" in calib.fails("retry", "run-r2", "-w", "demo", "--task", "skim")


CLEAR = "/api/v2/dags/demo__run/clearTaskInstances"


@pytest.mark.parametrize("content", [b"one\ntwo", "é".encode(), b"\xff\xfe", b"Bearer x"])
def test_what_is_no_token_is_not_sent(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    file.write_bytes(content)
    file.chmod(0o600)
    monkeypatch.delenv("CALIB_AIRFLOW_TOKEN", raising=False)
    monkeypatch.setenv("CALIB_AIRFLOW_TOKEN_FILE", str(file))
    with pytest.raises(CalibError, match="holds no token"):
        token_from_environment()
    monkeypatch.setenv("CALIB_AIRFLOW_TOKEN", os.fsdecode(content))
    with pytest.raises(CalibError, match="CALIB_AIRFLOW_TOKEN holds no token"):
        token_from_environment()


def test_retry(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    opened.end(opened.begin("run-r2", "skim"), "failed", {"code": "killed", "airflow_state": "failed"})
    airflow.set(CLEAR, {"task_instances": [task(None)], "total_entries": 1})
    assert calib.json("retry", "run-r2", "--workflow", "demo")["cleared"] == ["skim"]
    method, path, body = airflow.asked[-1]
    assert (method, path) == ("POST", CLEAR)
    assert body["dag_run_id"] == "prompt__run-r2"
    assert body["task_ids"] == ["skim"]
    assert (body["dry_run"], body["only_failed"], body["include_downstream"]) == (False, False, True)
    assert "cleared" in calib.plain("retry", "run-r2", "-w", "demo", "--task", "skim", "--no-downstream")
    assert airflow.asked[-1][2]["include_downstream"] is False


def test_retry_clears_the_locks_too(world: World, airflow: FakeAirflow, calib: Calib) -> None:
    world.inject(row(2), row(3), row(4, fill=2))
    world.open_dag_runs()
    fill = "/api/v2/dags/demo__fill"
    listed = [task("failed", "scale.locks"), task("upstream_failed", "scale")]
    airflow.set(
        f"{fill}/dagRuns/prompt__fill-r2/taskInstances", {"task_instances": listed, "total_entries": len(listed)}
    )
    airflow.set(f"{fill}/clearTaskInstances", {"task_instances": listed, "total_entries": 2})
    calib.plain("retry", "fill-r2", "--task", "scale")
    assert airflow.asked[-1][2]["task_ids"] == ["scale.locks", "scale"]


def test_retry_refused_by_airflow(opened: World, airflow: FakeAirflow, calib: Calib) -> None:
    airflow.set(CLEAR, {"detail": "skim is running"}, 409)
    assert "skim is running" in calib.fails("retry", "run-r2", "-w", "demo", "-t", "skim")
    airflow.set(CLEAR, {"detail": "broken"}, 500)
    posts = sum(method == "POST" for method, _, _ in airflow.asked)
    assert "answers 500" in calib.fails("retry", "run-r2", "-w", "demo", "-t", "skim")
    assert sum(method == "POST" for method, _, _ in airflow.asked) == posts + 2  # once per command: never repeated
    airflow.task(task("failed", "another"))
    assert "has no task skim" in calib.fails("retry", "run-r2", "-w", "demo", "-t", "skim")


def test_retry_of_what_was_not_opened(world: World, airflow: FakeAirflow, calib: Calib) -> None:
    world.inject(row(2))
    assert "no DAG run yet" in calib.fails("retry", "run-r2", "-w", "demo", "-t", "skim")
    assert not airflow.asked


FILL = "/api/v2/dags/demo__fill"
EDGES = {"tasks": [
    {"task_id": GROUP_SENSOR, "downstream_task_ids": ["scale.locks"]},
    {"task_id": "scale.locks", "downstream_task_ids": ["scale"]},
    {"task_id": "scale", "downstream_task_ids": ["deliver"]},
    {"task_id": "deliver", "downstream_task_ids": []},
]}  # fmt: skip


def in_fill(airflow: FakeAirflow, **states: str | None) -> None:
    """Airflow's DAG run of fill-r2; ``locks`` stands for ``scale.locks``, ``group`` for the sensor of the group."""
    listed = [
        task(state, {"locks": "scale.locks", "group": GROUP_SENSOR}.get(name, name)) for name, state in states.items()
    ]
    path = f"{FILL}/dagRuns/prompt__fill-r2"
    airflow.set(f"{path}/taskInstances", {"task_instances": listed, "total_entries": len(listed)})
    airflow.set(path, {"state": "failed"})
    airflow.set(FILL, {"is_paused": False, "relative_fileloc": "demo.py"})
    airflow.set(f"{FILL}/tasks", EDGES)
    airflow.set(f"{FILL}/clearTaskInstances", {"task_instances": [], "total_entries": 0})


def cleared(airflow: FakeAirflow) -> list[tuple[list[str], bool]]:
    return [
        (body["task_ids"], body["include_downstream"])
        for method, path, body in airflow.asked
        if method == "POST" and path.endswith("clearTaskInstances")
    ]


@pytest.fixture
def filled(world: World, airflow: FakeAirflow) -> World:
    """Runs 2 and 3 make up a closed fill whose needs are done."""
    world.once("filled-2-3", lambda world: be_filled(world, 2, 3))
    return world


def be_filled(world: World, *done: int) -> None:
    world.inject(row(2), row(3), row(4, fill=2))
    world.open_dag_runs()
    for number in done:
        world.do(f"run-r{number}", "skim")


def test_retry_of_a_group_of_which_the_sensor_has_failed(filled: World, airflow: FakeAirflow, calib: Calib) -> None:
    up = "upstream_failed"
    in_fill(airflow, group="failed", locks=up, scale=up, deliver=up)
    codes = {cause["code"] for cause in calib.json("explain", "fill-r2")["causes"]}
    assert "airflow_upstream_failed" in codes
    assert "dag_run_opened" not in codes, "Airflow's scheduler is not to blame"
    calib.plain("retry", "fill-r2")
    assert cleared(airflow) == [([GROUP_SENSOR], False), (["scale.locks", "scale", "deliver"], True)]


def test_retry_of_what_comes_after_a_failed_task_clears_that_too(
    filled: World, airflow: FakeAirflow, calib: Calib
) -> None:
    filled.end(filled.begin("fill-r2", "scale"), "failed", {"code": "killed", "airflow_state": "failed"})
    in_fill(airflow, group="success", locks="success", scale="failed", deliver="upstream_failed")
    calib.plain("retry", "fill-r2", "--task", "deliver")
    assert cleared(airflow) == [(["scale"], False), (["deliver"], True)]


def test_retry_after_a_sensor_was_marked_as_success(world: World, airflow: FakeAirflow, calib: Calib) -> None:
    world.inject(row(2), row(3), row(4, fill=2))
    world.open_dag_runs()
    with pytest.raises(NotOpen) as refused:
        world.begin("fill-r2", "scale")
    record_failure(world.ledger, world.group("fill-r2").id, "scale", refused.value, NOW)
    in_fill(airflow, group="success", locks="success", scale="failed", deliver="upstream_failed")
    told = calib.plain("explain", "fill-r2", "--task", "scale")
    assert "0 of 2 runs done in demo.skim" in told
    assert "calib skip" in told
    calib.plain("retry", "fill-r2")
    assert cleared(airflow) == [(["scale.locks", "scale", "deliver"], True)]


def test_retry_of_what_was_marked_as_success_without_a_word_to_the_ledger(
    filled: World, airflow: FakeAirflow, calib: Calib
) -> None:
    """As when a whole DAG run is marked as success."""
    in_fill(airflow, group="success", locks="success", scale="success", deliver="success")
    calib.plain("retry", "fill-r2")
    assert cleared(airflow) == [(["scale.locks", "scale", "deliver"], True)]


def test_a_task_that_was_added_after_the_dag_run_had_ended(filled: World, airflow: FakeAirflow, calib: Calib) -> None:
    filled.end(filled.begin("fill-r2", "scale"), "failed", {"code": "killed", "airflow_state": "failed"})
    in_fill(airflow, group="success", locks="success", scale="failed")
    causes = calib.json("explain", "fill-r2", "--task", "deliver")["causes"]
    (added,) = [cause for cause in causes if cause["code"] == "task_not_in_dag_run"]
    assert "calib retry" in added["release"]
    path = f"{FILL}/dagRuns/prompt__fill-r2/clear"
    airflow.set(path, {"state": "queued"})
    assert "has no task deliver" in calib.fails("retry", "fill-r2", "--task", "deliver")
    (asked, *_) = [body for method, where, body in airflow.asked if (method, where) == ("POST", path)]
    assert asked == {"dry_run": False, "only_new": True, "run_on_latest_version": True}
    in_fill(airflow, group="success", locks="success", scale="failed", deliver=None)
    calib.plain("retry", "fill-r2", "--task", "deliver")
    assert cleared(airflow) == [(["scale"], False), (["deliver"], True)]


def test_a_dag_run_that_the_scheduler_ends_after_the_clear_goes_on(
    filled: World, airflow: FakeAirflow, calib: Calib, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_calib_provider.rest.client.LOOK_AGAIN", 0.0)
    filled.end(filled.begin("fill-r2", "scale"), "failed", {"code": "killed", "airflow_state": "failed"})
    in_fill(airflow, group="success", locks="success", scale="failed")
    run = f"{FILL}/dagRuns/prompt__fill-r2"
    airflow.set(f"{run}/clear", {"state": "queued"})

    def add() -> None:
        in_fill(airflow, group="success", locks="success", scale=None, deliver=None)
        airflow.set(f"{FILL}/clearTaskInstances", {"task_instances": [{"task_id": "scale"}, {"task_id": "deliver"}]})

    airflow.happens = {f"{run}/clear": add, run: lambda: airflow.set(run, {"state": "queued"})}
    calib.plain("retry", "fill-r2")
    assert [body for method, where, body in airflow.asked if method == "PATCH"] == [{"state": "queued"}]
    # How it is to run again holds, though nobody can look: it runs already.
    in_fill(airflow, group="success", locks="success", scale="failed")
    airflow.happens[f"{FILL}/clearTaskInstances"] = lambda: airflow.set(run, {}, 403)
    assert "refuses the token" in calib("retry", "fill-r2", "--all").output
    with filled.ledger.read() as connection:
        wanted = connection.execute(select(tables.generation.c.task, tables.generation.c.rerun)).all()
    assert ("scale", "all") in wanted


def test_retry_of_a_group_in_which_everything_is_well(filled: World, airflow: FakeAirflow, calib: Calib) -> None:
    in_fill(airflow, group="success", locks="success", scale="deferred", deliver=None)
    assert "no task of fill-r2 has failed" in calib.fails("retry", "fill-r2")
    assert not cleared(airflow)


def test_a_question_is_never_asked_again_as_it_was(filled: World, airflow: FakeAirflow, calib: Calib) -> None:
    """Airflow keeps its text for the task instance, which goes: the clear of an ended DAG run makes a new one."""
    up, path = "upstream_failed", f"{FILL}/dagRuns/prompt__fill-r2"
    in_fill(airflow, group="success", locks="success", scale="success", deliver=up)
    asking, question = {"deliver.candidate": "success", "deliver.approve": "failed"}, "deliver.approve"
    listed = [*airflow.answers[f"{path}/taskInstances"]["task_instances"], *(task(asking[one], one) for one in asking)]
    airflow.set(f"{path}/taskInstances", {"task_instances": listed, "total_entries": len(listed)})
    tasks = [*EDGES["tasks"], {"task_id": question, "downstream_task_ids": ["deliver"]}]
    airflow.set(f"{FILL}/tasks", {"tasks": tasks, "total_entries": len(tasks)})
    airflow.set(f"{FILL}/clearTaskInstances", {"task_instances": [task(None, question)], "total_entries": 1})
    airflow.set(f"{path}/taskInstances/{question}", None)
    filled.do("fill-r2", "scale")
    airflow.set(path, {"state": "running"})
    said = calib.fails("retry", "fill-r2", "--task", "deliver")
    assert "its question cannot be asked anew yet" in said
    assert "reject" not in said
    waiting = [{**one, "state": "awaiting_input"} if one["task_id"] == question else one for one in listed]
    airflow.set(f"{path}/taskInstances", {"task_instances": waiting, "total_entries": len(listed)})
    said = calib.fails("retry", "fill-r2", "--task", "deliver")
    assert "reject what is asked about, such as with `calib payload reject`; then try it again" in said
    airflow.set(f"{path}/taskInstances", {"task_instances": listed, "total_entries": len(listed)})
    assert not [method for method, _, _ in airflow.asked if method != "GET"]
    airflow.set(path, {"state": "failed"})
    calib.plain("retry", "fill-r2", "--task", "deliver")
    done = [(method, where.removeprefix(path)) for method, where, _ in airflow.asked if method != "GET"]
    assert done[:2] == [("DELETE", f"/taskInstances/{question}"), ("POST", f"{FILL}/clearTaskInstances")]
    assert cleared(airflow)[-1] == (["deliver.candidate", question, "deliver"], True)
