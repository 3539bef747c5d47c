"""Where the files of a generation lie, and their promotion (rule 16).

::

    products/<campaign>/<workflow>/<task>/<group>/g<generation>/
        attempts/job-00003-a2/    what one attempt writes: out/, report.jsonl, inputs.txt, stdout, stderr
        job-00003/                the accepted attempt, renamed as a whole
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.settings import products_folder


def generation_folder(folder: str) -> Path:
    """The absolute folder of a generation, from the relative one in the ledger.

    :raises ProductError: it would lie outside the products folder.
    """
    root = products_folder().resolve()
    path = (root / folder).resolve()
    if not path.is_relative_to(root):
        raise ProductError(f"{folder} leaves the products folder {root}")
    return path


def job_folder(folder: str, index: int) -> Path:
    """Where the accepted attempt of a job lies."""
    return generation_folder(folder) / f"job-{index:05d}"


def attempt_folder(folder: str, index: int, attempt: int) -> Path:
    """Where one attempt of a job writes."""
    return generation_folder(folder) / "attempts" / f"job-{index:05d}-a{attempt}"


def product_path(folder: str, index: int, file: str) -> Path:
    """A product of an accepted attempt."""
    return job_folder(folder, index) / "out" / file


def log_files(folder: str, index: int, attempt: int, accepted: int | None) -> tuple[Path, Path]:
    """Standard output and standard error of an attempt, wherever it lies now."""
    moved = job_folder(folder, index)
    here = moved if attempt == accepted and moved.exists() else attempt_folder(folder, index, attempt)
    return here / "stdout", here / "stderr"


def promote(folder: str, index: int, attempt: int, scope: str = "") -> None:
    """Rename the accepted attempt into its final place. Doing it again changes nothing.

    :raises ProductError: the attempt's folder is gone.
    """
    source, target = attempt_folder(folder, index, attempt), job_folder(folder, index)
    if target.exists():
        return
    crash_point("products.before_promote", scope)
    try:
        source.rename(target)
    except FileNotFoundError:
        if not target.exists():
            raise ProductError(
                f"the products of job {index}, attempt {attempt}, are gone from {source}",
                "clear the task to run it again",
            ) from None
    descriptor = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    crash_point("products.after_promote", scope)
