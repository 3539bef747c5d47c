"""A workflow that publishes a set of two tags to a git repository and to a nopayloaddb, and who looks meanwhile."""

from __future__ import annotations

import subprocess
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import publications, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from airflow_calib_provider.outside.placing import drift
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.outgoing import writable
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.spec.models import OutsideTarget, Publish, Workflow
from tests.ledger.making import facts, fill, group_ids, put_runs, task, workflow
from tests.outside.nopayloaddb import Nopayloaddb

TAGS = ("Scale", "Errors")
GIT = OutsideTarget(kind="git", place="conditions/main")
DATABASE = OutsideTarget(kind="nopayloaddb", place="npdb/PROMPT")
FILLS = 4
"""Of two runs each."""


def connect(folder: Path, url: str) -> None:
    """Let this process know the connections."""
    known = {
        "conditions": OutsideConnection("conditions", "calib_git", host=str(folder / "conditions.git")),
        "npdb": OutsideConnection("npdb", "calib_nopayloaddb", host=url, extra={"files": str(folder / "files")}),
    }
    look_up_with(known.get)


def flow_of(folder: Path, **options: Any) -> Workflow:
    """The workflow."""
    made = workflow("ecal", task("deliver", fill(), publish="Scale", file="x"))
    files = [(tag, str(folder / "products" / tag)) for tag in TAGS]
    options = {"stores": (GIT, DATABASE), **options}
    options = {"more": (files[1],), **options}
    publish = Publish(tag=files[0][0], file=files[0][1], **options)
    tasks = {"deliver": made.tasks["deliver"].model_copy(update={"publish": publish})}
    return made.model_copy(update={"tasks": tasks})


Text = str | dict[str, str]
"""What the files begin with: all, or each by its tag."""


def publish(url: str, folder: Path, group: int, text: Text, server: str, options: dict[str, Any]) -> Published:
    """What the task does, in any process."""
    connect(folder, server)
    for tag in TAGS:
        (folder / "products" / tag).write_text(f"{text if isinstance(text, str) else text[tag]} of {tag}")
    ledger = Ledger(url)
    flow = flow_of(folder, **options)
    try:
        return publish_group(ledger, flow, flow.tasks["deliver"], group, now=datetime.now(UTC))
    finally:
        ledger.close()


class Outward:
    """It, with its stores."""

    def __init__(self, folder: Path, ledger: Ledger, server: Nopayloaddb) -> None:
        self.folder, self.ledger, self.server = folder, ledger, server
        self.url = ledger.url.render_as_string(hide_password=False)
        for name in ("files", "products"):
            (folder / name).mkdir()
        subprocess.run(
            ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(folder / "conditions.git")], check=True
        )
        server.make("PROMPT", *TAGS)
        connect(folder, server.url)
        put_runs(ledger, flow_of(folder), [facts(run, 1 + (run - 1) // 2) for run in range(1, 2 * FILLS + 2)])
        self.groups = list(group_ids(ledger, "fill").values())

    def arguments(self, group: int, text: Text, **options: Any) -> tuple[Any, ...]:
        """Of :func:`publish`."""
        return self.url, self.folder, group, text, self.server.url, options

    def publish(self, group: int, text: Text, **options: Any) -> Published:
        """In this process."""
        return publish(*self.arguments(group, text, **options))

    def is_whole(self) -> None:
        """Each store has what the ledger says, and the ledger says it of all stores and tags alike."""
        with self.ledger.read() as connection:
            assert publications.on_their_way(connection) == []
            payload = tables.payload
            rows = connection.execute(select(payload).where(payload.c.state == "published")).all()
            valid = {(row.tag, row.first_run, row.last_run, row.content_hash) for row in rows}
            for one in publications.tags_written(connection):
                placed = publications.expected(connection, one.store, one.tag) or []
                assert drift(placed, writable(one.store).current(one.tag)) == []
                assert {(one.tag, *item.key[:2], item.ref.hash) for item in placed} == {
                    item for item in valid if item[0] == one.tag
                }
                assert one.holder is None
                assert one.publication is None

    def holds(self, run: int = 1) -> list[str]:
        """What the ledger says that holds for a run, of each tag."""
        with self.ledger.read() as connection:
            return [store.content_path(store.find(connection, "prompt", tag, run)).read_text() for tag in TAGS]

    def states(self) -> list[str]:
        """Of the payloads, in the order in which they were made."""
        with self.ledger.read() as connection:
            return list(connection.execute(select(tables.payload.c.state).order_by(tables.payload.c.id)).scalars())


class Reader(threading.Thread):
    """Looks all the time at what the ledger says is published."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True)
        self.url, self.over, self.halves, self.looks = url, threading.Event(), [], 0

    def run(self) -> None:
        ledger, payload = Ledger(self.url), tables.payload
        while not self.over.is_set():
            with ledger.read() as connection:
                query = select(payload.c.group_id, payload.c.tag, payload.c.revision)
                rows = connection.execute(query.where(payload.c.state == "published")).all()
            self.looks += 1
            of: dict[int, dict[str, int]] = {}
            for row in rows:
                of.setdefault(row.group_id, {})[row.tag] = row.revision
            self.halves += [one for one in of.values() if set(one) != set(TAGS) or len(set(one.values())) > 1]
        ledger.close()

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()
        assert self.looks
        assert self.halves == []
