"""The workflow of a stub, for the processes of Airflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.spec.known import good_workflow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_calib_provider.ledger.spec_files import KeptText
    from airflow_calib_provider.spec.models import Workflow


def served_workflow(path: Path, *, worker: bool) -> Workflow:
    """The workflow of a YAML file: as it is now, or as its last good text was. The ledger is asked in this case only.

    :param worker: something of it is running.
    :raises SpecErrors: the file has mistakes, and there is no good text before it.
    """
    if (known := good_workflow(path)) is not None:
        return known

    # What reads YAML takes longer to import than a task's process needs for everything else of ours.
    from airflow_calib_provider.errors import LedgerError, Place, SpecError, SpecErrors
    from airflow_calib_provider.injection.serving import serve_file

    silent: list[LedgerError] = []

    def kept() -> Sequence[KeptText]:
        try:
            return kept_texts()
        except LedgerError as error:
            silent.append(error)
            return ()

    try:
        return serve_file(path, kept, worker=worker)
    except SpecErrors as error:
        if not silent:
            raise
        more = SpecError(f"its last good text cannot be read: {silent[0]}", Place(path))
        raise SpecErrors([*error.errors, more]) from None


def kept_texts() -> Sequence[KeptText]:
    """The last good texts.

    :raises LedgerError: they cannot be read.
    """
    from airflow_calib_provider.ledger import spec_files

    with task_ledger().read() as connection:
        return spec_files.kept_texts(connection)
