"""Where Airflow shows what is wrong with the YAML files: as the import error of a file that has no DAGs (rule 43).

An import error stales every DAG of its file, and those of a workflow go on with its last good text.
"""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.cache import checked


def report_problems(stub: str, specs: str = "../workflow_specs") -> None:
    """Raise every mistake of the YAML files.

    :param stub: ``__file__`` of the stub.
    :param specs: folder of the YAML files, relative to the stub.
    :raises SpecErrors: there are mistakes.
    """
    check = checked((Path(stub).resolve().parent / specs).resolve())
    if check.errors:
        raise SpecErrors(check.errors)
