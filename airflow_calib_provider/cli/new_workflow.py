"""The files of a workflow that begins: YAML, a program for its jobs, stubs, and where its runs come from."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from airflow_calib_provider.cli.spec_commands import stub_texts
from airflow_calib_provider.errors import CalibError, Place, SpecError, SpecErrors
from airflow_calib_provider.kinds import GROUPINGS
from airflow_calib_provider.runsources.times import TimeRules
from airflow_calib_provider.runsources.values import BadValue, read_value
from airflow_calib_provider.spec.kinds import grouping_kind
from airflow_calib_provider.spec.language import CATEGORIES_FILE, SOURCES_FILE
from airflow_calib_provider.spec.models import RESERVED, FieldType
from airflow_calib_provider.spec.policy_data import as_read
from airflow_calib_provider.spec.problems import nearest

EXAMPLE = "example"
"""The answer for runs that are made up."""
SKELETON = "skeleton"
"""The answer for a program that is written."""
NOTHING = "-"
"""The answer for what is not published."""

_EXAMPLE_RUNS = """\
number,start,end,fill,events
1,2026-01-01T00:00:00Z,2026-01-01T01:00:00Z,1,6000
2,2026-01-01T02:00:00Z,2026-01-01T03:00:00Z,1,8000
3,2026-01-01T04:00:00Z,2026-01-01T05:00:00Z,2,5000
"""
_EXAMPLE_FIELDS = {"start": "time", "end": "time", "fill": "int", "events": "int"}
_NUMBERS = ("number", "run", "run_number", "Run")
_SEPARATORS = (",", ";", "\t")
_LOOKED_AT = 1_000
"""Lines of a CSV file from which the types of its columns are guessed."""

_WORKFLOW = """\
apiVersion: calib/v1
workflow: {name}
description: What is calibrated, from which data, and who to ask.
runs:
  source: {source}
  since: 1            # the first run that is taken; without it only runs that are new from now on
tasks:
  fit:
    group_by: {group_by}
    jobs:
      command: {command}
      timeout: 1h
      retries: 2
    products: {{constants: constants.json}}
"""
_PUBLISH = """\
  deliver:
    needs: [fit]
    publish: {{tag: {tag}, file: "{{{{ tasks.fit.products.constants }}}}", iov: group}}
