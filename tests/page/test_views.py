"""What each view shows, of a small installation."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import insert, update
from starlette.testclient import TestClient

from airflow_calib_provider.domain.page_addresses import group_address, page_address, tag_address
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.page.parameters import DagQuery, DagRunQuery, GroupQuery, RunsQuery, TagQuery
from tests.cli.world import NOW, World, late_fill
from tests.postgres.fixture import database  # noqa: F401  on both


class Text(HTMLParser):
    """The words of a page, as somebody reads them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_data(self, data: str) -> None:
        self.words += data.split()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")

    def __str__(self) -> str:
        return " ".join(self.words)


def read(page: TestClient, address: str, status: int = 200) -> Text:
    found = page.get(address)
    assert found.status_code == status, found.text
    return Text(found.text)


def rows_of(html: str) -> list[list[str]]:
    """The body of the first table."""
    body = re.findall(r"<tbody>(.*?)</tbody>", html, re.S)[0]
    rows = re.findall(r"<tr.*?>(.*?)</tr>", body, re.S)
    return [[str(Text(cell)) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row, re.S)] for row in rows]


def test_runs_and_tasks_with_states_and_reasons(busy: World, page: TestClient) -> None:
    rows = rows_of(page.get("/runs?workflow=demo").text)
    assert [row[0] for row in rows] == ["8 not completed", "7", "6", "5", "4", "3", "2"]
    assert rows[-1][1:] == ["✓ done"] * 3
    assert rows[3][1] == "✗ failed 2 of 2 jobs failed after all retries (job 0: exit code 3, job 1: exit code 3)"
    assert rows[1][1:] == ["– not selected not selected: `run.lumi > 0.0` is false"] * 3
    assert "group?campaign=prompt&workflow=demo&name=fill-r2#task-scale" in read(page, "/runs").links


@pytest.mark.parametrize(
    ("query", "runs"),
    [("state=failed", ["5"]), ("state=done", ["4", "3", "2"]), ("state=not_selected", ["7"]), ("state=late", []),
     ("search=3-5,8", ["8 not completed", "5", "4", "3"]), ("search=fill-r2", ["3", "2"]), ("search=fill-r99", []),
     ("search=3-5&state=done", ["4", "3"]), ("size=2", ["8 not completed", "7"]),
     ("size=2&before=7&source=daq", ["6", "5"])],
)  # fmt: skip
def test_runs_are_chosen(busy: World, page: TestClient, query: str, runs: list[str]) -> None:
    text = page.get(f"/runs?workflow=demo&{query}").text
    assert ([row[0] for row in rows_of(text)] if runs else []) == runs
    assert ("No runs" in text) == (not runs)


def test_what_is_in_no_state_yet_is_found_as_new(busy: World, page: TestClient) -> None:
    for state in ("new", "waiting"):
        text = page.get(f"/runs?workflow=demo&state={state}").text
        found = [row for row in rows_of(text) if "<tbody>" in text] if "<tbody>" in text else []
        assert all(any(state in cell for cell in row[1:]) for row in found)
        assert (len(found) > 0) == (state == "new")


def test_skipped_and_excluded_runs_are_found(busy: World, page: TestClient) -> None:
    with busy.ledger.write() as connection:
        skip = {"campaign": "prompt", "workflow": "demo", "task": "", "run": 4, "person": "anna", "reason": "noise"}
        connection.execute(insert(tables.skip).values(**skip, at=tables_now(busy)))
    assert [row[0] for row in rows_of(page.get("/runs?workflow=demo&state=skipped").text)] == ["4"]


def tables_now(world: World) -> object:
    return world.rows(tables.run_group)[0].opened_at


def test_all_pages_together_are_all_runs_once(busy: World, page: TestClient) -> None:
    seen, address = [], "/runs?workflow=demo&size=3"
    while address:
        text = page.get(address).text
        seen += [int(row[0].split()[0]) for row in rows_of(text)] if "<tbody>" in text else []
        following = re.search(r'rel="next" href="([^"]+)"', text)
        address = "/" + following[1].replace("&amp;", "&") if following else ""
    assert seen == [8, 7, 6, 5, 4, 3, 2]


def test_a_search_that_is_no_run_says_what_is_one(busy: World, page: TestClient) -> None:
    assert "9-3 ends before it begins" in str(read(page, "/runs?search=9-3"))
    many = ",".join(str(number) for number in range(0, 400, 2))
    assert "search for at most 100" in str(read(page, f"/runs?search={many}"))


