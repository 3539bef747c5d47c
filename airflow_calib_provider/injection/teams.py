"""Folders of specs of several teams with one ledger: none decides anything of what is another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import LedgerError, Place, SpecError, SpecErrors
from airflow_calib_provider.ledger import spec_files
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.positions import parse_document
from airflow_calib_provider.spec.sources_file import SourcesFile

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from airflow_calib_provider.injection.serving import Served
    from airflow_calib_provider.ledger.spec_files import Owner
    from airflow_calib_provider.spec.models import RunSource


@dataclass(frozen=True)
class Bundles:
    """The bundles of an Airflow.

    :ivar own: from which a folder of specs comes.
    :ivar others: the further ones that are configured.
    :ivar version: of the own one, such as a commit; ``None``: it has none.
    """

    own: str
    others: frozenset[str] = frozenset()
    version: str | None = None


@dataclass(frozen=True)
class Neighbours:
    """What the ledger knows of the other teams.

    :ivar owners: whose each workflow is.
    :ivar sources: the texts of the others' run sources, by team.
    """

    team: str
    owners: Sequence[Owner]
    sources: Mapping[str, str]

    bundles: Bundles | None = None

    @classmethod
    def read(cls, connection: Connection, team: str, bundles: Bundles | None = None) -> Neighbours:
        """As of now.

        :param bundles: of the Airflow whose folder it is.
        """
        own = None if bundles is None else bundles.own
        return cls(team, spec_files.owners(connection), spec_files.others_sources(connection, team, own), bundles)


def taken(owners: Iterable[Owner], team: str, workflow: str, file: Path) -> SpecError | None:
    """That a workflow is another team's, if it is."""
    owner = next((item for item in owners if item.workflow == workflow), None)
    if owner is None or owner.team == team or owner.is_gone:
        return None
    return SpecError(
        f"the workflow {workflow} is that of {owner.place}, already",
        Place(file, 1, 1),
        suggestion="give this one another name: workflows and their DAGs are named once in an Airflow",
    )


def renamed(owners: Sequence[Owner], bundles: Bundles | None) -> list[Owner]:
    """The owners, without those that are this very folder, whose team has another name since."""
    if bundles is None:
        return list(owners)
    return [
        item
        for item in owners
        # What is from the same commit is of another folder of it.
        if item.bundle != bundles.own or (item.version is not None and item.version == bundles.version)
    ]


def refuse_taken(served: Served, neighbours: Neighbours, folder: Path, own_sources: str | None) -> None:
    """Take out what is another team's: workflows of its names, and run sources that it declares otherwise.

    What both have shared until now stays for both: the edit of one is told, and must be followed by the other.

    :param own_sources: the last good text of the folder's own run sources.
    """
    for name, flow in list(served.workflows.items()):
        error = taken(renamed(neighbours.owners, neighbours.bundles), neighbours.team, name, Path(flow.file))
        if error is not None:
            served.refuse(Path(flow.file).name, name, error)
    before = _sources_of(own_sources, folder)
    strange: dict[str, str] = {}
    for team, text in sorted(neighbours.sources.items()):
        for source, declared in _sources_of(text, folder).items():
            if served.sources.get(source, declared) == declared:
                continue
            whose = f"the team {team}" if team else "those without a team"
            hint = "give this one another name, or let both say the same: runs of one source and number are one run"
            said = f"the run source {source} is declared otherwise by {whose}"
            served.errors.append(SpecError(said, Place(folder / SOURCES_FILE, 1, 1), suggestion=hint))
            if source not in before:
                strange[source] = team
    if strange:
        served.sources_text = None
        served.sources = {name: source for name, source in served.sources.items() if name not in strange}
    for name, flow in list(served.workflows.items()):
        if flow.runs.source in strange:
            served.good.pop(Path(flow.file).name, None)
            del served.workflows[name]


def _sources_of(text: str | None, folder: Path) -> Mapping[str, RunSource]:
    if text is None:
        return {}
    try:
        return SourcesFile(parse_document(text, folder / SOURCES_FILE)).sources
    except (SpecError, SpecErrors):
        return {}


def check_bundle(owners: Sequence[Owner], team: str, bundles: Bundles, declared: Iterable[str]) -> None:
    """Two bundles are not to take each other's workflows for deleted ones.

    Specs that have moved from one bundle to another are known by their names.

    :param declared: the workflows of the folder.
    :raises LedgerError: all workflows of the team are those of another bundle.
    """
    mine = [item for item in owners if item.team == team and not item.workflow.startswith(spec_files.BESIDE)]
    living = [item for item in mine if not item.is_gone]
    if not living or {item.workflow for item in living} & set(declared):
        return
    if not all(item.bundle in bundles.others for item in living):
        return
    names, other = ", ".join(sorted(item.workflow for item in living)[:5]), living[0].bundle
    whose = f"the team {team}" if team else "nobody's team"
    raise LedgerError(
        f"the bundles {other} and {bundles.own} both have specs of {whose}, and this one has none of {names}: nothing "
        "was injected",
        f"write `team: NAME` into {SOURCES_FILE} of one of them; its DAG is then calib_inject_NAME",
    )
