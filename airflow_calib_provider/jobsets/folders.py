"""Where the files of a generation lie, and their promotion (rule 16).

::

    products/<campaign>/<workflow>/<task>/<group>/g<generation>/
        attempts/job-00003-a2/    what one attempt writes: out/, report.jsonl, inputs.txt, stdout, stderr
        job-00003/                the accepted attempt, renamed as a whole
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.settings import products_folder


def generation_folder(folder: str) -> Path:
    """The absolute folder of a generation, from the relative one in the ledger.

    :raises ProductError: it would lie outside the products folder.
    """
    # By its name alone: asking the file system for links would be most of the cost of each of a job set's paths.
    root = Path(os.path.abspath(products_folder()))  # noqa: PTH100 - Path.absolute keeps ".."
    path = Path(os.path.normpath(root / folder))
    if not path.is_relative_to(root):
        raise ProductError(f"{folder} leaves the products folder {root}")
    return path


_ATTEMPTS = "attempts"


def _job(index: int) -> str:
    return f"job-{index:05d}"


def _attempt(index: int, attempt: int) -> str:
    return f"{_job(index)}-a{attempt}"


def job_folder(folder: str, index: int) -> Path:
    """Where the accepted attempt of a job lies."""
    return generation_folder(folder) / _job(index)


def attempt_folder(folder: str, index: int, attempt: int) -> Path:
    """Where one attempt of a job writes."""
    return generation_folder(folder) / _ATTEMPTS / _attempt(index, attempt)


def product_path(folder: str, index: int, file: str) -> Path:
    """A product of an accepted attempt."""
    return job_folder(folder, index) / "out" / file


def log_files(folder: str, index: int, attempt: int, accepted: int | None) -> tuple[Path, Path]:
    """Standard output and standard error of an attempt, wherever it lies now."""
    moved = job_folder(folder, index)
    here = moved if attempt == accepted and moved.exists() else attempt_folder(folder, index, attempt)
    return here / "stdout", here / "stderr"


def promote(folder: str, accepted: Mapping[int, int], scope: str = "") -> None:
    """Rename accepted attempts into their final places. Doing it again changes nothing.

    :param folder: the generation's, as in the ledger.
    :param accepted: job → the number of its accepted attempt.
    :param scope: for crash points.
    :raises ProductError: an attempt's folder is gone; the others are in their places.
    """
    place = generation_folder(folder)
    lost: list[ProductError] = []
    renamed = False
    for index, attempt in accepted.items():
        source, target = place / _ATTEMPTS / _attempt(index, attempt), place / _job(index)
        if target.exists():
            continue
        crash_point("products.before_promote", scope)
        try:
            source.rename(target)
            renamed = True
        except FileNotFoundError:
            if not target.exists():
                lost.append(_gone(source, index, attempt))
    if renamed:
        # Once for all of them: it is the slowest part.
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        crash_point("products.after_promote", scope)
    if lost:
        raise lost[0]


def _gone(source: Path, index: int, attempt: int) -> ProductError:
    return ProductError(
        f"the products of job {index}, attempt {attempt}, are gone from {source}", "clear the task to run it again"
    )
