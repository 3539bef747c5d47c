"""Members of another package, named in YAML: from the spec to a published payload, and on the command line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from airflow_calib_provider import kinds
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import NotOpen
from airflow_calib_provider.injection.inject import inject
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import tables, waiting
from airflow_calib_provider.ledger.asking import Asker
from airflow_calib_provider.payloads import store
from airflow_calib_provider.settings import calib_home
from airflow_calib_provider.spec.cache import checked
from airflow_calib_provider.spec.loader import load_folder, load_sources
from airflow_calib_provider.spec.models import Workflow
from tests.postgres.places import migrated
from tests.worlds import WithJobs, WithSpecs

SOURCES = """\
apiVersion: calib/v1
sources:
  counted:
    numbers: {first: 1, last: 3}
    fields: {lumi: float}
"""

SPEC = """\
apiVersion: calib/v1
workflow: toyland
runs: {source: counted, since: 1}
tasks:
  fit:
    group_by: {pairs: {size: 2}}
    locks: [{run_known: {number: 5}}, {runs_counted: {at_least: 4}}]
    backend: toy
    jobs:
      command: [sh, -c, 'echo "{{ group.first_run }} $(nice)" > "$CALIB_OUT/c.txt"']
      toy: {niceness: 3}
    products: {c: c.txt}
  deliver:
    group_by: {pairs: {size: 2}}
    needs: [fit]
    publish: {tag: Toy, file: "{{ tasks.fit.products.c }}", store: drawer}
  after:
    group_by: {pairs: {size: 4, name: fours}}
    needs: [deliver]
    jobs: {command: ["true"]}
