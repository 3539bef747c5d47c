"""The workflow of a stub, for the processes of Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.spec.known import good_workflow

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.errors import SpecError
    from airflow_calib_provider.ledger.spec_files import KeptText
    from airflow_calib_provider.spec.models import Workflow


def served_workflow(path: Path, *, worker: bool) -> Workflow:
    """The workflow of a YAML file: as it is now, or as its last good text was. The ledger is asked in this case only.

    :param worker: something of it is running.
    :raises SpecErrors: the file has mistakes, and there is no good text before it.
    """
    if (known := good_workflow(path)) is not None:
        if not worker:
            refuse_another_teams(path, known)
        return known

    # What reads YAML takes longer to import than a task's process needs for everything else of ours.
    from airflow_calib_provider.errors import LedgerError, Place, SpecError, SpecErrors
    from airflow_calib_provider.injection.serving import serve_file

    silent: list[LedgerError] = []

    def kept() -> Sequence[KeptText]:
        try:
            return kept_texts(path.parent)
        except LedgerError as error:
            silent.append(error)
            return ()

    try:
        served = serve_file(path, kept, worker=worker)
        if not worker:
            refuse_another_teams(path, served)
        return served
    except SpecErrors as error:
        if not silent:
            raise
        more = SpecError(f"its last good text cannot be read: {silent[0]}", Place(path))
        raise SpecErrors([*error.errors, more]) from None


def refuse_another_teams(path: Path, workflow: Workflow) -> None:
    """Two bundles must not fight for the DAGs of one name.

    :raises SpecErrors: the workflow is that of another team.
    """
    if errors := another_teams(path.parent, {workflow.name: (path, workflow.hash)}):
        from airflow_calib_provider.errors import SpecErrors

        raise SpecErrors(errors)


def another_teams(folder: Path, workflows: Mapping[str, tuple[Path, str]]) -> list[SpecError]:
    """Which workflows of a folder are those of another team. Nothing is asked where there is one bundle.

    One with the same text may be that of a team that has another name now: of that the injection decides.

    :param workflows: name → file, and the hash of its text.
    """
    from airflow.sdk.configuration import conf

    if len(conf.getjson("dag_processor", "dag_bundle_config_list") or ()) < 2:
        return []
    from airflow_calib_provider.errors import LedgerError
    from airflow_calib_provider.injection.teams import taken
    from airflow_calib_provider.ledger import spec_files
    from airflow_calib_provider.spec.team import team_of

    try:
        with task_ledger().read() as connection:
            owners = spec_files.owners(connection)
    except LedgerError:
        return []  # calib_inject says it, too
    team = team_of(folder)
    found = (
        taken([item for item in owners if item.hash != text], team, name, path)
        for name, (path, text) in workflows.items()
    )
    return [error for error in found if error is not None]


def kept_texts(folder: Path) -> Sequence[KeptText]:
    """The last good texts of those whose folder it is.

    :raises LedgerError: they cannot be read.
    """
    from airflow_calib_provider.ledger import spec_files
    from airflow_calib_provider.spec.team import team_of

    with task_ledger().read() as connection:
        return spec_files.kept_texts(connection, team_of(folder))