"""
_JOB = '''\
"""What a job of the workflow {name} does. Replace what is in the middle."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Derive the constants of one group of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first-run", type=int, required=True)
    parser.add_argument("--last-run", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder for products")
    parser.add_argument("files", nargs="*", type=Path, help="the input files of the runs")
    options = parser.parse_args()

    scale = 1.0  # from options.files

    constants = {{"scale": scale, "runs": [options.first_run, options.last_run]}}
    (options.out / "constants.json").write_text(json.dumps(constants, indent=1) + "\\n")


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class Answers:
    """What a person says of a new workflow.

    :ivar runs: a source of ``sources.yaml``; where there is none a CSV file, or :data:`EXAMPLE`.
    :ivar grouping: ``run``, ``fill``, ``sum:FIELD:AMOUNT``, or a mapping of YAML.
    :ivar job: a command line, or :data:`SKELETON`.
    :ivar tag: to publish under, or :data:`NOTHING`.
    """

    name: str
    runs: str
    grouping: str
    job: str
    tag: str


def groupings() -> list[str]:
    """How a person may say how runs are put together: the short words first, then one of each other kind.

    What waits for another task is not among them: a workflow that begins has none that finds anything.
    """
    kinds = [kind for name in GROUPINGS.own if "task" not in (kind := grouping_kind(name)).keys.declared]
    return ["run", "fill", "sum:FIELD:AMOUNT", *(kind.example for kind in kinds if kind.example and kind.name != "sum")]


def new_files(answers: Answers, specs: Path, dags: Path) -> dict[Path, str]:
    """The files that are to be written; each workflow that they make can be loaded.

    :raises CalibError: a file is there already, or an answer cannot be meant.
    :raises SpecErrors: what would be written has mistakes.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}", answers.name):
        raise CalibError(f"{answers.name[:80]!r} is no name", "letters, digits and '_', starting with a letter")
    _refuse_taken(answers, specs, dags)
    workflow = specs / f"{answers.name}.yaml"
    files = {workflow: ""}
    source, more = _source(answers, specs)
    files |= more
    group_by = _group_by(answers.grouping)
    command = json.dumps(answers.job, ensure_ascii=False)
    if answers.job == SKELETON:
        program = specs / answers.name / "fit.py"
        files[program] = _JOB.format(name=answers.name)
        runs = "--first-run, '{{ group.first_run }}', --last-run, '{{ group.last_run }}'"
        command = f"[python, '{{{{ spec.folder }}}}/{answers.name}/fit.py', {runs}, --out, '{{{{ job.out }}}}']"
    files[workflow] = _WORKFLOW.format(name=answers.name, source=source, group_by=group_by, command=command)
    if answers.tag != NOTHING:
        tag = json.dumps(answers.tag, ensure_ascii=False)
        files[workflow] += _PUBLISH.format(tag=tag)
    stubs = stub_texts({answers.name: workflow}, specs, dags)
    files |= {path: text for path, text in stubs.items() if path.stem == answers.name or not path.exists()}
    if there := [str(path) for path in files if path.exists() or path.is_symlink()]:
        raise CalibError(f"there already: {', '.join(there)}; nothing was written", "choose another name")
    _check(files, specs)
    return files


def _refuse_taken(answers: Answers, specs: Path, dags: Path) -> None:
    """:raises CalibError: it would break what is there: name and tag are of one workflow only."""
    from airflow_calib_provider.spec.loader import check_folder

    ours = [Path(SOURCES_FILE), Path(CATEGORIES_FILE), *stub_texts({}, specs, dags)]
    if taken := next((path for path in ours if path.stem == answers.name), None):
        raise CalibError(f"{taken.name} is no file of a workflow", "choose another name")
    found = check_folder(specs, recall=True) if specs.is_dir() else None
    for one in found.files if found is not None else ():
        if one.name == answers.name:
            raise CalibError(f"there already: the workflow {answers.name} in {one.file}", "choose another name")
        for task in one.workflow.tasks.values() if one.workflow is not None else ():
            if task.publish is not None and answers.tag in task.publish.tags:
                raise CalibError(f"the tag {answers.tag} is published by {one.name} ({one.file})", "choose another tag")


def known_sources(specs: Path) -> list[str]:
    """The names of the sources that a folder has.

    :raises SpecErrors: its file has mistakes.
    """
    from airflow_calib_provider.spec.loader import load_sources

    file = specs / SOURCES_FILE
    return list(load_sources(file)) if file.exists() else []


def _source(answers: Answers, specs: Path) -> tuple[str, dict[Path, str]]:
    """The name of the source, and the files that it needs."""
    if (specs / SOURCES_FILE).exists():
        known = known_sources(specs)
        if answers.runs not in known:
            said = f"{specs / SOURCES_FILE} has no run source {answers.runs[:80]!r}"
            hint = nearest(answers.runs, known) or f"it has {', '.join(known)}"
            if answers.runs == EXAMPLE:
                raise CalibError(said, f"{hint}; {EXAMPLE} is made only where there is no {SOURCES_FILE} yet")
            raise CalibError(said, f"{hint}; add it there first, this command edits no file")
        return answers.runs, {}
    name = f"{answers.name}_runs"
    if answers.runs == EXAMPLE:
        file = specs / f"{name}.csv"
        return name, {specs / SOURCES_FILE: _sources(name, file.name, "", _EXAMPLE_FIELDS), file: _EXAMPLE_RUNS}
    file = Path(answers.runs).expanduser()
    if not file.is_file():
        raise CalibError(f"there is no file {file}", f"name a CSV file with a line for each run, or {EXAMPLE}")
    guessed = _guessed(file)
    return name, {specs / SOURCES_FILE: _sources(name, str(file.absolute()), *guessed)}


def _sources(name: str, path: str, number: str, fields: Mapping[str, str], separator: str = ",") -> str:
    columns = f", columns: {{number: {json.dumps(number)}}}" if number not in ("", "number") else ""
    if separator != ",":
        columns += f', separator: {json.dumps(separator)}, files_separator: ","'
    lines = "".join(f"      {field}: {kind}\n" for field, kind in fields.items())
    head = "# Where runs come from: docs/run-sources.md\napiVersion: calib/v1\nsources:\n"
    body = f"  {name}:\n    csv: {{path: {json.dumps(path, ensure_ascii=False)}{columns}}}\n"
    return head + body + (f"    fields:\n{lines}" if lines else "")


def _guessed(file: Path) -> tuple[str, dict[str, str], str]:
    """The column of the run number, the types of the others, and what is between them."""
    for separator in _SEPARATORS:
        try:
            with file.open(newline="", encoding="utf-8-sig") as stream:
                rows = [row for row, _ in zip(csv.reader(stream, delimiter=separator), range(_LOOKED_AT), strict=False)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CalibError(f"{file} cannot be read: {error}", "name a CSV file with a header") from error
        heads = [head.strip() for head in rows[0]] if rows else []
        if number := next((head for head in _NUMBERS if head in heads), ""):
            return number, _types(number, heads, rows[1:]), separator
    hint = f"call it {' or '.join(_NUMBERS)}; for what is no CSV file write {SOURCES_FILE}: docs/run-sources.md"
    raise CalibError(f"{file} has no column with the run number", hint)


def _types(number: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """Column → the type of its values."""
    fields = {}
    for position, head in enumerate(heads):
        if head != number and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,59}", head) and heads.count(head) == 1:
            values = [row[position].strip() for row in rows if len(row) > position]
            fields[head] = (RESERVED.get(head) or _type_of([value for value in values if value])).value
    return fields


def _type_of(values: Sequence[str]) -> FieldType:
    for kind in (FieldType.INT, FieldType.FLOAT, FieldType.BOOL, FieldType.TIME):
        with suppress(BadValue):
            if values and all(read_value(value, kind, "", TimeRules()) is not None for value in values):
                return kind
    return FieldType.STRING


def _group_by(text: str) -> str:
    """How a task puts runs together, as YAML."""
    if re.fullmatch(r"\w+:\s+\{[^\n]*\}", text):
        return f"{{{text}}}"
    if text.startswith("sum:"):
        parts = text.split(":")
        if len(parts) != 3:
            raise CalibError(f"the grouping {text[:80]!r} is not sum:FIELD:AMOUNT", "such as sum:events:10000")
        return f"{{sum: {{{parts[1]}: {parts[2]}}}}}"
    if not re.fullmatch(r"\w+|\{[^\n]*\}", text):
        said = f"{text[:80]!r} says no grouping"
        raise CalibError(said, "run, fill, sum:FIELD:AMOUNT, or a mapping such as {sum: {events: 10000}}")
    return text


def _check(files: Mapping[Path, str], specs: Path) -> None:
    """:raises SpecErrors: what the files say has mistakes; they are not written for it."""
    from airflow_calib_provider.runsources import read_source
    from airflow_calib_provider.spec.loader import load_sources, load_workflow

    with TemporaryDirectory() as folder:
        for path, text in files.items():
            if path.parent == specs:
                (Path(folder) / path.name).write_text(text, "utf-8")
        sources = Path(folder) / SOURCES_FILE
        if not sources.exists():
            sources.write_bytes((specs / SOURCES_FILE).read_bytes())
        try:
            known = load_sources(sources)
            workflow = load_workflow(next(Path(folder) / path.name for path in files if path.suffix == ".yaml"))
            for policy in workflow.groupings().values():
                as_read(policy, specs)
        except SpecErrors as error:
            raise SpecErrors([_of_here(one, specs) for one in error.errors]) from error
        if specs / SOURCES_FILE in files:
            # Of a source that was there before others know whether it can be read, and it may take long.
            read_source(known[workflow.runs.source], base_folder=Path(folder))


def _of_here(error: SpecError, specs: Path) -> SpecError:
    file = specs / error.file.name if error.file is not None else None
    place = Place(file, error.line, error.column)
    return SpecError(error.message, place, expected=error.expected, suggestion=error.suggestion, context=error.context)


def write_new(files: Mapping[Path, str]) -> None:
    """Write files that are not there; all of them, or none.

    :raises CalibError: one has come into being meanwhile.
    """
    made: list[Path] = []
    try:
        for path, text in files.items():
            for folder in reversed([parent for parent in path.parents if not parent.exists()]):
                folder.mkdir(exist_ok=True)
                made.append(folder)
            aside = path.with_name(f".{path.name}.{os.getpid()}.new")
            made.append(aside)
            aside.write_text(text, "utf-8")
            os.link(aside, path)  # unlike a rename it replaces nothing
            made.append(path)
            aside.unlink()
            made.remove(aside)
    except BaseException as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(error, FileExistsError):
            raise CalibError(f"there already: {error.filename2 or error.filename}; nothing was written") from error
        raise
