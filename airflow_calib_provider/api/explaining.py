"""Why something does not move, as far as the ledger knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.errors import CalibError, CommandLineError, NotFound
from airflow_calib_provider.ledger import campaigns, names, spec_files
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.explain import Explanation, Scope, explain_group, explain_run
from airflow_calib_provider.ledger.explain_airflow import airflow_causes, with_airflow
from airflow_calib_provider.ledger.groups import find_group, task_of
from airflow_calib_provider.ledger.sources import check_source
from airflow_calib_provider.rest.facts import airflow_facts
from airflow_calib_provider.spec.team import team_of

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.ledger.spec_files import Trouble
    from airflow_calib_provider.spec.models import Workflow


def explain(
    ledger: Ledger,
    what: int | str,
    *,
    specs: Path | None = None,
    campaign: str = PROMPT,
    workflow: str | None = None,
    task: str | None = None,
    source: str | None = None,
    ask_airflow: bool = False,
) -> list[Cause]:
    """Every cause why a run or a group does not move, as far as the ledger knows.

    :param what: a run, or a group's name.
    :param specs: the folder of the YAML files, which say more than the ledger alone.
    :param source: of the run.
    :param ask_airflow: ask Airflow (``CALIB_AIRFLOW_URL``), too: about paused DAGs, full pools, components that are
        down. That it does not answer is a cause, and no error.
    :raises NotFound: there is no such campaign, workflow, task, source, group or run.
    """
    found = explained(
        ledger,
        what,
        specs=specs,
        campaign=campaign,
        workflow=workflow,
        task=task,
        source=source,
        ask_airflow=ask_airflow,
    )
    return found.causes


def explained(
    ledger: Ledger,
    what: int | str,
    *,
    specs: Path | None,
    campaign: str,
    workflow: str | None,
    task: str | None,
    source: str | None,
    ask_airflow: bool,
) -> Explanation:
    """As :func:`explain`, with why a group opened, and why it closed."""
    if not isinstance(what, int) and source is not None:
        raise CommandLineError(f"--source says which run is meant, but {what} is no run", "leave it out")
    workflows, troubles = ({}, None) if specs is None else served_specs(specs, ledger)
    scope = Scope(campaign, datetime.now(UTC), workflow, task, workflows, troubles=troubles, source=source)
    with ledger.read() as connection:
        _check_names(connection, scope)
        if isinstance(what, int):
            found = explain_run(connection, scope, what)
        else:
            _check_task_of_group(connection, scope, what)
            found = explain_group(connection, scope, what)
    causes = found.causes
    if unknown := [cause for cause in causes if cause.code == "run_unknown"]:
        troubles_of_sources = [cause.text for cause in causes if cause.code == "source_unreadable"]
        raise NotFound("; ".join([unknown[0].text, *troubles_of_sources]), f"it becomes known by {unknown[0].release}")
    causes = with_airflow(causes, airflow_causes(found, airflow_facts(found.dag_runs))) if ask_airflow else causes
    return replace(found, causes=[replace(cause, campaign=campaign) for cause in causes])


def _check_names(connection: Connection, scope: Scope) -> None:
    concerned = [flow for name, flow in scope.specs.items() if scope.workflow in (None, name)]
    campaigns.get(connection, scope.campaign)
    names.check_workflow(connection, scope.workflow, dict(scope.specs))
    check_source(connection, scope.source)
    names.check_task(connection, scope.workflow, scope.task, {name for flow in concerned for name in flow.tasks})


def _check_task_of_group(connection: Connection, scope: Scope, name: str) -> None:
    """:raises NotFound: neither the group nor the spec of its grouping has this task."""
    if scope.task is None:
        return
    group = find_group(connection, scope.campaign, scope.workflow, name)
    spec = scope.specs.get(group.workflow)
    if spec is None or all(item.name != scope.task for item in spec.tasks_of(group.grouping)):
        task_of(connection, group, scope.task)


def served_specs(folder: Path, ledger: Ledger) -> tuple[dict[str, Workflow], dict[str, Trouble] | None]:
    """The workflows as they are served now, and what is wrong with their files.

    Nothing and ``None`` where there is no folder: they only refine what the ledger says.
    """
    if not folder.is_dir():
        return {}, None

    from airflow_calib_provider.injection.serving import serve

    try:
        team = team_of(folder)
        with ledger.read() as connection:
            kept, known = spec_files.kept_texts(connection, team), spec_files.troubles(connection)
        served = serve(folder, lambda: kept)
    except CalibError:
        return {}, None
    found = {}
    troubles = {spec_files.row_of(name, team): trouble for name, trouble in served.troubles.items()}
    for name, trouble in troubles.items():
        # Whether a workflow is gone is for injection to say: here may be another folder than there.
        if trouble.reason["code"] != "workflow_gone" or name in known:
            found[name] = replace(trouble, since=known[name].since if name in known else None)
    return served.workflows, found
