"""A set of two tags goes to git and to a nopayloaddb from a real Airflow, and then its constants change.

A worker dies between two stores, a store is away, another refuses in the middle; a deadline passes, and what is before
the group holds until its own is there; what is stale is run again (rules 61, 70, 71).
"""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation
from tests.messages.chat import FakeMattermost, mattermost
from tests.outside.nopayloaddb import Nopayloaddb, nopayloaddb

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(1200)]

WORKFLOW, READER = "outward", "reading"
DAG = f"{WORKFLOW}__run"
SCALE, ERRORS, FIT = TAGS = ("OutwardScale", "OutwardErrors", "OutwardFit")
KILLED, AWAY, REFUSED, LATE, FOUND = 7801, 7802, 7803, 7804, 7805
SECRET = "kdwtr-not-to-be-seen"

CRASH_AT = ["publication.after_receipt@hand_over"]

MAKE = """\
while [ -e "$1/hold/$2" ]; do sleep 0.2; done
for tag in scale errors; do echo $tag of $2 $(cat "$1/version/$2" 2>/dev/null) > "$CALIB_OUT/$tag.json"; done
"""

SPEC = """\
apiVersion: calib/v1
workflow: outward
runs: {source: outward, since: 1}
tasks:
  make:
    group_by: run
    jobs: {command: [sh, "FOLDER/make.sh", FOLDER, "{{ run.number }}"]}
    products: {scale: scale.json, errors: errors.json}
  hand_over:
    group_by: run
    needs: [make]
    publish:
      set:
        - {tag: OutwardScale, file: "{{ tasks.make.products.scale }}"}
        - {tag: OutwardErrors, file: "{{ tasks.make.products.errors }}"}
      stores:
        - {store: git, connection: conditions, branch: main}
        - {store: nopayloaddb, connection: npdb, global_tag: PROMPT}
"""

AFTER = """\
  archive:
    group_by: run
    needs: [hand_over]
    jobs: {command: ["true"]}
"""

DEADLINE = "      by: run_end + 36h\n      fallback: previous\n"

READING = """\
apiVersion: calib/v1
workflow: reading
runs: {source: outward, since: 1}
tasks:
  fit:
    group_by: run
    locks: [{payload: {tag: OutwardScale}}]
    jobs: {command: [cp, "{{ payloads.OutwardScale[0] }}", fit.json]}
    products: {fit: fit.json}
  keep:
    group_by: run
    needs: [fit]
    publish: {tag: OutwardFit, file: "{{ tasks.fit.products.fit }}"}
"""

MESSAGES = """\
apiVersion: calib/v1
channels:
  shift:
    mattermost: {connection: chat_of_experts}
    tell: [deadline]
    workflows: [outward]
    every: 5s
"""


