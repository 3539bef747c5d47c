"""Where Airflow shows what is wrong with the YAML files: as the import error of a file that has no DAGs (rule 43).

An import error stales every DAG of its file, and those of a workflow go on with its last good text.
"""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.errors import SpecErrors, told_once
from airflow_calib_provider.hooks.specs import another_teams
from airflow_calib_provider.spec.cache import checked


def report_problems(stub: str, specs: str = "../workflow_specs") -> None:
    """Raise every mistake of the YAML files.

    :param stub: ``__file__`` of the stub.
    :param specs: folder of the YAML files, relative to the stub.
    :raises SpecErrors: there are mistakes.
    """
    folder = (Path(stub).resolve().parent / specs).resolve()
    check = checked(folder)
    named = {item.name: (item.file, item.hash) for item in check.files if item.name is not None}
    # Airflow's UI does not show the import error of a stub whose name a stub with DAGs has in another bundle.
    if errors := [*told_once(check.errors), *another_teams(folder, named)]:
        raise SpecErrors(errors)
