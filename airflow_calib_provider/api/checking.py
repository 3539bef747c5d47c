"""What is wrong with YAML files, and what they become in Airflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import Place, SpecError, SpecErrors, told_once
from airflow_calib_provider.spec.language import CATEGORIES_FILE, MESSAGES_FILE, SOURCES_FILE

if TYPE_CHECKING:
    from airflow_calib_provider.spec.models import Workflow


@dataclass(frozen=True)
class CheckedDag:
    """A DAG that a workflow becomes: one for each of its groupings.

    :ivar kind: of the grouping.
    :ivar tasks: by name, in the order of the file.
    :ivar source: of its runs.
    :ivar hash: of the file's text.
    :ivar warnings: those that concern it.
    """

    workflow: str
    dag_id: str
    grouping: str
    kind: str
    tasks: Sequence[str]
    source: str
    file: str
    hash: str
    warnings: Sequence[SpecError]


@dataclass(frozen=True)
class SpecCheck:
    """What a check of YAML files has found.

    :ivar dags: of the workflows without mistakes.
    :ivar mistakes: each with its place.
    :ivar warnings: what is no mistake, but will not work as things are on this machine; looked for only where there is
        no mistake.
    """

    dags: Sequence[CheckedDag]
    mistakes: Sequence[SpecError]
    warnings: Sequence[SpecError]


def check_specs(paths: Sequence[Path]) -> SpecCheck:
    """Check YAML files. Nothing is run, and no ledger is needed.

    :param paths: folders, whose files are also checked against each other, or single files.
    """
    from airflow_calib_provider.spec.checks.policy_files import mistakes_in_data
    from airflow_calib_provider.spec.checks.spec_warnings import warnings_of

    workflows, mistakes = load_specs(paths)
    mistakes += mistakes_in_data(workflows.values())
    mistakes += [_nothing_there(path) for path in paths if path.is_dir() and not _has_workflows(path)]
    warned = [] if mistakes else warnings_of(paths, workflows)
    dags = [
        CheckedDag(
            workflow=workflow.name,
            dag_id=workflow.dag_id(grouping),
            grouping=grouping,
            kind=str(policy.kind),
            tasks=[task.name for task in workflow.tasks_of(grouping)],
            source=workflow.runs.source,
            file=workflow.file,
            hash=workflow.hash,
            warnings=[item.error for item in warned if item.concerns(workflow, grouping)],
        )
        for workflow in workflows.values()
        for grouping, policy in workflow.groupings().items()
    ]
    return SpecCheck(dags, mistakes, [item.error for item in warned])


def load_specs(paths: Sequence[Path]) -> tuple[dict[str, Workflow], list[SpecError]]:
    """The workflows without mistakes, by name, and every mistake once."""
    from airflow_calib_provider.spec.loader import load_categories, load_folder, load_sources, load_workflow
    from airflow_calib_provider.spec.messages_file import load_messages

    workflows: dict[str, Workflow] = {}
    mistakes: list[SpecError] = []
    for path in paths:
        if not path.exists():
            mistakes.append(SpecError("there is no such file or folder", Place(path), suggestion="name another one"))
            continue
        try:
            if path.is_dir():
                loaded, errors = load_folder(path)
                workflows |= loaded
                mistakes += errors
                if (path / MESSAGES_FILE).is_file():
                    load_messages(path / MESSAGES_FILE)
            elif path.name == SOURCES_FILE:
                load_sources(path)
            elif path.name == CATEGORIES_FILE:
                load_categories(path)
            elif path.name == MESSAGES_FILE:
                load_messages(path)
            else:
                workflow = load_workflow(path)
                workflows[workflow.name] = workflow
        except SpecErrors as error:
            mistakes += error.errors
        except SpecError as error:
            mistakes.append(error)
    return workflows, told_once(list({str(error): error for error in mistakes}.values()))


def _has_workflows(folder: Path) -> bool:
    from airflow_calib_provider.spec.known import workflow_files

    return bool(workflow_files(folder))


def _nothing_there(folder: Path) -> SpecError:
    others = sorted(file.name for file in folder.glob("*.yml"))
    hint = f"rename {', '.join(others)}: their names must end in .yaml" if others else "name another folder"
    return SpecError("there are no workflows", Place(folder), expected="expected files *.yaml", suggestion=hint)
