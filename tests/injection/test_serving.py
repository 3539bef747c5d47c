"""A broken edit stops nothing that runs: the last good text goes on; two files of one name decide nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.injection.inject import InjectionReport, inject_folder
from airflow_calib_provider.injection.serving import serve, serve_file
from airflow_calib_provider.ledger import spec_files, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.models import Workflow

NOW = datetime(2026, 3, 1, tzinfo=UTC)
SOURCES = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}, fields: {good: bool}}\n"
PEDESTAL = """\
apiVersion: calib/v1
workflow: pedestal
runs: {source: daq, since: 1, where: "run.good"}
tasks:
  fit: {group_by: run, jobs: {command: [fit]}, products: {out: o.txt}}
"""
GAIN = PEDESTAL.replace("pedestal", "gain").replace("jobs:", "needs: [pedestal.fit], jobs:")


class Place:
    """A folder of specs with a ledger."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.folder, self.ledger = folder, ledger
        self.runs = 0
        self.write("sources", SOURCES)
        self.write("pedestal", PEDESTAL)
        self.write("gain", GAIN)
        self.new_run()

    def write(self, name: str, text: str) -> Path:
        file = self.folder / f"{name}.yaml"
        file.write_text(text)
        return file

    def new_run(self) -> int:
        self.runs += 1
        lines = [f"{number},true" for number in range(1, self.runs + 1)]
        (self.folder / "runs.csv").write_text("\n".join(["number,good", *lines]) + "\n")
        return self.runs

    def inject(self) -> tuple[InjectionReport, list[str]]:
        report, errors = inject_folder(self.ledger, self.folder, now=NOW)
        assert report.errors == []
        return report, [str(error).removeprefix(f"{self.folder}/") for error in errors]

    def served(self, name: str, *, worker: bool = False) -> Workflow:
        return serve_file(self.folder / f"{name}.yaml", self.kept, worker=worker)

    def kept(self) -> list[spec_files.KeptText]:
        with self.ledger.read() as connection:
            return spec_files.kept_texts(connection)

    def runs_of(self, workflow: str) -> dict[int, str]:
        table = tables.membership
        with self.ledger.read() as connection:
            query = select(table.c.run, table.c.state).where(table.c.workflow == workflow)
            return {row.run: row.state for row in connection.execute(query).all()}

    def requested(self, workflow: str) -> int:
        request, group = tables.dag_run_request, tables.run_group
        query = select(request.c.group_id).join(group, group.c.id == request.c.group_id)
        with self.ledger.read() as connection:
            return len(connection.execute(query.where(group.c.workflow == workflow)).all())

    def troubles(self) -> dict[str, spec_files.Trouble]:
        with self.ledger.read() as connection:
            return spec_files.troubles(connection)


@pytest.fixture
def place(tmp_path: Path, ledger: Ledger) -> Place:
    folder = tmp_path / "specs"
    folder.mkdir()
    made = Place(folder, ledger)
    assert made.inject()[1] == []
    return made


def test_nothing_is_decided_for_two_files_of_one_workflow_until_one_is_away(place: Place) -> None:
    narrower = PEDESTAL.replace("run.good", "run.good && run.number > 9000").replace("fit:", "other:")
    copy = place.write("pedestal copy", narrower)
    assert place.requested("pedestal") == 1
    run = place.new_run()
    errors = place.inject()[1]
    assert [error.split(":")[0] for error in errors if "is also in" in error] == ["pedestal copy.yaml", "pedestal.yaml"]
    assert run not in place.runs_of("pedestal")
    assert place.requested("pedestal") == 1
    trouble = place.troubles()["pedestal"]
    assert (trouble.reason["code"], trouble.held) == ("spec_clash", True)
    # What is open goes on with what was good last.
    assert place.served("pedestal").text == PEDESTAL
    with pytest.raises(SpecErrors, match="is also in"):
        place.served("pedestal copy")
    copy.unlink()
    assert place.inject()[1] == []
    assert place.runs_of("pedestal") == {1: "grouped", run: "grouped"}
    assert place.requested("pedestal") == 2
    assert place.troubles() == {}


CANNOT_BE_READ = {
    "a tab": PEDESTAL + "\tx: 1\n",
    "a bracket": PEDESTAL.replace("[fit]", "[fit"),
    "a second document": PEDESTAL + "---\na: 1\n",
    "a control character": PEDESTAL + "#" * 20_000 + "\n# \x01\n",
    "another version": PEDESTAL.replace("calib/v1", "calib/v2"),
    "too deep": PEDESTAL + "x: " + "[" * 40 + "\n",
}