def test_a_group_says_all_that_is_known(busy: World, page: TestClient) -> None:
    found = read(page, "/group?name=fill-r2")
    text = str(found)
    assert "Runs 2-3 (2)" in text
    assert "why it closed: run 4 is of a later fill" in text
    assert "scale task demo.skim" in text
    assert "Why it stands" not in text, "all of it is done"
    assert "published Scale revision 1 for runs 2–3" in text
    assert "../dags/demo__fill/runs/prompt__fill-r2" in found.links
    assert "../dags/demo__fill/runs/prompt__fill-r2/tasks/scale" in found.links
    assert "tag?campaign=prompt&tag=Scale" in found.links


def test_a_failed_group_leads_to_its_logs(busy: World, page: TestClient) -> None:
    job = tables.job
    with busy.ledger.write() as connection:
        failed = max(row.id for row in busy.rows(tables.generation))
        values = {"state": "failed", "host": "node7", "reason": "segmentation violation", "exit_code": 139}
        connection.execute(update(job).where(job.c.generation_id == failed, job.c.job_index == 1).values(**values))
    text = str(read(page, "/group?name=run-r5&workflow=demo"))
    assert "segmentation violation exit code 139 node7" in text
    assert "products/prompt/demo/skim/run-r5/g1/attempts/job-00001-a1/stderr" in text
    assert "`calib retry" in text


def test_a_waiting_group_says_for_what(busy: World, page: TestClient) -> None:
    text = str(read(page, "/group?name=run-r4&workflow=third"))
    assert "laser payload Scale … waiting 0 of 1 runs covered by payloads of Scale; missing 4 (no payload yet)" in text
    assert "never task other.check ✗ never other.check selected none of the 1 runs" in text
    assert "third.laser of run-r4 : … waiting 0 of 1 runs covered by payloads of Scale; missing 4" in text


def test_several_groups_of_a_name_are_listed(busy: World, page: TestClient) -> None:
    found = read(page, "/group?name=run-r5")
    assert [link for link in found.links if "name=run-r5" in link] == [
        f"group?campaign=prompt&workflow={name}&name=run-r5" for name in ("demo", "third")
    ]


def test_a_tag_shows_intervals_gaps_and_revisions(busy: World, page: TestClient) -> None:
    for name in ("fill-r4", "fill-r6"):
        with busy.ledger.write() as connection:
            connection.execute(update(tables.run_group).where(tables.run_group.c.name == name).values(state="closed"))
    busy.publish("fill-r6")
    busy.publish("fill-r2", '{"scale": 1.02}')
    text = page.get("/tag?tag=Scale").text
    assert [row[0] for row in rows_of(text)] == ["4–5"]
    assert rows_of(text)[0][1] == "2"
    assert '<rect class="gap"' in text
    assert "<title>gap: runs 4–5, 2 of them in groups</title>" in text
    assert "<title>runs 2–3, revision 1, superseded</title>" in text
    assert "<title>runs 2–3, revision 2, published</title>" in text
    assert "2 ✓ published , 1 – superseded" in str(read(page, "/tag"))


def test_candidates_wait_for_a_person(world: World, page: TestClient) -> None:
    late_fill(world)
    text = str(read(page, "/people"))
    assert "Payloads that do not hold yet 1" in text
    assert "Scale 3–3 ? candidate fill-r3 of demo" in text


def test_decisions_stand_beside_what_they_are_about(world: World, page: TestClient) -> None:
    late_fill(world)
    world.open_dag_runs()
    table = tables.payload_decision
    about = {"payload_id": 1, "n": 1, "content_hash": "0", "at": NOW, "details": {}}
    with world.ledger.write() as connection:
        made = {"kind": "approval", "outcome": "rejected", "person": "anna", "comment": "a jump"}
        connection.execute(insert(table).values(**about, **made))
        connection.execute(update(tables.payload).values(asked_at=NOW, expires_at=NOW))
    for address in ("/group?name=fill-r3", "/tag?tag=Scale"):
        assert "Scale 3–3 revision 1 approval ✗ rejected anna a jump" in str(read(page, address))
    assert "../dags/demo__fill/runs/prompt__fill-r3/tasks/deliver.approve" in read(page, "/people").links


def test_what_waits_for_a_person(busy: World, page: TestClient) -> None:
    with busy.ledger.write() as connection:
        values = {"trouble": {"code": "spec_broken", "file": "demo.yaml", "n": 1, "mistakes": ["line 3: nonsense"]}}
        file = {"workflow": "demo", "file": "demo.yaml", "hash": "0", "good_at": tables_now(busy), "held": False}
        connection.execute(tables.spec_file.delete().where(tables.spec_file.c.workflow == "demo"))
        connection.execute(insert(tables.spec_file).values(**file, **values, team="", trouble_since=tables_now(busy)))
    text = str(read(page, "/people"))
    assert "Failed tasks 1" in text
    assert "skim run-r5 of demo ✗ failed 2 of 2 jobs failed" in text
    assert "demo : demo.yaml cannot be used as it is" in text
    assert "line 3: nonsense" in text


