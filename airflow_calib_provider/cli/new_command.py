"""``calib spec new``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import SPECS, Json, Specs, examples

if TYPE_CHECKING:
    from airflow_calib_provider.cli.new_workflow import Answers

Name = Annotated[str | None, typer.Option("--name", "-n", help="What it is called.", metavar="NAME")]
Runs = Annotated[
    str | None,
    typer.Option(
        "--runs",
        "-r",
        help="A source of sources.yaml; where there is no such file, a CSV file of runs, or example.",
        metavar="SOURCE",
    ),
]
Grouping = Annotated[
    str | None,
    typer.Option("--grouping", "-g", help="run, fill, sum:FIELD:AMOUNT, or a mapping of YAML.", metavar="GROUPING"),
]
Job = Annotated[
    str | None, typer.Option("--job", "-j", help="A command line; skeleton: a program is written.", metavar="COMMAND")
]
Tag = Annotated[
    str | None, typer.Option("--publish", "-p", help="The tag to publish under; -: nothing.", metavar="TAG")
]
Dags = Annotated[Path, typer.Option("--dags", help="Airflow's folder of DAG files.", metavar="FOLDER")]


def register(app: typer.Typer) -> None:
    """Add the command to ``calib spec``."""
    app.command(
        name="new",
        epilog=examples(
            "calib spec new",
            "calib spec new --name pi0 --runs example --yes",
            'calib spec new -n scale -r daq -g sum:events:12000 -j "python -m scale.fit --out {{ job.out }}" -p Scale',
        ),
    )(new)


def new(
    name: Name = None,
    runs: Runs = None,
    grouping: Grouping = None,
    job: Job = None,
    publish: Tag = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing: the defaults of what is left out.")] = False,
    specs: Specs = SPECS,
    dags: Dags = Path("dags"),
    as_json: Json = False,
) -> None:
    """Ask five questions, and write a workflow that runs at once: YAML, a program for its jobs, stubs for Airflow.

    An answer that cannot be meant is told, and asked for again.

    Where there is no sources.yaml yet, it is written too. Nothing that is there is changed or overwritten; what is
    interrupted leaves nothing behind.
    """
    from airflow_calib_provider.cli.new_workflow import new_files, write_new
    from airflow_calib_provider.cli.output import emit_json

    answers = _asked({"name": name, "runs": runs, "grouping": grouping, "job": job, "tag": publish}, yes, specs, dags)
    files = new_files(answers, specs, dags)
    write_new(files)
    if as_json:
        emit_json({"workflow": answers.name, "files": [str(path) for path in files]})
        return
    for path in files:
        print(f"{path}: written")
    print("Next: `calib spec check`, `calib spec plan`, and what the jobs are to do.")


def _asked(given: Mapping[str, str | None], yes: bool, specs: Path, dags: Path) -> Answers:
    """The answers: as options give them, by default, or of a person, who is asked again after one that cannot be meant.

    :param given: by the name of the answer.
    :raises CalibError: an option cannot be meant, and more would have been asked.
    """
    from airflow_calib_provider.cli.new_workflow import EXAMPLE, NOTHING, SKELETON, Answers, groupings, known_sources
    from airflow_calib_provider.cli.new_workflow import new_files as checked
    from airflow_calib_provider.errors import CalibError

    known = known_sources(specs)
    where = f"one of {', '.join(known)}" if known else f"a CSV file with a line for each run, or {EXAMPLE}"
    questions = {
        "name": "What is the workflow called?",
        "runs": f"Where do runs come from? {where}",
        "grouping": f"How are runs put together? {', '.join(groupings())}",
        "job": f"What does a job run? A command, or {SKELETON} for a program to fill in",
        "tag": f"Under which tag is it published? {NOTHING} for nothing",
    }
    answers = Answers("calibration", known[0] if known else EXAMPLE, "run", SKELETON, NOTHING)

    def take(key: str, text: str) -> Answers:
        now = replace(answers, **{key: text.strip()})
        try:
            checked(now, specs, dags)
        except CalibError as error:
            raise typer.BadParameter(str(error)) from error
        return now

    for key, question in questions.items():
        default = f"{answers.name.capitalize()}Constants" if key == "tag" else str(getattr(answers, key))
        said = given[key]
        if said is None and not yes:
            answers = typer.prompt(question, default=default, err=True, value_proc=partial(take, key))
            continue
        answers = replace(answers, **{key: (default if said is None else said).strip()})
        if not yes:
            checked(answers, specs, dags)  # nobody is asked what follows from a mistake
    return answers
