"""What operates an installation, for programs: the same answers as the command line gives, as frozen records."""

from __future__ import annotations

import dataclasses
import inspect
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider import api
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import (
    AirflowUnreachable,
    BackendError,
    CommandLineError,
    LedgerError,
    NotFound,
    PayloadError,
)
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.source_reads import note_unreadable
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient
from tests.api.test_api import PAGE
from tests.cli.conftest import Calib, busy, calib, database, folder, world
from tests.cli.test_airflow import CLEAR, FakeAirflow, airflow, task
from tests.cli.test_amending import CLEAR as CLEAR_FILL
from tests.cli.test_amending import late
from tests.cli.test_announcing import knows_runs
from tests.cli.test_orphans import sleeper, spool
from tests.cli.world import NOW, World
from tests.mirror.conftest import target_of

__all__ = ["airflow", "busy", "calib", "database", "folder", "late", "spool", "world"]


@pytest.mark.parametrize(
    "name",
    [
        "status",
        "payload_for",
        "payload_content",
        "check_specs",
        "jobs",
        "job_log",
        "run_categories",
        "explain",
        "retry_group",
        "announce_runs",
        "clear_amended",
        "orphans",
        "ledger_version",
        "upgrade_ledger",
        "mirror_status",
        "check_mirror",
        "rebuild_mirror",
        "delete_mirror",
    ],
)
def test_the_page_has_all_arguments(name: str) -> None:
    stated = re.findall(rf"`{name}\((.*?)\)`", PAGE)[0]
    assert [part.split("=")[0] for part in stated.split(", ") if part != "*"] == list(
        inspect.signature(getattr(api, name)).parameters
    )


@pytest.mark.parametrize(
    "record",
    [value for name, value in vars(api).items() if inspect.isclass(value) and dataclasses.is_dataclass(value)],
    ids=lambda record: record.__name__,
)
def test_every_record_is_frozen(record: Any) -> None:
    assert record.__dataclass_params__.frozen


def test_status(busy: World, calib: Calib) -> None:
    note_unreadable(busy.ledger, "daq", "it does not answer", NOW)
    found = api.status(busy.ledger, workflow="demo", last=3)
    told = calib.json("status", "--workflow", "demo", "--last", "3")
    assert [dataclasses.asdict(item) for item in found.runs] == told["runs"]
    assert (found.tasks, found.totals) == (told["tasks"], told["totals"])
    assert found.totals["demo.skim"]["done"] == 3
    assert [(item.source, item.said) for item in found.unreadable] == [("daq", "it does not answer")]


def test_jobs_and_their_logs(busy: World, calib: Calib) -> None:
    found = api.jobs(busy.ledger, workflow="demo", group="run-r2", task="skim")
    assert [(item.job_index, item.state) for item in found] == [(0, "succeeded"), (1, "succeeded")]
    log = api.job_log(busy.ledger, "run-r2", "skim", 1, workflow="demo")
    assert (log.text(), log.text(tail=1), log.attempt) == ("job 1 says\nhello\n", "hello\n", 1)
    assert log == api.job_log(busy.ledger, 2, "skim", 1, workflow="demo", attempt=1, generation=1)
    assert log.file.read_text() == b"".join(log.chunks()).decode()
    assert api.job_log(busy.ledger, 2, "skim", workflow="demo", stderr=True).text() == "a warning\n"


def test_the_payload_of_a_run(busy: World, calib: Calib) -> None:
    found = api.payload_for(busy.ledger, "Scale", 3)
    assert (found.tag, found.first_run, found.last_run) == ("Scale", 2, 3)
    assert api.payload_content(found).read_text() == calib.plain("payload", "get", "Scale", "3")
    with pytest.raises(NotFound, match="no payload of Scale holds for run 5"):
        api.payload_for(busy.ledger, "Scale", 5)
    with pytest.raises(NotFound, match="scale") as caught:
        api.payload_for(busy.ledger, "scale", 3)
    assert "did you mean 'Scale'" in str(caught.value.hint)
    api.payload_path(found).write_text("{}")
    with pytest.raises(PayloadError, match="damaged"):
        api.payload_content(found)


def test_specs_are_checked(world: World, calib: Calib) -> None:
    found = api.check_specs([Path("workflow_specs")])
    told = calib.json("spec", "check")
    assert [(dag.dag_id, list(dag.tasks), dag.hash) for dag in found.dags] == [
        (line["dag_id"], line["tasks"], line["hash"]) for line in told
    ]
    assert found.mistakes == []
    (world.specs / "third.yaml").write_text("apiVersion: calib/v1\nworkflow: third\nrunz: {}\n")
    broken = api.check_specs([Path("workflow_specs")])
    assert {error.file for error in broken.mistakes} == {Path("workflow_specs/third.yaml")}
    assert {dag.workflow for dag in broken.dags} == {"demo", "other"}


def test_categories_of_a_run(busy: World, calib: Calib) -> None:
    file = busy.specs / "categories.yaml"
    file.write_text("apiVersion: calib/v1\ncategories: {bright: run.lumi > 7.0}\n")
    found = api.run_categories(busy.ledger, busy.specs, 3)
    told = calib.json("runs", "categories", "3")
    assert [(run.run, run.source, one.name, one.is_in) for run in found.runs for one in run.categories] == [
        (item["run"], item["source"], item["category"], item["in"]) for item in told
    ]
    assert told
    file.write_text("apiVersion: calib/v1\ncategories: {bright: run.lumi >}\n")
    (mistake,) = api.run_categories(busy.ledger, busy.specs, 3).mistakes
    assert "cannot be read" in str(mistake)