class Outside:
    """The stores, as their users see them, and what decides of what is made."""

    def __init__(self, installation: Installation, server: Nopayloaddb, chat: FakeMattermost) -> None:
        self.installation, self.server, self.chat = installation, server, chat
        self.repository = installation.folder / "conditions.git"
        self.files = installation.folder / "nopayloaddb-files"
        self.control = installation.folder / "outward-control"
        for folder in (self.files, self.control / "hold", self.control / "version"):
            folder.mkdir(parents=True)
        (self.control / "make.sh").write_text(MAKE)

    def connect(self) -> None:
        """As a person does in Airflow's pages."""
        command = ["git", "init", "--quiet", "--bare", "--initial-branch=main", str(self.repository)]
        subprocess.run(command, check=True)
        self.server.make("PROMPT", SCALE, ERRORS)
        self.server.token = SECRET
        files = {"extra": json.dumps({"files": str(self.files)})}
        plain = {"extra": json.dumps({"plain_http": True})}
        for made in (
            {"connection_id": "conditions", "conn_type": "generic", "host": str(self.repository)},
            {"connection_id": "npdb", "conn_type": "calib_nopayloaddb", "host": self.server.url, "password": SECRET}
            | files,
            {"connection_id": "chat_of_experts", "conn_type": "calib_mattermost", "password": self.chat.url} | plain,
        ):
            self.installation.airflow.call("POST", "/api/v2/connections", made)

    def release(self, run: int) -> None:
        """Let the constants of a run be made."""
        (self.control / "hold" / str(run)).unlink()

    def in_git(self, tag: str) -> dict[int, str]:
        """First run → content, as the branch has it."""
        show = ["git", "-C", str(self.repository), "show"]
        listing = subprocess.run([*show, f"main:{tag}.csv"], capture_output=True, text=True, check=False).stdout
        found = {}
        for row in csv.DictReader(listing.splitlines()):
            assert row["first_run"] == row["last_run"]
            kept = subprocess.run([*show, f"main:{row['file']}"], capture_output=True, text=True, check=True).stdout
            found[int(row["first_run"])] = kept.strip()
        return found

    def in_database(self, tag: str) -> dict[int, str]:
        """The same, of the server."""
        found = {}
        for one in self.server.of_list(self.server.list_of("PROMPT", tag) or ""):
            assert one["major_iov_end"] == one["major_iov"] + 1
            found[one["major_iov"]] = (self.files / one["payload_url"]).read_text().strip()
        return found

    def have(self, contents: dict[int, str]) -> None:
        """Both stores and the ledger have these of both tags, and nothing else."""
        for tag, name in ((SCALE, "scale"), (ERRORS, "errors")):
            wanted = {run: f"{name} of {text}" for run, text in contents.items()}
            assert (self.in_git(tag), self.in_database(tag)) == (wanted, wanted)
            of = tables.payload.c
            query = select(of.first_run, of.content_hash).where(of.tag == tag, of.state == "published")
            held = {row.first_run: row.content_hash for row in self.installation.rows(query)}
            assert held == {run: hashlib.sha256(f"{text}\n".encode()).hexdigest() for run, text in wanted.items()}

    def told(self, run: int) -> list[str]:
        """The first lines of the messages about a run."""
        posts = [text.replace("\\", "") for text in self.chat.posts]
        return [text.partition("\n")[0] for text in posts if f"run-r{run}" in text]

    def commits(self) -> list[str]:
        """The subjects of the branch's commits, the newest first."""
        log = ["git", "-C", str(self.repository), "log", "--format=%s", "main"]
        return subprocess.run(log, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture(scope="module")
def outside(installation: Installation) -> Iterator[Outside]:
    with nopayloaddb() as server, mattermost() as chat:
        made = Outside(installation, server, chat)
        made.connect()
        installation.add_source("outward")
        installation.write_workflow(WORKFLOW, SPEC.replace("FOLDER", str(made.control)))
        installation.write_workflow(READER, READING)
        (installation.specs / "messages.yaml").write_text(MESSAGES)
        installation.airflow.wait_for_dags(DAG, f"{READER}__run", "calib_messages")
        yield made
        (installation.specs / "messages.yaml").unlink()


def add(outside: Outside, *runs: int) -> None:
    """Runs whose constants are not made before they are released."""
    for run in runs:
        (outside.control / "hold" / str(run)).touch()
    outside.installation.add_runs(runs)
    assert outside.installation.inject() == "success"


def state(installation: Installation, run: int, task: str = "hand_over", workflow: str = WORKFLOW) -> str | None:
    return installation.task_states().get((f"{workflow}/run-r{run}", task))


def wait_for(installation: Installation, run: int, wanted: str = "done", *where: str) -> None:
    installation.wait(lambda: state(installation, run, *where) == wanted, 300, f"{run} {where} to be {wanted}")


def payloads(installation: Installation, tag: str, run: int) -> list[tuple[int, str]]:
    """Revision and state of what was made for a run."""
    of = tables.payload.c
    query = select(of.revision, of.state).where(of.tag == tag, of.first_run == run).order_by(of.revision)
    return [tuple(row) for row in installation.rows(query)]


def explained(installation: Installation, run: int) -> str:
    return installation.calib("explain", f"run-r{run}", "--workflow", WORKFLOW, "--task", "hand_over")


def tries(installation: Installation, run: int) -> dict[str, int]:
    """Task → how often Airflow has tried it."""
    path = f"/api/v2/dags/{DAG}/dagRuns/prompt__run-r{run}/taskInstances"
    return {one["task_id"]: one["try_number"] for one in installation.airflow.call("GET", path)["task_instances"]}


def test_a_worker_that_dies_between_two_stores(installation: Installation, outside: Outside) -> None:
    """Airflow's retry does what is missing, and nothing twice."""
    add(outside, KILLED, AWAY, REFUSED)
    outside.release(KILLED)
    wait_for(installation, KILLED)
    assert (installation.crashes / CRASH_AT[0]).exists()
    outside.have({KILLED: f"{KILLED}"})
    assert len(outside.commits()) == 1
    assert tries(installation, KILLED)["hand_over"] == 2
    assert payloads(installation, SCALE, KILLED) == payloads(installation, ERRORS, KILLED) == [(1, "published")]


def test_a_store_that_is_away_is_waited_for(installation: Installation, outside: Outside) -> None:
    """And told; nobody gets half of it meanwhile."""
    with outside.server.away():
        outside.release(AWAY)
        said = installation.wait(
            lambda: (text := explained(installation, AWAY)) and outside.server.url in text and text, 120, "its trouble"
        )
        assert "on its way to git:conditions/main and nopayloaddb:npdb/PROMPT" in said
        assert payloads(installation, SCALE, AWAY) == payloads(installation, ERRORS, AWAY) == [(1, "publishing")]
        assert AWAY not in outside.in_git(SCALE)
        assert state(installation, AWAY, "fit", READER) == "waiting"
        here = (DAG, f"prompt__run-r{AWAY}")
        installation.wait(lambda: installation.airflow_tasks(*here)["hand_over"] == "deferred", 60, "no worker is held")
    wait_for(installation, AWAY)
    outside.have({run: f"{run}" for run in (KILLED, AWAY)})
    assert payloads(installation, SCALE, AWAY) == [(1, "published")]
    assert tries(installation, AWAY)["hand_over"] == 1


def test_a_refusal_in_the_middle_takes_back_what_was_done(
    installation: Installation, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database refuses the second tag; git and the first tag are as they were. `calib retry` publishes it then."""
    attach = outside.server.attach

    def refuse(data: dict[str, Any]) -> Any:
        if outside.server.lists[data["payload_list"]][1] == ERRORS:
            raise outside.server.refusal("Global Tag is frozen.")
        return attach(data)

    monkeypatch.setattr(outside.server, "attach", refuse)
    outside.release(REFUSED)
    wait_for(installation, REFUSED, "failed")
    outside.have({run: f"{run}" for run in (KILLED, AWAY)})
    assert len(outside.commits()) == 4, "one for each group, and one that takes the third back"
    assert payloads(installation, SCALE, REFUSED) == payloads(installation, ERRORS, REFUSED) == [(1, "candidate")]
    assert "Global Tag is frozen" in explained(installation, REFUSED)
    monkeypatch.undo()
    installation.wait_run_ended(DAG, f"prompt__run-r{REFUSED}")
    installation.calib("retry", f"run-r{REFUSED}", "--workflow", WORKFLOW)
    wait_for(installation, REFUSED)
    outside.have({run: f"{run}" for run in (KILLED, AWAY, REFUSED)})


def test_what_is_before_the_group_holds_after_the_deadline(installation: Installation, outside: Outside) -> None:
    """It is told once; what the group publishes in the end takes its place."""
    spec = installation.specs / f"{WORKFLOW}.yaml"
    installation.edit(spec, spec.read_text() + DEADLINE)
    begun = {run: f"{run}" for run in (KILLED, AWAY, REFUSED)}
    add(outside, LATE)
    assert installation.inject() == "success"  # it has begun to count, and has passed
    outside.have({**begun, LATE: f"{REFUSED}"})
    assert payloads(installation, SCALE, LATE) == payloads(installation, ERRORS, LATE) == [(1, "published")]
    assert state(installation, LATE) == "new", "it is nobody's result"
    wait_for(installation, LATE, "done", "keep", READER)
    told = f"**The deadline has passed: {WORKFLOW}.hand_over run-r{LATE}**"
    installation.wait(lambda: outside.told(LATE), 60, "the message")
    of = tables.event.c
    query = select(of.to_state).where(of.entity == "publication_deadline", of.group_name == f"run-r{LATE}")
    states = [row.to_state for row in installation.rows(query.order_by(of.id))]
    assert states == ["counting", "counting", "passed"]
    outside.release(LATE)
    wait_for(installation, LATE)
    outside.have({**begun, LATE: f"{LATE}"})
    assert payloads(installation, SCALE, LATE) == [(1, "superseded"), (2, "published")]
    assert [row.to_state for row in installation.rows(query.order_by(of.id))] == [*states, "met"]
    assert outside.told(LATE) == [told]


def stale(installation: Installation) -> set[tuple[str, int, str]]:
    """Tag, first run, and what mends it, of this module."""
    listed = json.loads(installation.run_calib("stale", "--json").stdout)
    return {
        (one["tag"], one["first_run"], "; ".join(again["command"] for again in one["reruns"]))
        for one in listed
        if one["tag"] in TAGS
    }


def rerun(installation: Installation, *options: str) -> list[str]:
    """What it says of this module's."""
    said = installation.run_calib("rerun", "--stale", *options).stdout.splitlines()
    return [
        line for line in said if line.startswith("calib retry") and any(name in line for name in (WORKFLOW, READER))
    ]


def test_what_is_stale_runs_again_and_nothing_else(installation: Installation, outside: Outside) -> None:
    """The constants of one run are made anew, and another's have a fallback that was read."""
    (outside.control / "version" / str(KILLED)).write_text("again")
    installation.wait_run_ended(DAG, f"prompt__run-r{KILLED}")
    before = tries(installation, KILLED)
    retry = ("retry", f"run-r{KILLED}", "--workflow", WORKFLOW)
    installation.calib(*retry, "--task", "make", "--no-downstream")
    table = tables.generation
    made = select(table.c.state).join(tables.run_group).where(tables.run_group.c.name == f"run-r{KILLED}")
    made = made.where(table.c.task == "make", table.c.n == 2)
    installation.wait(lambda: [row.state for row in installation.rows(made)] == ["done"], 200, "a further generation")
    hand_over = f"calib retry run-r{KILLED} --task hand_over --workflow {WORKFLOW}"
    fit = f"calib retry run-r{LATE} --task fit --workflow {READER}"
    assert stale(installation) == {
        (SCALE, KILLED, hand_over),
        (ERRORS, KILLED, hand_over),
        (FIT, KILLED, ""),
        (FIT, LATE, fit),
    }
    assert sorted(rerun(installation, "--dry-run")) == sorted([hand_over, fit])
    installation.wait_run_ended(DAG, f"prompt__run-r{KILLED}")
    installation.wait_run_ended(f"{READER}__run", f"prompt__run-r{LATE}")
    assert sorted(rerun(installation)) == sorted([f"{hand_over}: hand_over", f"{fit}: fit, fit.locks, keep"])
    installation.wait(lambda: payloads(installation, SCALE, KILLED)[-1] == (2, "published"), 200, "new constants")
    installation.wait(lambda: payloads(installation, FIT, LATE)[-1] == (2, "published"), 200, "a new fit")
    outside.have({run: f"{run}" for run in (AWAY, REFUSED, LATE)} | {KILLED: f"{KILLED} again"})
    again = tries(installation, KILLED)
    assert (again["make"], again["hand_over"]) == (before["make"] + 1, before["hand_over"] + 1)

    its_fit = fit.replace(str(LATE), str(KILLED))
    assert stale(installation) == {(FIT, KILLED, its_fit)}
    installation.wait_run_ended(f"{READER}__run", f"prompt__run-r{KILLED}")
    assert rerun(installation) == [f"{its_fit}: fit, fit.locks, keep"]
    installation.wait(lambda: payloads(installation, FIT, KILLED)[-1] == (2, "published"), 200, "its fit")
    assert installation.calib("payload", "get", FIT, str(KILLED)).strip() == f"scale of {KILLED} again"
    assert (stale(installation), rerun(installation)) == (set(), [])


def test_the_token_is_nowhere(installation: Installation, outside: Outside) -> None:
    roots = [installation.folder / "airflow", installation.folder / "by-connection", installation.home]
    files = [file for root in roots for file in root.rglob("*") if file.is_file() and "airflow.db" not in file.name]
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


@pytest.mark.long
def test_all_stores_are_as_they_were_published(installation: Installation, outside: Outside) -> None:
    """Asked in a shell of Airflow's machine, which knows its connections."""
    shell = {name: value for name, value in installation.airflow.variables.items() if name.startswith("AIRFLOW")}
    done = installation.run_calib("payload", "check", **shell)
    assert (done.returncode, "as they were published" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.long
def test_housekeeping_finds_the_store_first(installation: Installation, outside: Outside) -> None:
    """Its task, which asks more rarely by then, finds it done, and what comes after it runs."""
    spec = installation.specs / f"{WORKFLOW}.yaml"
    installation.edit(spec, spec.read_text().removesuffix(DEADLINE) + AFTER)
    tasks = f"/api/v2/dags/{DAG}/tasks"
    listed = lambda: [one["task_id"] for one in installation.airflow.call("GET", tasks)["tasks"]]  # noqa: E731
    installation.wait(lambda: "archive" in listed(), 120, "Airflow to have read the edit")
    add(outside, FOUND)
    with outside.server.away():
        outside.release(FOUND)
        said = lambda: "on its way to" in explained(installation, FOUND)  # noqa: E731
        installation.wait(said, 120, "its trouble")
        time.sleep(60)
        assert payloads(installation, SCALE, FOUND) == [(1, "publishing")]
    installation.airflow.trigger("calib_housekeeping")
    wait_for(installation, FOUND, "done", "archive")
    assert tries(installation, FOUND)["hand_over"] == 1
    assert payloads(installation, SCALE, FOUND) == payloads(installation, ERRORS, FOUND) == [(1, "published")]
