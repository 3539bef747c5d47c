"""A campaign by the form of Airflow's DAG ``calib_campaign`` (rule 57): its values, its check, its creation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.domain.new_campaign import NewCampaign, PreparedCampaign
from airflow_calib_provider.errors import CalibError, Mistakes
from airflow_calib_provider.injection import creation
from airflow_calib_provider.injection.serving import serve
from airflow_calib_provider.ledger import campaigns, spec_files
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.team import team_of

ALL = "all"
"""What stands for all runs that the source lists: nothing filled in is no wish to process everything."""

STREAMED, COLLECTING, FINITE = "streamed", "collecting", "finite"
KINDS = (FINITE, COLLECTING, STREAMED)

TYPES: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "runs": str,
    "workflows": list,
    "base": str,
    "dry_run": bool,
    "kind": str,
    "source": str,
    "overrides": dict,
    "first_tasks": list,
    "order": str,
    "priority": int,
    "max_groups": int,
    "max_jobs": int,
}
"""The fields of the form, and what each holds; nothing filled in is ``None``, or an empty one."""

_SAID = {str: "a text", list: "a list of texts", bool: "true or false", dict: "a JSON object", int: "a whole number"}


@dataclass(frozen=True)
class Asked:
    """What became of a form.

    :ivar campaign: as it would be, or as it was created; ``None``: this DAG run had created it before.
    :ivar created: by this call.
    """

    name: str
    campaign: PreparedCampaign | None
    created: bool


def check(ledger: Ledger, folder: Path, form: Mapping[str, object], dag_run: str) -> Asked:
    """Check what is filled in. Nothing is written.

    :param folder: of the YAML files.
    :param dag_run: names the DAG run, in all of Airflow.
    :raises CalibError: the one mistake, or all of them (:class:`~airflow_calib_provider.errors.Mistakes`).
    """
    name = str(form.get("name") or "").strip()
    if _made_before(ledger, name, dag_run):
        return Asked(name, None, created=False)
    mistakes: list[CalibError] = []
    wanted = _wanted(ledger, folder, form, mistakes)
    try:
        found = creation.prepare(ledger, folder, wanted)
    except Mistakes as error:
        mistakes += [one for one in error.errors if isinstance(one, CalibError)]
    except CalibError as error:
        mistakes.append(error)
    if mistakes:
        raise mistakes[0] if len(mistakes) == 1 else Mistakes("the form", mistakes)
    return Asked(name, found, created=False)


def create(
    ledger: Ledger, folder: Path, form: Mapping[str, object], dag_run: str, now: datetime, *, person: str | None = None
) -> Asked:
    """Create what is filled in, or find what this DAG run has created before.

    :raises CalibError: as :func:`check`.
    """
    asked = check(ledger, folder, form, dag_run)
    if asked.campaign is None:
        return asked
    found = creation.create(ledger, folder, asked.campaign.wanted, now, person=person, dag_run=dag_run)
    crash_point("form.after_create", asked.name)
    return Asked(asked.name, found, created=True)


def _made_before(ledger: Ledger, name: str, dag_run: str) -> bool:
    with ledger.read() as connection:
        return bool(name) and campaigns.asked_by(connection, name) == dag_run


def _wanted(ledger: Ledger, folder: Path, form: Mapping[str, object], mistakes: list[CalibError]) -> NewCampaign:
    """What is filled in, as far as it can be read; what cannot counts as left out."""
    values = values_of(form, mistakes)
    kind = _text(values, "kind") or FINITE
    if kind not in KINDS:
        mistakes.append(CalibError(f"the kind is {kind[:80]!r}", f"choose one of {', '.join(KINDS)}"))
    name, runs = _text(values, "name"), _text(values, "runs")
    if not name:
        mistakes.append(CalibError("the campaign has no name", "fill in name, such as rereco-2026A"))
        name = "unnamed"
    if kind == FINITE and not runs:
        mistakes.append(CalibError("no runs are named", f"fill in runs, such as 355100-355180, 355200; or {ALL}"))
        runs = ALL
    workflows = _texts(values, "workflows")
    streamed = kind == STREAMED
    source = _text(values, "source")
    if not streamed and not source:
        source = _only_source(ledger, folder, workflows, mistakes)
    overrides = values["overrides"]
    return NewCampaign(
        name=name,
        streamed=streamed,
        collecting=kind == COLLECTING,
        source=source or None,
        runs=None if not runs or runs.lower() == ALL else runs,
        base=_text(values, "base") or None,
        workflows=workflows,
        overrides=overrides if isinstance(overrides, dict) else {},
        first_tasks=_texts(values, "first_tasks"),
        order=_text(values, "order") or campaigns.ORDERS[0],
        priority=_number(values, "priority") or 0,
        max_groups=_number(values, "max_groups"),
        max_jobs=_number(values, "max_jobs"),
    )


def values_of(form: Mapping[str, object], mistakes: list[CalibError]) -> dict[str, object]:
    """All fields with what is filled in; what cannot be read counts as left out.

    :param mistakes: gets what is wrong.
    """
    for key in form:
        if key not in TYPES:
            mistakes.append(CalibError(f"the form has no field {key[:80]!r}", nearest(key, TYPES)))
    return {key: _value(key, form.get(key), kind, mistakes) for key, kind in TYPES.items()}


def _value(key: str, value: object, kind: type | tuple[type, ...], mistakes: list[CalibError]) -> object:
    if value is None:
        return None
    fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
    if fits and isinstance(value, list):
        fits = all(isinstance(one, str) for one in value)
    if not fits:
        assert isinstance(kind, type)
        mistakes.append(CalibError(f"{key} is {str(value)[:80]!r}", f"it must be {_SAID[kind]}"))
        return None
    return value


def _text(values: Mapping[str, object], key: str) -> str:
    value = values[key]
    return value.strip() if isinstance(value, str) else ""


def _texts(values: Mapping[str, object], key: str) -> list[str]:
    value = values[key]
    return [one.strip() for one in value if one.strip()] if isinstance(value, list) else []


def _number(values: Mapping[str, object], key: str) -> int | None:
    value = values[key]
    return value if isinstance(value, int) else None


def _only_source(ledger: Ledger, folder: Path, workflows: Sequence[str], mistakes: list[CalibError]) -> str:
    """The source from which the workflows take their runs, where that is one."""
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
    served = serve(folder, lambda: kept)
    sources = creation.sources_of(served, workflows)
    if len(sources) == 1:
        return sources[0]
    # Where no workflow is right, its name is the mistake: the runs are checked all the same.
    if sources and any(name in served.to_inject for name in workflows or served.to_inject):
        said = f"the workflows take their runs from {', '.join(sources)}"
        mistakes.append(CalibError(said, "fill in source, under More fields, or fewer workflows"))
    return sources[0] if sources else ""


def plan_of(found: PreparedCampaign) -> list[str]:
    """What a campaign would be, in lines for a person."""
    wanted = found.wanted
    kind = "collecting" if wanted.collecting else wanted.kind
    lines = [f"the {kind} campaign {wanted.name}, based on {found.base or 'nothing'}"]
    if found.runs:
        lines.append(f"{len(found.runs)} runs of {wanted.source}: {found.runs[0]} to {found.runs[-1]}")
    if found.incomplete:
        listed = ", ".join(map(str, found.incomplete[:10]))
        lines.append(
            f"{len(found.incomplete)} are not completed ({listed}): it is grouped when they are, or are skipped"
        )
    lines.append(f"workflows: {', '.join(found.workflows) or 'all'}")
    lines += [f"{name} begins with {', '.join(tasks)}" for name, tasks in found.first_tasks.items()]
    lines += [
        f"{name} is set: {place} = {value}"
        for name, places in found.overrides.items()
        for place, value in places.items()
    ]
    limits = [f"{key} {value}" for key, value in (("groups", wanted.max_groups), ("jobs", wanted.max_jobs)) if value]
    lines.append(
        f"order {wanted.order}, priority {wanted.priority}, {'at most ' + ', '.join(limits) if limits else 'no limit'}"
    )
    return lines
