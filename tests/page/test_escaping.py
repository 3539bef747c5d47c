"""What data says is shown as it was written, and never obeyed by a browser."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from sqlalchemy import insert, update
from starlette.testclient import TestClient

from airflow_calib_provider.ledger import tables
from airflow_calib_provider.page.app import HEADERS
from airflow_calib_provider.page.render import countdown
from tests.cli.world import NOW, World
from tests.page.conftest import As
from tests.page.test_views import Text

EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}\u202e\x1b[31m&amp;"

VIEWS = ("/runs", "/runs?campaign=prompt&state=failed", "/group?name=run-r5&workflow=demo", "/group?name=fill-r2",
         "/tag", "/people", "/campaigns")  # fmt: skip


@pytest.fixture
def evil(busy: World) -> World:
    """Everything that comes from outside is an attack."""
    task, job, payload = tables.group_task, tables.job, tables.payload
    with busy.ledger.write() as connection:
        why = {"code": "error", "message": EVIL}
        connection.execute(update(task).where(task.c.state == "failed").values(reason=why))
        generation = tables.generation
        connection.execute(update(generation).values(reason=why, trouble=EVIL, trouble_since=NOW, ended_by=EVIL))
        connection.execute(update(generation).where(generation.c.state == "done").values(state="running"))
        connection.execute(update(generation).values(git_commit=EVIL[:40], backend=EVIL))
        connection.execute(update(job).values(state="failed", reason=EVIL, host=EVIL))
        group = tables.run_group
        values = {"amounts": {EVIL: 1.0}, "close_reason": {"code": EVIL}}
        connection.execute(update(group).where(group.c.name == "fill-r2").values(**values))
        connection.execute(update(payload).values(tag=f"Scale{EVIL}", file_name=EVIL, content_hash=EVIL[:40]))
        table = tables.spec_file
        connection.execute(table.delete().where(table.c.workflow == "demo"))
        trouble = {"code": "spec_broken", "file": EVIL, "n": 1, "mistakes": [EVIL, f"{EVIL}\n{EVIL}"]}
        row = {"workflow": "demo", "file": EVIL, "hash": "0", "good_at": NOW, "held": False, "team": ""}
        connection.execute(insert(table).values(**row, trouble=trouble, trouble_since=NOW))
        connection.execute(tables.run_source.delete())
        source = {"name": EVIL, "serial": 1, "trouble": EVIL, "trouble_since": NOW}
        connection.execute(insert(tables.run_source).values(**source))
        skip = {
            "campaign": "prompt",
            "workflow": "demo",
            "task": "",
            "run": 4,
            "person": EVIL,
            "reason": EVIL,
            "at": NOW,
        }
        connection.execute(insert(tables.skip).values(**skip))
        connection.execute(update(tables.campaign).values(created_by=EVIL))
        request = tables.dag_run_request
        connection.execute(update(request).where(request.c.run_id == "prompt__fill-r2").values(run_id=EVIL))
        lock = tables.lock
        connection.execute(update(lock).values(parameters={EVIL: EVIL}, kind="odd"))
    return busy


def harmless(text: str) -> None:
    """Nothing of the attack is markup."""
    tags = set(re.findall(r"<\s*([a-z0-9]+)", text, re.I))
    assert "img" not in tags
    assert re.findall(r"<script[^>]*>", text) == ['<script src="static/page.js">']
    assert not re.search(r"<[^>]*\son\w+\s*=[^>]*>", re.sub(r'"[^"]*"', '""', text))
    assert "\u202e" not in text, "what turns the direction of writing is shown by its code"
    assert "\x1b" not in text
    assert "49" not in re.findall(r"onerror=alert\(2\)&gt;(..)", text)


@pytest.mark.parametrize("view", VIEWS)
def test_attacks_are_text(evil: World, page: TestClient, view: str) -> None:
    found = page.get(view)
    assert found.status_code == 200
    harmless(found.text)
    assert "<script>alert(1)</script>" in str(Text(found.text)), "it is shown as it was written"


ASKED = ("/runs?campaign=", "/runs?search=", "/runs?workflow=", "/runs?state=", "/group?name=", "/tag?tag=",
         "/nowhere/", "/dag?dag_id=", "/dag-run?run_id=x&dag_id=", "/dag-run?dag_id=demo__run&run_id=")  # fmt: skip


def test_attacks_in_the_address_are_text(busy: World, page: TestClient) -> None:
    for address in ASKED:
        found = page.get(address + "%22%27%3E%3Cscript%3Ealert(1)%3C/script%3E%3Cimg%20src=x%20onerror=alert(2)%3E")
        harmless(found.text)


def test_a_tag_that_is_an_attack_is_drawn_and_linked(evil: World, page: TestClient) -> None:
    (link,) = [link for link in Text(page.get("/tag").text).links if "tag=Scale" in link]
    found = page.get(f"/{unescape(link)}")
    assert found.status_code in (200, 422), "a name with control characters is refused"
    with evil.ledger.write() as connection:
        connection.execute(
            update(tables.payload).values(tag=f"Scale{EVIL[:-10]}".replace("\u202e", ""), state=EVIL[:30])
        )
    (link,) = [link for link in Text(page.get("/tag").text).links if "tag=Scale" in link]
    found = page.get(f"/{unescape(link)}")
    assert found.status_code == 200
    harmless(found.text)
    assert "<svg" in found.text


def test_links_of_data_stay_on_the_site(evil: World, page: TestClient) -> None:
    for view in VIEWS:
        for link in Text(page.get(view).text).links:
            assert re.match(r"(runs|group|tag|campaigns|people)(\?|$)|\.\./dags/|#content$", link), link


def test_what_browsers_are_told(busy: World, page: TestClient) -> None:
    for view in (*VIEWS, "/static/page.js", "/nowhere", "/runs?size=x", "/"):
        assert HEADERS.items() <= {**HEADERS, **dict(page.get(view).headers)}.items()
        headers = page.get(view).headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_ledger_that_is_away_is_said_and_no_more(busy: World, as_reader: As) -> None:
    file = busy.ledger.file
    assert file is not None
    file.rename(file.with_suffix(".away"))
    busy.ledger.close()
    found = as_reader().get("/runs")
    assert found.status_code == 503
    assert str(file) not in found.text


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (timedelta(minutes=125, seconds=30), "in 2 h 5 min"),
        (timedelta(days=3, seconds=30), "in 72 h"),
        (-timedelta(seconds=1), "passed just now"),
        (-timedelta(minutes=125, seconds=30), "passed 2 h 5 min ago"),
    ],
)
def test_what_is_left_of_a_time(left: timedelta, said: str) -> None:
    shown = countdown(datetime.now(UTC) + left)
    assert str(Text(str(shown))).endswith(f" {said}")
    assert countdown(None) == ""
