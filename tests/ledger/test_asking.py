"""What lies outside of the ledger is asked once for all, never in the way of others, and what was answered is a row."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select, update

from airflow_calib_provider.api.explaining import explain
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.ledger import outside, tables
from airflow_calib_provider.ledger.asking import AT_ONE_PLACE, Asker, questions_of
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.waiting import Key, look
from airflow_calib_provider.outside.connections import OutsideConnection
from tests.ledger.making import facts, group_ids, put_runs, task, workflow
from tests.outside.server import Asked, JsonServer, json_server

FLOW = workflow("flow", task("fit"))
SERVICE = {
    **{"connection": "quality", "path": "/runs", "parameters": {}, "at": "", "fields": {"status": "string"}},
    **{"when": "answer.status == 'good'", "what": "quality/runs", "timeout": 20, "every": 0},
}


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with json_server() as found:
        yield found


@pytest.fixture
def asker(ledger: Ledger, server: JsonServer) -> Asker:
    return Asker(ledger, lambda name: OutsideConnection(name, "calib_http", host=server.url))


def locked(ledger: Ledger, kind: str, parameters: dict[str, Any], runs: int = 1) -> list[Key]:
    """Groups of one run each, whose task has such a lock."""
    known = len(group_ids(ledger, "run", "flow"))
    if known < runs:
        put_runs(ledger, FLOW, [facts(number, 1) for number in range(known + 1, runs + 1)])
    ids = list(group_ids(ledger, "run", "flow").values())
    row = {"task": "fit", "kind": kind, "parameters": parameters, "deadline": None}
    with ledger.write() as connection:
        at = len(connection.execute(select(tables.lock).where(tables.lock.c.group_id == ids[0])).all())
        connection.execute(insert(tables.lock), [{"group_id": group, "position": at, **row} for group in ids])
    return [(group, "fit") for group in ids]


def file(path: Path | str, stable_for: float = 0, **more: Any) -> dict[str, Any]:
    return {"path": str(path), "what": str(path), "stable_for": stable_for, "every": 0, **more}


def said(ledger: Ledger, key: Key) -> str:
    """Why it is shut; empty: it is open."""
    with ledger.read() as connection:
        found = look(connection, [key])[key]
    assert found.state in ("open", "waiting")
    return render(found.reason)


def ask(asker: Asker, keys: list[Key], patience: float = 20.0) -> int:
    asked = asker.start(keys)
    asker.finish(patience)
    return asked


def an_hour_passes(ledger: Ledger) -> None:
    """What was seen was seen an hour earlier."""
    table = tables.outside_answer
    with ledger.write() as connection:
        for row in connection.execute(select(table)).all():
            since = datetime.fromisoformat(row.data["since"]) - timedelta(hours=1, seconds=1)
            here = table.c.question == row.question
            connection.execute(update(table).where(here).values(data={**row.data, "since": since.isoformat()}))


def test_a_file_that_comes_and_is_written(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    path = tmp_path / "laser.json"
    (key,) = locked(ledger, "file", file(path, stable_for=3600))
    assert said(ledger, key) == f"file {path}: was not asked yet"
    ask(asker, [key])
    assert said(ledger, key) == f"file {path}: is not there"
    path.touch()
    ask(asker, [key])
    assert said(ledger, key) == f"file {path}: is empty"
    for text in ("1", "12"):
        path.write_text(text)
        ask(asker, [key])
        assert "must be unchanged for 1h" in said(ledger, key), "the time counts from the last change"
        an_hour_passes(ledger)
    ask(asker, [key])
    assert said(ledger, key) == ""
    path.unlink()
    ask(asker, [key])
    assert said(ledger, key) == f"file {path}: is not there"


def test_explain_says_when_it_was_asked_and_what_was_answered(
    ledger: Ledger, asker: Asker, server: JsonServer, tmp_path: Path
) -> None:
    (tmp_path / "x").write_text("123")
    locked(ledger, "file", file(tmp_path / "x", stable_for=3600))
    (key,) = locked(ledger, "http", SERVICE)

    def lines() -> list[str]:
        cause = next(one for one in explain(ledger, "run-r1", workflow="flow") if one.task == "fit")
        return list(cause.asked)

    assert lines() == [f"file {tmp_path}/x: not asked yet", "http quality/runs: not asked yet"]
    ask(asker, [key])
    of_file, of_service = lines()
    assert of_file.startswith(f"file {tmp_path}/x: answered at 20")
    assert "3 bytes, seen so since 20" in of_file
    assert "asked again from 20" in of_file
    assert "http quality/runs: answered at 20" in of_service
    server.answer = lambda asked: asked.reply({"status": "bad"})
    ask(asker, [key])
    assert "the last answer was HTTP 200, application/json" in lines()[1]
    assert "status is the text 'bad'" in lines()[1]


def folder(path: Path) -> None:
    path.mkdir()


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "nowhere")


def pipe(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("make", "why"),
    [(folder, "is a folder"), (link_to_nowhere, "is a link that leads nowhere"), (pipe, "is no file, but a device")],
)
def test_what_is_no_file(ledger: Ledger, asker: Asker, tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    make(tmp_path / "it")
    (key,) = locked(ledger, "file", file(tmp_path / "it"))
    ask(asker, [key])
    assert said(ledger, key).startswith(f"file {tmp_path}/it: {why}")


def test_a_link_is_what_it_leads_to(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (key,) = locked(ledger, "file", file(tmp_path / "link"))
    ask(asker, [key])
    assert said(ledger, key) == ""


def test_a_file_for_each_run_and_a_name_that_is_none(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    template = f"{tmp_path}/{{{{ run.number }}}}-{{{{ group.name }}}}.json"
    keys = locked(ledger, "file", file(template, each_run=True), runs=3)
    (tmp_path / "2-run-r2.json").write_text("1")
    assert ask(asker, keys) == 3
    assert [said(ledger, key) for key in keys] == [
        f"file {template}: 1 (is not there)",
        "",
        f"file {template}: 3 (is not there)",
    ]
    broken = locked(ledger, "file", file(f"{tmp_path}/{{{{ params.x }}}}", params={"x": "a\nb"}), runs=3)
    ask(asker, broken)
    assert "has a line break" in said(ledger, broken[0])


def test_skipped_runs_are_not_asked_for(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:

    keys = locked(ledger, "file", file(f"{tmp_path}/{{{{ run.number }}}}", each_run=True), runs=2)
    with ledger.write() as connection:
        skip = tables.skip
        row = {"campaign": "prompt", "workflow": "flow", "run": 1, "task": "", "person": "me", "reason": "bad"}
        connection.execute(insert(skip), {**row, "at": datetime.now(UTC)})
    assert ask(asker, keys) == 1
    with ledger.read() as connection:
        assert look(connection, keys)[keys[0]].state == "never"


def test_a_service(ledger: Ledger, asker: Asker, server: JsonServer) -> None:
    keys = locked(ledger, "http", SERVICE, runs=40)
    server.answer = lambda asked: asked.reply({"status": "bad"})
    assert ask(asker, keys) == 1
    assert len(server.asked) == 1, "all of them ask the same"
    assert {said(ledger, key) for key in keys} == {"http quality/runs: is not so yet: status is the text 'bad'"}
    server.answer = lambda asked: asked.reply({"status": "good", "more": [1]})
    ask(asker, keys)
    assert {said(ledger, key) for key in keys} == {""}


def test_it_is_not_asked_more_often_than_it_says(ledger: Ledger, asker: Asker, server: JsonServer) -> None:
    keys = locked(ledger, "http", {**SERVICE, "every": 60}, runs=3)
    assert ask(asker, keys) == 1
    assert ask(asker, keys) == 0
    other = Asker(ledger, asker._connect)
    assert ask(other, keys) == 0, "nor by another process"
    with ledger.write() as connection:
        asked_at = datetime.now(UTC) - timedelta(seconds=61)
        connection.execute(update(tables.outside_answer).values(asked_at=asked_at))
    assert asker.start(keys) + other.start(keys) == 1
    asker.finish(20)
    other.finish(20)
    assert len(server.asked) == 2


def html(asked: Asked) -> None:
    asked.reply(b"<html>log in</html>", Content_Type="text/html")


def busy(asked: Asked) -> None:
    asked.reply({}, 429, Retry_After="5")


def large(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", str(50_000_000))
    asked.end_headers()
    for _ in range(50):
        asked.wfile.write(b" " * 1_000_000)


def truncated(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", "1000")
    asked.end_headers()
    asked.wfile.write(b'{"status": ')
    asked.close_connection = True


def never(asked: Asked) -> None:
    asked.server.over.wait(60)


def drops(asked: Asked) -> None:
    asked.send_response(200)
    asked.send_header("Content-Length", "1000")
    asked.end_headers()
    while not asked.server.over.wait(0.1):
        asked.wfile.write(b" ")
        asked.wfile.flush()


def elsewhere(asked: Asked) -> None:
    asked.reply({}, 302, Location="http://other.invalid/runs")


def around(asked: Asked) -> None:
    asked.reply({}, 302, Location=asked.path)


def a_list(asked: Asked) -> None:
    asked.reply([1])


def without_the_field(asked: Asked) -> None:
    asked.reply({"state": "good"})


def of_another_type(asked: Asked) -> None:
    asked.reply({"status": 5})


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (html, "a page of HTML, not JSON"),
        (busy, "HTTP 429, and asks to wait 5 s"),
        (large, "more than 1,000,000 bytes"),
        (truncated, "IncompleteRead"),
        (never, "no complete answer within 1 s"),
        (drops, "no complete answer within 1 s"),
        (elsewhere, "not on the host of the connection"),
        (around, "more than 5 redirects"),
        (a_list, "the answer is a list, not an object"),
        (without_the_field, "the field 'status' is null"),
        (of_another_type, "the field 'status' is 5"),
    ],
)
def test_what_is_no_answer_is_a_reason(
    ledger: Ledger, asker: Asker, server: JsonServer, answer: Callable[[Asked], None], why: str
) -> None:
    (key,) = locked(ledger, "http", {**SERVICE, "timeout": 1})
    server.answer = answer
    ask(asker, [key])
    text = said(ledger, key)
    assert text.startswith("http quality/runs: cannot be asked: ")
    assert why in text


def odd_tag(asked: Asked) -> None:
    asked.wfile.write(b"HTTP/1.1 200 OK\r\nETag: a\x00b\xe9\r\nContent-Length: %s\r\n\r\n" % (b"9" * 5_000))
    asked.close_connection = True


def test_what_a_server_says_of_a_file_is_kept_as_text_that_can_be(
    ledger: Ledger, asker: Asker, server: JsonServer
) -> None:
    url = f"{server.url}/x"
    (key,) = locked(ledger, "file", {"url": url, "what": url, "stable_for": 0, "every": 0})
    server.answer = odd_tag
    ask(asker, [key])
    assert said(ledger, key) == ""


def test_a_connection_that_is_not_there(ledger: Ledger) -> None:
    (key,) = locked(ledger, "http", SERVICE)
    ask(Asker(ledger, lambda name: None), [key])
    assert "there is no connection 'quality'" in said(ledger, key)


def test_a_place_that_hangs_holds_up_nobody_else(
    ledger: Ledger, asker: Asker, server: JsonServer, tmp_path: Path
) -> None:
    keys = locked(ledger, "http", {**SERVICE, "path": "/{{ group.name }}"}, runs=20)
    server.answer = never
    (tmp_path / "there").write_text("1")
    begin = time.monotonic()
    asker.tick(keys)
    files = locked(ledger, "file", file(tmp_path / "there"), runs=20)
    asker.tick(files)
    assert time.monotonic() - begin < 5, "nobody waits for an answer"
    asker.finish(1)
    with ledger.read() as connection:
        rows = connection.execute(select(tables.outside_answer)).all()
    assert [row.opens for row in rows if row.kind == "file"] == [True]
    assert [row.answered_at for row in rows if row.kind == "http"] == [None] * 20
    assert len(server.asked) == AT_ONE_PLACE


def test_what_was_good_before_a_trouble_is_not_begun_anew(ledger: Ledger, asker: Asker, server: JsonServer) -> None:
    address = f"{server.url}/laser.json"
    (key,) = locked(ledger, "file", {"url": address, "what": address, "stable_for": 3600, "every": 0})
    server.answer = lambda asked: asked.reply({"a": 1}, ETag='"1"')
    ask(asker, [key])
    assert "is there since" in said(ledger, key)
    server.answer = lambda asked: asked.reply({}, 503)
    ask(asker, [key])
    assert "cannot be asked" in said(ledger, key)
    an_hour_passes(ledger)
    server.answer = lambda asked: asked.reply({"a": 1}, ETag='"1"')
    ask(asker, [key])
    assert said(ledger, key) == ""
    server.answer = lambda asked: asked.reply({"a": 1}, ETag='"2"')
    ask(asker, [key])
    assert "is there since" in said(ledger, key)
    server.answer = lambda asked: asked.reply({}, 404)
    ask(asker, [key])
    assert said(ledger, key).endswith(": is not there")


def test_groups_that_form_are_not_asked_for(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    keys = locked(ledger, "file", file(tmp_path / "x"))
    with ledger.write() as connection:
        connection.execute(update(tables.run_group).values(closed_at=None))
    assert ask(asker, keys) == 0
    assert said(ledger, keys[0]).endswith("is asked when the group is closed")


def test_old_answers_are_forgotten(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    keys = locked(ledger, "file", file(tmp_path / "x"))
    ask(asker, keys)
    now = datetime.now(UTC)
    with ledger.write() as connection:
        assert outside.forget(connection, now) == 0
        assert outside.forget(connection, now + timedelta(days=31)) == 1
        assert len(questions_of(connection, keys)) == 1


def stored(place: Path) -> dict[str, Any]:
    return {"tag": "Laser", "store": f"folder:{place}", "what": f"Laser in folder:{place}", "every": 0}


def test_payloads_of_an_outside_store(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    keys = locked(ledger, "stored_payload", stored(tmp_path), runs=4)
    assert ask(asker, keys) == 1
    assert f"there is neither Laser.csv nor Laser.json in {tmp_path}" in said(ledger, keys[0])
    (tmp_path / "Laser.csv").write_text("first_run,last_run,file\n3,,b.json\n1,1,a.json\n")
    ask(asker, keys)
    assert [said(ledger, key) for key in keys] == [
        "",
        f"0 of 1 runs covered by Laser in folder:{tmp_path}; missing 2 (no payload there yet)",
        "",
        "",
    ]
    (tmp_path / "Laser.csv").unlink()
    ask(asker, keys)
    assert said(ledger, keys[3]) == "", "a store that is away takes nothing back"
    assert "neither Laser.csv" in said(ledger, keys[1])
    (tmp_path / "Laser.json").write_text('[{"first_run": 1, "last_run": 2, "file": "c.json"}]')
    ask(asker, keys)
    assert [bool(said(ledger, key)) for key in keys] == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("Laser.csv", "first_run,last_run,file\n1,5,a\n5,7,b\n", "overlap: those from run 1 and from run 5"),
        ("Laser.csv", "first_run,last_run,file\n5,1,a\n", "ends with run 1, before it begins with 5"),
        ("Laser.csv", "first_run,last_run\n1,5\n", "interval 1: it has no first_run, or no file"),
        ("Laser.csv", "first_run,last_run,file\nx,,a\n", "first_run is 'x', not a run number"),
        ("Laser.json", '{"first_run": 1}', "it is not a list of objects"),
        ("Laser.json", "<html>", "cannot be read"),
        ("Laser.json", r'[{"first_run": 1, "file": "a", "sha256": "\u0000"}]', "sha256 is '\\x00', which is none"),
    ],
)
def test_listings_that_are_none(ledger: Ledger, asker: Asker, tmp_path: Path, name: str, text: str, why: str) -> None:
    (key,) = locked(ledger, "stored_payload", stored(tmp_path))
    (tmp_path / name).write_text(text)
    ask(asker, [key])
    assert why in said(ledger, key)


def test_what_templates_get_of_an_outside_store(ledger: Ledger, asker: Asker, tmp_path: Path) -> None:
    from airflow_calib_provider.jobsets.locked import locked_payloads
    from airflow_calib_provider.spec.models import Lock

    keys = locked(ledger, "stored_payload", stored(tmp_path), runs=3)
    (tmp_path / "Laser.csv").write_text("first_run,last_run,file,sha256\n1,1,a.json,ff\n3,,b.json,\n")
    ask(asker, keys)
    flow = task("fit").model_copy(update={"locks": (Lock(kind="stored_payload", parameters=stored(tmp_path)),)})
    with ledger.read() as connection:
        files, used = locked_payloads(connection, flow, "prompt", [1, 3], [])
        older, _ = locked_payloads(connection, flow, "prompt", [2], [{"tag": "Laser", "then": "last_good"}])
        none, _ = locked_payloads(connection, flow, "prompt", [2], [{"tag": "Laser", "then": "go_on"}])
    assert files == {"Laser": [f"{tmp_path}/a.json", f"{tmp_path}/b.json"]}
    assert [(one["first_run"], one["last_run"], one["hash"]) for one in used["outside"]] == [
        (1, 1, "ff"),
        (3, None, ""),
    ]
    assert older == {"Laser": [f"{tmp_path}/a.json"]}
    assert none == {"Laser": []}
