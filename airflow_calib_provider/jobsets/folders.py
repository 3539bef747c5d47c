"""Where the files of a generation lie, and their promotion (rule 16).

::

    products/<campaign>/<workflow>/<task>/<group>/g<generation>/
        runs.txt, inputs-….txt    what all of its jobs read
        attempts/job-00003-a2/    what one attempt writes: out/, report.jsonl, stdout, stderr; and inputs of its own
        job-00003/                the accepted attempt, renamed as a whole
        step-007/                 of what iterates: all of this for a step; job-00000 is the result then
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


CONSTANTS_FOLDER = "constants"
"""Beside the generations of what iterates: the constants that they began with, named by their content."""

_ATTEMPTS = "attempts"


def _job(index: int) -> str:
    return f"job-{index:05d}"


def attempt_name(index: int, attempt: int) -> str:
    """What the folder of an attempt is called."""
    return f"{_job(index)}-a{attempt}"


def job_folder(folder: str, index: int) -> Path:
    """Where the accepted attempt of a job lies."""
    return generation_folder(folder) / _job(index)


def attempts_folder(folder: str) -> Path:
    """Where the folders of all attempts of a generation are."""
    return generation_folder(folder) / _ATTEMPTS


def attempt_folder(folder: str, index: int, attempt: int) -> Path:
    """Where one attempt of a job writes."""
    return attempts_folder(folder) / attempt_name(index, attempt)


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
    within = str(place)
    lost: list[ProductError] = []
    renamed = False
    for index, attempt in accepted.items():
        source, target = f"{within}/{_ATTEMPTS}/{attempt_name(index, attempt)}", f"{within}/{_job(index)}"
        if os.path.exists(target):  # noqa: PTH110 - of very many jobs
            continue
        crash_point("products.before_promote", scope)
        try:
            os.rename(source, target)  # noqa: PTH104
            renamed = True
        except FileNotFoundError:
            if not os.path.exists(target):  # noqa: PTH110
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


def _gone(source: str, index: int, attempt: int) -> ProductError:
    return ProductError(
        f"the products of job {index}, attempt {attempt}, are gone from {source}", "clear the task to run it again"
    )
