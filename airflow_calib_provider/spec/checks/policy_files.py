"""Files that policies follow, such as lists of boundaries: what is wrong with them, told before there is a group."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from airflow_calib_provider.errors import CalibError, Place, SpecError, SpecErrors
from airflow_calib_provider.spec.models import Workflow
from airflow_calib_provider.spec.policy_data import as_read


def mistakes_in_data(workflows: Iterable[Workflow]) -> list[SpecError]:
    """All that is wrong with these files, as they are now.

    Airflow reads them at injection only: there a mistake holds up one grouping, and no file.
    """
    found: dict[str, SpecError] = {}
    for workflow in workflows:
        file = Path(workflow.file)
        for policy in workflow.groupings().values():
            try:
                as_read(policy, file.parent)
            except SpecErrors as error:
                found |= {str(item): item for item in error.errors}
            except CalibError as error:
                item = SpecError(error.message, Place(file), suggestion=error.hint)
                found[str(item)] = item
    return list(found.values())