"""


class Toyland(WithSpecs, WithJobs):
    """An installation without Airflow."""

    def __init__(self, folder: Path) -> None:
        self.specs = folder / "workflow_specs"
        self.specs.mkdir()
        calib_home().mkdir()
        self.write()
        self.ledger = migrated()

    def write(self, last: int = 3) -> None:
        (self.specs / "sources.yaml").write_text(SOURCES.replace("last: 3", f"last: {last}"))
        (self.specs / "toyland.yaml").write_text(SPEC)

    def flow(self) -> Workflow:
        (flow,) = self.workflows.values()
        return flow

    def look(self, group: int, task: str) -> waiting.Look:
        return waiting.look_and_record(self.ledger, [(group, task)])[group, task]

    def run(self, group: int, task: str) -> str:
        now = datetime.now(UTC)
        spec = self.flow().tasks[task]
        begun = begin(self.ledger, self.flow(), spec, group, max_tries=0, dag_run_id="x", now=now)
        return self.finish(begun.generation_id, 60).state

    def calib(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "200"}
        program = [sys.executable, "-c", "from airflow_calib_provider.cli import main; main()", *arguments]
        return subprocess.run(
            program, env=environment, text=True, capture_output=True, cwd=self.specs.parent, check=False
        )


@pytest.fixture
def toyland(tmp_path: Path) -> Iterator[Toyland]:
    made = Toyland(tmp_path)
    yield made
    made.ledger.close()


def test_from_yaml_to_a_payload(toyland: Toyland) -> None:
    toyland.take()
    first, forming, _ = (row for row in toyland.rows(tables.run_group))
    assert [(row.name, row.state, row.last_run) for row in (first, forming)] == [
        ("pairs-r1", "closed", 2),
        ("pairs-r3", "forming", 3),
    ]
    assert first.policy["options"] == {"size": 2}
    assert render(toyland.look(forming.id, waiting.FORMING).reason).endswith("1 run; closes with its last run")

    shut = toyland.look(first.id, "fit")
    assert shut.state == "waiting"
    said = render(shut.reason)
    assert "run_known 5: 0 of 1; missing nobody has heard of it" in said
    assert "runs_counted 4 runs: 0 of 1; missing there are 3" in said
    with pytest.raises(NotOpen, match="nobody has heard of it"):
        toyland.run(first.id, "fit")

    toyland.write(last=5)
    toyland.take()
    assert toyland.look(first.id, "fit").state == "open"
    assert toyland.run(first.id, "fit") == "done"
    (generation,) = toyland.rows(tables.generation)
    assert (generation.backend, generation.options) == ("toy", {"niceness": 3})

    flow = toyland.flow()
    done = publish_group(toyland.ledger, flow, flow.tasks["deliver"], first.id, now=datetime.now(UTC))
    (row,) = toyland.rows(tables.payload)
    path = store.content_path(row)
    assert path.parent.name == "drawer"
    assert path.read_text() == f"1 {os.getpriority(os.PRIO_PROCESS, 0) + 3}\n", "three nicer than this process"
    assert (done.new, row.provenance["store"]) == (True, "drawer")


def test_on_the_command_line(toyland: Toyland) -> None:
    """Processes of their own see the package too."""
    toyland.take()
    checked = toyland.calib("spec", "check", "workflow_specs")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    explained = toyland.calib("explain", "pairs-r1", "--json")
    assert "nobody has heard of it" in explained.stdout, explained.stderr
    toyland.write(last=0)
    wrong = toyland.calib("spec", "check", "workflow_specs")
    assert wrong.returncode == 2
    assert "numbers.last comes before numbers.first; expected at least 1" in wrong.stdout + wrong.stderr


def test_the_cache_of_specs_keeps_what_members_say(toyland: Toyland) -> None:
    kept = [checked(toyland.specs).workflows["toyland"].tasks for _ in range(2)][-1]
    assert kept == toyland.flow().tasks
    assert [lock.parameters for lock in kept["fit"].locks] == [{"number": 5}, {"at_least": 4}]


def test_a_package_that_is_gone_leaves_its_locks_shut(toyland: Toyland, monkeypatch: pytest.MonkeyPatch) -> None:
    toyland.take()
    toyland.write(last=5)
    toyland.take()
    group = toyland.rows(tables.run_group)[0].id
    assert toyland.look(group, "fit").state == "open"
    monkeypatch.setattr(kinds, "entry_points", lambda group: ())
    kinds._installed.cache_clear()
    shut = toyland.look(group, "fit")
    assert shut.state == "waiting"
    assert "the lock 'run_known' is of a package that is not installed" in render(shut.reason)


def break_it(what: str, name: str, patch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("in the toy")

    patch.setattr(type(kinds.load(what)), name, broken)


@pytest.mark.parametrize(
    ("what", "name"), [("calib_toys.standing:RUN_KNOWN", "statement"), ("calib_toys.standing:RUNS_COUNTED", "look_up")]
)
def test_a_lock_that_breaks_holds_its_own_waits_only(
    toyland: Toyland, monkeypatch: pytest.MonkeyPatch, what: str, name: str
) -> None:
    toyland.write(last=5)
    toyland.take()
    group = toyland.rows(tables.run_group)[0].id
    break_it(what, name, monkeypatch)
    keys = [(group, "fit"), (group, "deliver")]
    with toyland.ledger.read() as connection:
        found = waiting.look(connection, keys)
    assert "cannot be looked at: ZeroDivisionError: in the toy" in render(found[keys[0]].reason)
    assert found[keys[1]].state == "open"


def test_a_statement_that_the_database_refuses_is_its_own_trouble(
    toyland: Toyland, monkeypatch: pytest.MonkeyPatch
) -> None:
    toyland.write(last=5)
    toyland.take()
    group = toyland.rows(tables.run_group)[0].id
    lock = kinds.load("calib_toys.standing:RUN_KNOWN")
    monkeypatch.setattr(type(lock), "statement", lambda self, ids: text("SELECT nothing FROM nowhere"))
    look = toyland.look(group, "fit")
    assert look.state == "waiting"
    assert "the lock 'run_known' cannot be looked at: OperationalError" in render(look.reason)


def test_a_grouping_that_breaks_stops_its_own_workflow_only(toyland: Toyland, monkeypatch: pytest.MonkeyPatch) -> None:
    other = (
        SPEC.replace("toyland", "plain")
        .replace("{pairs: {size: 2}}", "run")
        .replace("{pairs: {size: 4, name: fours}}", "fill")
    )
    other = other.replace("Toy,", "Plain,").replace("fill\n", "run\n")
    (toyland.specs / "plain.yaml").write_text(other)
    break_it("calib_toys.grouping:KIND", "after", monkeypatch)
    workflows, errors = load_folder(toyland.specs)
    assert not errors, errors
    sources = load_sources(toyland.specs / "sources.yaml")
    report = inject(toyland.ledger, workflows, sources, toyland.specs, now=datetime.now(UTC))
    assert len(report.errors) == 1
    assert "the grouping pairs (pairs) has failed: ZeroDivisionError: in the toy" in report.errors[0]
    assert {row.workflow for row in toyland.rows(tables.run_group)} == {"plain"}


def test_nothing_of_it_is_loaded_before_a_spec_names_it(tmp_path: Path) -> None:
    code = (
        "from airflow_calib_provider import kinds; from airflow_calib_provider.spec.loader import load_folder; "
        "from airflow_calib_provider.provider_info import get_provider_info; import pathlib, sys; "
        "get_provider_info(); load_folder(pathlib.Path(sys.argv[1])); "
        "print('toy' in kinds.BACKENDS, [name for name in sys.modules if name.startswith('calib_toys')])"
    )
    (tmp_path / "sources.yaml").write_text(
        "apiVersion: calib/v1\nsources: {s: {csv: {path: x.csv}, fields: {start: time}}}\n"
    )
    (tmp_path / "w.yaml").write_text(
        "apiVersion: calib/v1\nworkflow: w\nruns: {source: s}\n"
        "tasks: {t: {group_by: run, locks: [{payload: {tag: T}}], jobs: {command: [x]}}}\n"
    )
    said = subprocess.run([sys.executable, "-c", code, str(tmp_path)], text=True, capture_output=True, check=True)
    assert said.stdout == "True []\n"


def test_a_lock_that_is_asked_outside(toyland: Toyland, tmp_path: Path) -> None:
    bell = tmp_path / "bell"
    spec = SPEC.replace("[{run_known: {number: 5}}, {runs_counted: {at_least: 4}}]", f"[{{bell: {{file: {bell}}}}}]")
    (toyland.specs / "toyland.yaml").write_text(spec)
    toyland.take()
    first = toyland.rows(tables.run_group)[0]

    def said() -> str:
        asker = Asker(toyland.ledger)
        asker.start([(first.id, "fit")])
        asker.finish(10)
        seen = toyland.look(first.id, "fit")
        return seen.state if seen.state == "open" else render(seen.reason)

    assert "cannot be asked: it does not hang there: No such file or directory" in said()
    bell.write_text("silence")
    time.sleep(1.1)
    assert "nobody has rung" in said()
    bell.write_text("ring")
    time.sleep(1.1)
    assert said() == "open"
    told = toyland.calib("explain", "pairs-r1", "--no-airflow")
    assert told.returncode == 0, told.stderr
