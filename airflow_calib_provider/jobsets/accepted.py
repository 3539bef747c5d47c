"""Whether what jobs made is still there: anybody may have deleted it since it was accepted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.folders import attempt_folder, job_folder
from airflow_calib_provider.jobsets.products import check_product
from airflow_calib_provider.ledger.rows import JobRecord, Product


def accepted_folder(folder: str, job: JobRecord) -> Path:
    """Where the accepted attempt of a job lies: in its place, or still where it ran.

    :param folder: the generation's, as in the ledger.
    :param job: its row.
    """
    place = job_folder(folder, job.job_index)
    if job.accepted_attempt is None or place.exists():
        return place
    return attempt_folder(folder, job.job_index, job.accepted_attempt)


def gone(folder: str, jobs: Iterable[JobRecord], products: Sequence[Product]) -> list[str]:
    """The products of accepted jobs that are missing or empty now, in words; of a job without any its folder.

    :param jobs: the rows of the jobs.
    :param products: rows with ``job_index``, ``name`` and ``file``.
    """
    of_job: dict[int, list[Product]] = {}
    for item in products:
        of_job.setdefault(item.job_index, []).append(item)
    found = []
    for job in jobs:
        if job.accepted_attempt is None:
            continue
        place = accepted_folder(folder, job)
        if not place.is_dir():
            found.append(f"the folder of job {job.job_index}")
            continue
        for item in of_job.get(job.job_index, ()):
            try:
                check_product(place / "out", item.name, item.file)
            except ProductError:
                found.append(f"{item.name} of job {job.job_index}")
    return found
