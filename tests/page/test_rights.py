"""What a person may not read is not there: not in lists, counts or searches, and not by its address."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import insert, update
from starlette.testclient import TestClient

from airflow_calib_provider.ledger import campaigns, dag_groups, tables
from airflow_calib_provider.page.app import FILES, STATIC
from tests.cli.world import NOW, World
from tests.page.conftest import As
from tests.page.test_views import Text, rows_of

DEMO = ("demo__run", "demo__fill")
VIEWS = ("/runs", "/runs?state=new", "/runs?search=1-9", "/tag", "/campaigns", "/people", "/group?name=run-r5")


def test_all_routes_ask_who_it_is(as_reader: As) -> None:
    nobody = as_reader()
    app = nobody.app
    assert isinstance(app, FastAPI)
    del nobody.headers["dags"]
    seen = 0
    for route in app.routes:
        path = re.sub(r"\{name\}", "style.css", re.sub(r"\{rest:path\}", "some/where", route.path))  # type: ignore[attr-defined]
        for address in (path, f"{path}?name=x&dag_id=x&run_id=x"):
            answer = nobody.get(address)
            assert (answer.status_code, answer.text) == (401, "log in to Airflow first\n"), address
            seen += 1
    assert seen == 2 * 10


def test_there_is_no_file_that_is_not_asked_for(as_reader: As) -> None:
    assert {file.name for file in Path(STATIC).iterdir()} == set(FILES)
    for name in FILES:
        assert as_reader().get(f"/static/{name}").status_code == 200
    for name in ("app.py", "..%2Fapp.py", "%2e%2e/app.py", ""):
        assert as_reader().get(f"/static/{name}").status_code == 404


@pytest.mark.parametrize("view", VIEWS)
def test_of_other_workflows_nothing_is_shown(busy: World, as_reader: As, view: str) -> None:
    assert view == "/tag" or view == "/people" or "third" in as_reader().get(view).text
    found = as_reader(*DEMO).get(view)
    assert found.status_code == 200
    assert "third" not in found.text
    assert "laser" not in found.text


def test_of_a_workflow_one_grouping_may_be_all_that_is_seen(busy: World, as_reader: As) -> None:
    text = Text(as_reader("demo__run").get("/runs").text)
    assert "demo. skim" in str(text)
    assert "scale" not in str(text)
    assert as_reader("demo__run").get("/group?name=fill-r2").status_code == 404
    assert as_reader("demo__run").get("/tag?tag=Scale").status_code == 404
    assert "Scale" not in as_reader("demo__run").get("/tag").text
    assert as_reader("demo__fill").get("/tag?tag=Scale").status_code == 200


def test_counts_are_of_what_is_seen(busy: World, as_reader: As) -> None:
    def total(*dags: str) -> int:
        found = re.search(r"\d+ of (\d+) tasks ended", as_reader(*dags).get("/campaigns").text)
        return int(found[1]) if found else 0

    assert total() == total(*DEMO) + total("third__run")
    assert total("demo__run") + total("demo__fill") == total(*DEMO)
    assert 0 < total("demo__run") < total(*DEMO) < total()
    assert "Failed tasks" in as_reader("demo__run").get("/people").text
    assert "Failed tasks" not in as_reader("demo__fill").get("/people").text


@pytest.mark.parametrize(
    ("there", "nowhere"),
    [("/group?name=run-r5&workflow=third", "/group?name=run-r5&workflow=nothr"),
     ("/runs?workflow=third", "/runs?workflow=nothr"), ("/dag?dag_id=third__run", "/dag?dag_id=nothr__run"),
     ("/dag-run?dag_id=third__run&run_id=prompt__run-r5", "/dag-run?dag_id=nothr__run&run_id=prompt__run-r5")],
)  # fmt: skip
def test_what_is_hidden_is_as_what_does_not_exist(busy: World, as_reader: As, there: str, nowhere: str) -> None:
    assert as_reader().get(there).status_code in (200, 307)
    browser = as_reader(*DEMO)
    hidden, unknown = browser.get(there), browser.get(nowhere)
    assert hidden.status_code == unknown.status_code == 404
    assert hidden.text.replace("third", "nothr") == unknown.text


def test_a_campaign_of_others_does_not_exist(busy: World, as_reader: As) -> None:
    with busy.ledger.write() as connection:
        campaigns.create(connection, "secret", kind="streamed")
        row = {"campaign": "secret", "workflow": "third", "label": "run", "assigned_below": 9, "first_seen_at": NOW}
        connection.execute(insert(tables.grouping).values(**row))
    assert "secret" in as_reader().get("/campaigns").text
    browser = as_reader(*DEMO)
    assert "secret" not in browser.get("/campaigns").text
    assert "secret" not in browser.get("/runs").text
    for view in ("runs", "tag"):
        hidden, unknown = browser.get(f"/{view}?campaign=secret"), browser.get(f"/{view}?campaign=nowher")
        assert hidden.status_code == unknown.status_code == 404
        assert hidden.text.replace("secret", "nowher") == unknown.text


def test_nobody_reads_what_no_dag_that_they_may_read_has(busy: World, as_reader: As) -> None:
    browser = as_reader("unknown__run", "demo", "__", "demo__run_2")
    for view in ("/runs", "/tag", "/campaigns", "/people"):
        text = browser.get(view).text
        for word in ("skim", "fill-r2", "Scale", "third", "run-r5"):
            assert word not in text, view


def test_groups_of_hand_written_dags_belong_to_their_dags(busy: World, as_reader: As) -> None:
    with busy.ledger.write() as connection:
        made = dag_groups.ensure_group(connection, "my.dag", "manual__1", NOW, NOW)
        dag_groups.ensure_task(connection, made, "fit", dag_groups.Source("0" * 64), NOW)
        task = tables.group_task
        connection.execute(update(task).where(task.c.group_id == made.id).values(state="failed"))
    mine, other = as_reader("my.dag"), as_reader(*DEMO)
    address = f"/group?campaign=dags&name={made.name}"
    assert mine.get("/dag-run?dag_id=my.dag&run_id=manual__1").headers["location"].startswith("group?campaign=dags")
    assert "../dags/my.dag/runs/manual__1" in Text(mine.get(address).text).links
    assert [row[0] for row in rows_of(mine.get("/people").text)] == ["fit"]
    assert "1 failed" in mine.get("/campaigns").text
    assert other.get(address).status_code == 404
    assert made.workflow not in other.get("/people").text + other.get("/campaigns").text


@pytest.mark.parametrize(
    ("workflow", "team", "dags", "shown"),
    [("third", "", ("third__run",), True), ("third", "", DEMO, False), ("third", "", (*DEMO, "calib_inject"), False),
     ("brandnew", "", DEMO, False), ("brandnew", "", ("calib_inject",), True), ("sources.yaml", "", DEMO, False),
     ("sources.yaml@ecal", "ecal", ("calib_inject",), False),
     ("sources.yaml@ecal", "ecal", ("calib_inject_ecal",), True)],
)  # fmt: skip
def test_broken_files_are_shown_to_whom_they_concern(
    busy: World, as_reader: As, workflow: str, team: str, dags: tuple[str, ...], shown: bool
) -> None:
    table = tables.spec_file
    trouble = {"code": "spec_refused", "file": f"{workflow}", "n": 1, "mistakes": ["line 3: a mistake"]}
    row = {"workflow": workflow, "file": workflow, "hash": "0", "good_at": NOW, "team": team, "held": False}
    with busy.ledger.write() as connection:
        connection.execute(table.delete().where(table.c.workflow == workflow))
        connection.execute(insert(table).values(**row, trouble=trouble, trouble_since=NOW))
    assert ("a mistake" in as_reader(*dags).get("/people").text) == shown


@pytest.mark.parametrize(("dags", "shown"), [(DEMO, False), (("calib_inject",), True)])
def test_a_source_that_cannot_be_read_is_told_by_injections(
    busy: World, as_reader: As, dags: tuple[str, ...], shown: bool
) -> None:
    table = tables.run_source
    with busy.ledger.write() as connection:
        connection.execute(table.delete())
        connection.execute(insert(table).values(name="daq", serial=1, trouble="no such file", trouble_since=NOW))
    assert ("no such file" in as_reader(*dags).get("/people").text) == shown


def browser_without_rights(as_reader: As) -> TestClient:
    return as_reader("none")


def test_somebody_without_rights_gets_pages_without_anything(busy: World, as_reader: As) -> None:
    browser = browser_without_rights(as_reader)
    assert "no runs yet of a DAG that you may read" in browser.get("/runs").text
    assert browser.get("/runs?campaign=prompt").status_code == 404