def test_campaigns_have_their_progress(busy: World, page: TestClient) -> None:
    found = read(page, "/campaigns")
    assert "runs?campaign=prompt&state=failed" in found.links
    assert re.search(r"prompt ✓ open 6 of \d+ tasks ended, 1 failed", str(found)), str(found)
    assert "demo.skim" in str(found)


def test_what_belongs_to_airflows_ids(busy: World, page: TestClient) -> None:
    assert page.get("/dag?dag_id=demo__fill").headers["location"] == "runs?campaign=prompt&workflow=demo"
    found = page.get("/dag-run?dag_id=demo__run&run_id=prompt__run-r5&task_id=skim.locks")
    assert found.headers["location"] == "group?campaign=prompt&workflow=demo&name=run-r5#task-skim"
    text = str(read(page, "/dag-run?dag_id=demo__run&run_id=manual__1"))
    assert "The ledger has no group of the DAG run manual__1 of demo__run." in text
    assert "The ledger has nothing of the DAG calib_inject." in str(read(page, "/dag?dag_id=calib_inject"))


def test_an_empty_ledger_is_said(world: World, page: TestClient) -> None:
    assert "no runs yet" in str(read(page, "/runs"))
    assert "no payloads yet" in str(read(page, "/tag"))
    assert "Nothing." in str(read(page, "/people"))
    assert read(page, "/campaigns")


@pytest.mark.parametrize(
    "address",
    ["/runs?state=odd", "/runs?size=501", "/runs?size=0", "/runs?before=-1", "/runs?before=x", "/group", "/group?name=",
     "/group?name=a%00b", "/tag?before=99999999999999999999", "/campaigns?offset=-1", "/dag",
     "/dag-run?dag_id=demo__run", "/runs?search=" + "1" * 2001, "/runs?campaign=" + "a" * 251],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(busy: World, page: TestClient, address: str) -> None:
    assert page.get(address).status_code == 422


def test_pages_are_made_for_everybody(busy: World, page: TestClient) -> None:
    addresses = ("/runs", "/group?name=fill-r2", "/tag", "/tag?tag=Scale", "/campaigns", "/people")
    for address in addresses:
        text = page.get(address).text
        assert '<html lang="en">' in text
        assert len(re.findall(r"<h1\b", text)) == 1, address
        assert '<main id="content"' in text
        assert '<nav aria-label="Calibration">' in text
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), address
        assert set(re.findall(r'aria-labelledby="([^"]+)"', text)) <= set(ids), address
        assert re.findall(r"<th(?![a-z])(?! scope=)", text) == [], address
        assert re.findall(r"<svg(?![^>]*role=\"img\")", text) == [], address
        assert not re.search(r"\sstyle=|<style|\son[a-z]+=|https?://", text), "what the policy would not let run"
        inputs = re.findall(r"<(?:input|select)\b", text)
        assert len(inputs) == len(re.findall(r"<label>[^<]*<(?:input|select)\b", text)), address


@pytest.mark.parametrize(("airflow", "path"), [("https://a.org", ""), ("https://a.org/af/", "/af"), ("", "")])
def test_addresses_inside_of_airflow(airflow: str, path: str) -> None:
    base = f"{airflow.rstrip('/')}/plugin/calib{path}/calib"
    assert page_address(airflow, "people") == f"{base}/people"
    assert tag_address(airflow, "prompt", "A b&c") == f"{base}/tag?campaign=prompt&tag=A+b%26c"
    found = group_address(airflow, "prompt", "ecal", "fill-r1", "scale")
    assert found == f"{base}/group?campaign=prompt&workflow=ecal&name=fill-r1#task-scale"


def test_the_docs_name_every_view_and_parameter() -> None:
    text = (Path(__file__).parents[2] / "docs" / "page.md").read_text()
    rows = dict(re.findall(r"^\| `([a-z-]+)` \|(.*)\|$", text, re.M))
    queries = {"runs": RunsQuery, "group": GroupQuery, "tag": TagQuery, "dag": DagQuery, "dag-run": DagRunQuery}
    paging = {"before", "source", "offset"}
    assert set(rows) == {*queries, "campaigns", "people"}
    for view, query in queries.items():
        assert set(re.findall(r"`([a-z_]+)`", rows[view])) - {"prompt"} == set(query.model_fields) - paging, view
