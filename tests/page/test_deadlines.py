"""Until when something is to be published, as a countdown wherever runs, groups and what people must do are shown."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from airflow_calib_provider.ledger import publication_deadlines, tables
from benchmarks.page import statements
from tests.cli.world import NOW, World, row
from tests.page.test_views import Text, read, rows_of

HOUR = timedelta(hours=1)
LEFT = r"in \d+ h( \d+ min)?"
AGO = r"passed \d+ h( \d+ min)? ago"
AT = r" \d{4}-\d\d-\d\d \d\d:\d\d"


@pytest.fixture
def due(world: World) -> World:
    """Fills 2, 3 and 4 are closed, and are to be published within 36 h of the end of their last run."""
    file = world.specs / "demo.yaml"
    file.write_text(file.read_text().replace("iov: group}", "iov: group, by: run_end + 36h}"))
    runs = [(2, 40.5), (3, 30.5), (4, 1.5)]
    world.inject(*(row(n, fill=n, lumi=12.0, hours_ago=ago) for n, ago in runs), row(5, fill=5, hours_ago=0.2))
    world.open_dag_runs()
    for _ in range(2):  # they begin to count, and are looked at once they do
        publication_deadlines.watch(world.ledger, NOW)
    return world


def of_run(page: TestClient, number: int) -> str:
    """What stands in the cell of its publication."""
    rows = {one[0].split()[0]: one for one in rows_of(page.get("/runs?workflow=demo").text)}
    return rows[str(number)][3]


def test_runs_have_the_time_that_is_left(due: World, page: TestClient) -> None:
    assert re.search(rf"to be published ◷ in 34 h \d+ min{AT}$", of_run(page, 4))
    assert re.search(rf"to be published ! near: in 5 h \d+ min{AT}$", of_run(page, 3))
    assert re.search(rf"to be published ✗ passed 4 h \d+ min ago{AT}$", of_run(page, 2))
    assert "to be published" not in of_run(page, 5), "its group takes runs"


def test_near_and_passed_are_marked_before_anybody_was_told(due: World, page: TestClient) -> None:
    for hours, word in ((3, "near: in 2 h 59 min"), (-1, "passed 1 h 0 min ago")):
        with due.ledger.write() as connection:
            table = tables.publication_deadline
            values = {"state": "counting", "due": NOW + hours * HOUR, "look_at": NOW + 99 * HOUR}
            if hours > 0:
                values["due"] += timedelta(seconds=59)
            connection.execute(update(table).where(table.c.group_id == due.group("fill-r4").id).values(**values))
        said = of_run(page, 4)
        assert word.split(":")[0].split()[0] in said
        assert re.search(LEFT if hours > 0 else AGO, said)


def test_a_group_has_it_beside_its_task(due: World, page: TestClient) -> None:
    text = page.get("/group?name=fill-r3").text
    tasks = text[text.index('id="tasks"') :]
    (deliver,) = [one for one in rows_of(tasks) if one[0] == "deliver"]
    assert re.fullmatch(rf"! near: in 5 h \d+ min{AT}", deliver[-1])
    assert "To be published" in str(Text(tasks))
    due.publish("fill-r3")
    text = page.get("/group?name=fill-r3").text
    (deliver,) = [one for one in rows_of(text[text.index('id="tasks"') :]) if one[0] == "deliver"]
    assert re.fullmatch(rf"✓ published; was due{AT}", deliver[-1])
    assert "to be published" not in of_run(page, 3)


def test_a_group_without_one_has_no_column_for_it(busy: World, page: TestClient) -> None:
    assert "To be published" not in str(read(page, "/group?name=fill-r2"))


def test_people_see_what_is_near_and_what_has_passed(due: World, page: TestClient) -> None:
    text = page.get("/people").text
    due_part = text[text.index('id="due"') :]
    assert "Publications whose deadline is near or has passed 2" in str(Text(due_part))
    found = rows_of(due_part)
    assert [one[:2] for one in found] == [["deliver", "fill-r2 of demo"], ["deliver", "fill-r3 of demo"]]
    assert re.match(r"✗ passed 4 h \d+ min ago", found[0][2])
    assert re.match(r"! near: in 5 h \d+ min", found[1][2])
    for name in ("fill-r2", "fill-r3"):
        due.publish(name)
    assert 'id="due"' not in page.get("/people").text


def test_what_somebody_skipped_is_nobodys_deadline(due: World, page: TestClient) -> None:
    with due.ledger.write() as connection:
        here = tables.group_task.c.group_id == due.group("fill-r2").id
        connection.execute(update(tables.group_task).where(here).values(state="skipped"))
    text = page.get("/people").text
    assert [one[1] for one in rows_of(text[text.index('id="due"') :])] == ["fill-r3 of demo"]
    assert "to be published" not in of_run(page, 2)


def test_who_may_not_read_the_dag_sees_no_deadline(due: World, as_reader: Callable[..., TestClient]) -> None:
    text = as_reader("demo__run", "third__run").get("/people").text
    assert "fill-r" not in text
    assert 'id="due"' not in text


def test_a_payload_to_decide_about_has_the_deadline_of_its_publication(due: World, page: TestClient) -> None:
    due.publish("fill-r3")
    with due.ledger.write() as connection:
        connection.execute(update(tables.payload).values(state="validated"))
        connection.execute(
            update(tables.publication_deadline)
            .where(tables.publication_deadline.c.state == "met")
            .values(state="near", look_at=NOW + 99 * HOUR)
        )
    (undecided, *_) = rows_of(page.get("/people").text)
    assert re.fullmatch(rf"! near: in 5 h \d+ min{AT}", undecided[-1])


def test_it_costs_one_statement_however_many_there_are(due: World, page: TestClient) -> None:
    counts = []
    for query in ("search=2", "search=2-5"):
        with statements(due.ledger) as seen:
            page.get(f"/runs?workflow=demo&{query}")
        counts.append(len(seen))
    assert counts[0] == counts[1]