@pytest.mark.parametrize("what", CANNOT_BE_READ)
def test_a_copy_that_cannot_be_read_is_a_second_file_of_the_name_that_it_states(place: Place, what: str) -> None:
    copy = place.write("pedestal copy", CANNOT_BE_READ[what])
    run = place.new_run()
    errors = place.inject()[1]
    named = [error.split(":")[0] for error in errors if "is also in" in error]
    assert named == ["pedestal copy.yaml", "pedestal.yaml"]
    assert sum(error.startswith("pedestal copy.yaml") for error in errors) == 2
    assert any("gain.yaml" in error and "'pedestal' has mistakes of its own" in error for error in errors)
    assert run not in place.runs_of("pedestal")
    assert place.served("pedestal").text == PEDESTAL
    copy.unlink()
    assert place.inject()[1] == []
    assert place.runs_of("pedestal") == {1: "grouped", run: "grouped"}


@pytest.mark.parametrize(
    "text", ["apiVersion: [\nworkflow: pedestal\n", "# workflow: pedestal\n\ta: 1", "x: {workflow: pedestal}\n["]
)
def test_a_file_that_cannot_be_read_before_it_states_a_name_concerns_no_other(place: Place, text: str) -> None:
    place.write("pedestal copy", text)
    run = place.new_run()
    errors = place.inject()[1]
    assert [error.split(":")[0] for error in errors] == ["pedestal copy.yaml"]
    assert place.runs_of("pedestal") == {1: "grouped", run: "grouped"}


def test_groups_that_were_closed_before_a_name_was_doubled_are_not_opened_meanwhile(place: Place) -> None:
    from airflow_calib_provider.ledger import openings

    place.write("pedestal copy", PEDESTAL)
    place.inject()
    with place.ledger.write() as connection:
        connection.execute(tables.dag_run_request.delete())
        connection.execute(tables.run_group.update().values(opening="queued"))
        openings.plan(connection, NOW)
    assert (place.requested("pedestal"), place.requested("gain")) == (0, 1)


def test_two_new_files_of_one_name_are_refused_both_and_hold_nobody_else(place: Place) -> None:
    new = PEDESTAL.replace("pedestal", "new")
    place.write("n1", new)
    place.write("n2", new)
    place.new_run()
    assert len(place.inject()[1]) == 2
    assert place.runs_of("new") == {}
    assert place.runs_of("pedestal") == {1: "grouped", 2: "grouped"}
    for name in ("n1", "n2"):
        with pytest.raises(SpecErrors, match="is also in"):
            place.served(name)


BREAKS: dict[str, Any] = {
    "a syntax error": lambda file: file.write_text(PEDESTAL.replace("[fit]", "[fit")),
    "a typo": lambda file: file.write_text(PEDESTAL.replace("jobs:", "jbos:")),
    "no YAML": lambda file: file.write_text("apiVersion: [\n"),
    "an unknown version": lambda file: file.write_text(PEDESTAL.replace("calib/v1", "calib/v9")),
    "no text": lambda file: file.write_bytes(b"\xff\xfe"),
    "an empty file": lambda file: file.write_text(""),
    "another name and a typo": lambda file: file.write_text(PEDESTAL.replace("pedestal", "p2").replace("jobs:", "j:")),
    "an unknown need": lambda file: file.write_text(PEDESTAL.replace("jobs:", "needs: [x.y], jobs:")),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
    "a dangling link": lambda file: (file.unlink(), file.symlink_to("/nowhere/at/all")),
}


@pytest.mark.parametrize("what", BREAKS)
def test_a_broken_edit_leaves_its_workflow_and_those_that_need_it_as_they_were(place: Place, what: str) -> None:
    BREAKS[what](place.folder / "pedestal.yaml")
    place.new_run()
    errors = place.inject()[1]
    assert any(error.startswith("pedestal.yaml:") for error in errors)
    for name, text in (("pedestal", PEDESTAL), ("gain", GAIN)):
        assert place.runs_of(name) == {1: "grouped", 2: "grouped"}
        assert place.served(name).text == text
        assert place.served(name, worker=True).text == text
    locks = tables.lock
    with place.ledger.read() as connection:
        parameters = connection.execute(select(locks.c.parameters)).scalars()
        assert {found["grouping"] for found in parameters} == {"run"}
    trouble = place.troubles()["pedestal"]
    assert (trouble.reason["code"], trouble.held) == ("spec_broken", False)
    assert trouble.reason["mistakes"][0].startswith(f"{place.folder}/pedestal.yaml:")