def test_airflow_is_asked_only_if_that_is_wanted(busy: World, airflow: FakeAirflow) -> None:
    airflow.set("/api/v2/dags/demo__run", {"is_paused": True, "relative_fileloc": "demo.py"})
    airflow.set("/api/v2/dags/demo__run/dagRuns/prompt__run-r6", {"state": "queued"})
    alone = api.explain(busy.ledger, "run-r6", workflow="demo")
    assert airflow.asked == []
    asked = api.explain(busy.ledger, "run-r6", workflow="demo", ask_airflow=True)
    assert {one.code for one in asked} - {one.code for one in alone} >= {"dag_paused"}
    assert {one.campaign for one in asked} == {"prompt"}


class TestRetry:
    def test_it_clears_what_has_failed(self, busy: World, airflow: FakeAirflow) -> None:
        path = "/api/v2/dags/demo__run/dagRuns/prompt__run-r5/taskInstances"
        airflow.set(path, {"task_instances": [task("failed")], "total_entries": 1})
        airflow.set(CLEAR, {"task_instances": [task(None)], "total_entries": 1})
        found = api.retry_group(busy.ledger, "run-r5", workflow="demo", every_job=True)
        assert found == api.Retried("demo__run", "prompt__run-r5", ["skim"])
        assert airflow.asked[-1][:2] == ("POST", CLEAR)
        query = select(tables.generation.c.rerun).where(tables.generation.c.group_id == busy.group("run-r5").id)
        with busy.ledger.read() as connection:
            assert connection.execute(query).scalars().all() == ["all"]

    def test_an_airflow_that_is_nowhere(self, busy: World) -> None:
        with pytest.raises(AirflowUnreachable) as caught:
            api.retry_group(busy.ledger, "run-r5", workflow="demo")
        assert "CALIB_AIRFLOW_URL" in str(caught.value)

    @pytest.mark.parametrize(
        "wanted",
        [
            {"every_job": True, "same_version": True},
            {"from_step": 1, "from_phase": "coarse"},
            {"from_step": 1, "tasks": ["skim", "scale"]},
        ],
    )
    def test_contradictions(self, busy: World, wanted: dict[str, Any]) -> None:
        with pytest.raises(CommandLineError):
            api.retry_group(busy.ledger, "run-r5", workflow="demo", **wanted)


def test_an_edition_is_run_again(late: World, airflow: FakeAirflow) -> None:
    done = api.amend_group(late.ledger, "fill-r2", reason="its file came late", person="ada", add=[3])
    refused = api.clear_amended(late.ledger, done)
    assert (refused.cleared, refused.left) == ([], ["prompt__fill-r2"])
    assert refused.error is not None
    airflow.set(CLEAR_FILL, {"state": "queued"})
    assert api.clear_amended(late.ledger, done) == api.ClearedEdition(["prompt__fill-r2"], [], None)


def test_a_run_is_announced(airflow: FakeAirflow) -> None:
    knows_runs(airflow)
    assert api.announce_runs(person="ada") == api.Announcement("calib://runs", 41, NOW.isoformat())
    assert airflow.asked[-1][2]["extra"] == {"by": "ada"}


def test_jobs_that_nothing_wants(busy: World, spool: LocalBackend, tmp_path: Path) -> None:
    over = RoundKey("prompt", "demo", "skim", "run-r5", 1, 0, 0)
    sleeper(spool, over, tmp_path / "a")
    (found,) = api.orphans(busy.ledger).found
    assert (found.round, found.backend, found.removed) == (str(over), "local", False)

    def silent(name: str) -> LocalBackend:
        if name == "far":
            raise BackendError("it does not answer")
        return spool

    both = api.orphans(busy.ledger, backends=["far", "local"], remove=True, opened=silent)
    assert [one.removed for one in both.found] == [True]
    assert both.troubles == [api.BackendTrouble("far", "it does not answer", asked=False)]


def test_versions(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = api.ledger_version()
    assert there.version == api.upgrade_ledger().after
    url = f"sqlite:///{tmp_path / 'new.db'}"
    with pytest.raises(LedgerError, match="no ledger"):
        api.ledger_version(url)
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    made = api.upgrade_ledger(url)
    assert (made.before, made.after) == (None, there.version)
    assert api.ledger_version(url).version == there.version


def test_the_mirror(busy: World, influx: Any) -> None:
    target = target_of(influx)
    assert api.mirror_status(busy.ledger).targets == []
    Carrier(busy.ledger, InfluxClient(target)).step()
    found = api.mirror_status(busy.ledger)
    assert (found.targets[0].lag_events, found.in_trouble, found.too_many_series) == (0, False, False)
    assert api.check_mirror(busy.ledger, target).clean
    assert "payload" in api.delete_mirror(target)
    assert not api.check_mirror(busy.ledger, target).clean
    filled = api.rebuild_mirror(busy.ledger, target)
    assert filled.events > filled.points > 0
    report = api.check_mirror(busy.ledger, target, since=datetime.now(UTC) - timedelta(days=9000))
    assert report.clean
    assert report.measurements["payload"].expected == 1