@pytest.mark.parametrize(
    "reason",
    [
        "Is a directory",
        pytest.param("Permission denied", marks=pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")),
        "it is a pipe, a socket or a device",
        "Too many levels of symbolic links",
    ],
)
def test_a_file_that_cannot_be_read(place: Place, reason: str) -> None:
    file = place.folder / "pedestal.yaml"
    if reason == "Permission denied":
        file.chmod(0)
    else:
        file.unlink()
        {"I": file.mkdir, "i": lambda: os.mkfifo(file), "T": lambda: file.symlink_to(file)}[reason[0]]()
    told = [line for line in place.inject()[1] if line.startswith("pedestal.yaml")]
    assert [reason in line for line in told] == [True]
    assert place.served("pedestal").text == PEDESTAL


@pytest.mark.parametrize("text", [None, "apiVersion: [", "apiVersion: calib/v1\nsources: {daq: {csv: {pth: r.csv}}}\n"])
def test_broken_or_missing_sources_leave_everything_as_it_was(place: Place, text: str | None) -> None:
    file = place.folder / "sources.yaml"
    file.unlink() if text is None else file.write_text(text)
    place.new_run()
    assert any(error.startswith("sources.yaml:") for error in place.inject()[1])
    assert place.runs_of("gain") == {1: "grouped", 2: "grouped"}
    assert place.served("pedestal").text == PEDESTAL
    assert set(place.troubles()) >= {"sources.yaml"}
    file.write_text(SOURCES)
    assert place.inject()[1] == []
    assert place.troubles() == {}


def test_an_edit_of_the_sources_that_spoils_a_workflow_leaves_it_as_it_was(place: Place) -> None:
    place.write("sources", SOURCES.replace("good: bool", "better: bool"))
    place.new_run()
    assert any("pedestal.yaml" in error and "good" in error for error in place.inject()[1])
    assert place.runs_of("pedestal") == {1: "grouped", 2: "grouped"}
    assert place.troubles()["pedestal"].reason["code"] == "spec_broken"


def test_the_last_good_text_is_the_one_that_was_good_last(place: Place) -> None:
    second = PEDESTAL.replace("[fit]", "[fit, better]")
    for text in (second, PEDESTAL):
        place.write("pedestal", text)
        place.inject()
    place.write("pedestal", "broken: [")
    assert place.served("pedestal").text == PEDESTAL


def test_without_a_good_text_it_is_an_import_error_and_names_every_mistake(place: Place) -> None:
    place.write("new", PEDESTAL.replace("pedestal", "new").replace("jobs:", "jbos:").replace("source:", "sorce:"))
    place.inject()
    with pytest.raises(SpecErrors) as caught:
        place.served("new")
    assert len(caught.value.errors) >= 2
    assert place.runs_of("new") == {}


def test_a_deleted_workflow_is_not_broken_but_gone(place: Place) -> None:
    (place.folder / "gain.yaml").unlink()
    run = place.new_run()
    assert place.inject()[1] == []
    trouble = place.troubles()["gain"]
    assert (trouble.reason["code"], trouble.held) == ("workflow_gone", True)
    assert run not in place.runs_of("gain")
    with pytest.raises(SpecErrors, match="No such file"):
        place.served("gain")
    # What runs in a worker at this moment comes to its end.
    assert place.served("gain", worker=True).text == GAIN
    place.write("gain", GAIN)
    place.inject()
    assert place.troubles() == {}
    assert run in place.runs_of("gain")


def test_a_renamed_workflow_is_another_one(place: Place) -> None:
    place.write("gain", GAIN.replace("gain", "gains"))
    assert place.inject()[1] == []
    assert place.troubles()["gain"].reason["code"] == "workflow_gone"
    assert place.served("gain").name == "gains"


def place_of(line: str) -> tuple[int, int]:
    _, number, column, _ = line.split(":", 3)
    return int(number), int(column)


def test_every_run_and_group_that_a_broken_file_concerns_is_explained_with_its_mistakes(place: Place) -> None:
    from airflow_calib_provider.ledger.explain import Scope, explain_group, explain_run

    place.write("pedestal", PEDESTAL.replace("jobs:", "jbos:").replace("source:", "sorce:"))
    place.inject()
    with place.ledger.read() as connection:
        of_group = explain_group(connection, Scope("prompt", NOW, "pedestal"), "run-r1")
        of_run = explain_run(connection, Scope("prompt", NOW), 1)
    for found in (of_group, of_run):
        (cause,) = [cause for cause in found.causes if cause.about == "workflow pedestal"]
        lines = cause.text.splitlines()
        assert lines[0] == f"{place.folder}/pedestal.yaml cannot be used as it is; what was good last goes on."
        assert len(lines) >= 4
        assert lines[1:] == sorted(set(lines[1:]), key=place_of)
        assert cause.since == NOW
        assert cause.release == "a corrected file: `calib spec check`"


def test_a_folder_that_is_away_makes_no_workflow_gone(place: Place) -> None:
    place.folder.rename(place.folder.with_name("elsewhere"))
    with pytest.raises(SpecErrors, match="no such folder"):
        place.inject()
    assert place.troubles() == {}


def test_a_file_that_comes_while_a_folder_is_read_waits_for_the_next_look(place: Place) -> None:
    place.write("sources", SOURCES.replace("bool", "boole"))

    def kept() -> list[spec_files.KeptText]:
        place.write("a_new_one", PEDESTAL.replace("pedestal", "a_new_one"))
        return place.kept()

    found = serve(place.folder, kept)
    assert {"gain", "pedestal"} <= found.workflows.keys()
    assert "a_new_one.yaml" not in found.good
    place.write("sources", SOURCES)
    assert serve(place.folder, place.kept).good.keys() == {"a_new_one.yaml", "gain.yaml", "pedestal.yaml"}
