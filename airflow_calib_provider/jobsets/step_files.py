"""Files of an iteration that no job makes: its first constants, lists of results, its result."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.crash import crash_point
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder
from airflow_calib_provider.spec.language import PICTURE

_LONGEST = 180
"""Bytes of a name that more is written around, of the 255 that there may be."""


def relative(file: Path) -> str:
    """A file in the products folder, relative to it."""
    return str(file.relative_to(generation_folder("")))


def keep_result_file(folder: str, file: str, source: Path, scope: str, picture: str) -> Path:
    """Copy the constants to where the product of a job lies; doing it again changes nothing.

    :param folder: the generation's, :param file: what the product is called.
    :param picture: how the iteration went, as SVG.
    :returns: the folder that stands for the job's ``CALIB_OUT``.
    """
    place = job_folder(folder, 0)
    target = place / "out" / file
    if not target.exists():
        part = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}")
        shutil.rmtree(part, ignore_errors=True)
        (part / "out" / file).parent.mkdir(parents=True)
        shutil.copyfile(source, part / "out" / file)
        (part / "out" / PICTURE).write_text(picture, encoding="utf-8")
        crash_point("products.before_promote", scope)
        if place.exists():
            shutil.rmtree(place)
        part.rename(place)
    return place / "out"


def keep_start(source: Path, place: Path) -> tuple[Path, str]:
    """Copy the first constants to where nothing changes them, named by their content.

    :param place: a folder.
    :returns: the copy, and its hash.
    :raises ProductError: they cannot be read, or are empty.
    """
    try:
        digest = checksum(source)
        target = place / f"{digest[:12]}-{_tame(source.name)}"
        if not target.exists():
            place.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}")
            shutil.copyfile(source, part)
            if checksum(part) != digest:
                part.unlink()
                raise ProductError(f"the first constants are being written: {source}", "clear the task when they are")
            part.replace(target)
        if not target.stat().st_size:
            raise ProductError(f"the first constants are empty: {source}")
    except OSError as error:
        raise ProductError(f"the first constants cannot be read: {error}") from error
    return target, digest


def _tame(name: str) -> str:
    """A name as it can stand in a line of an order, with more around it; its end tells of what kind it is."""
    printable = "".join(one if one.isprintable() else "_" for one in name)
    return printable.encode("utf-8", "replace")[-_LONGEST:].decode("utf-8", "ignore")


def write_whole(file: Path, text: str, *, durable: bool = False) -> None:
    """Write a file so that whoever sees it sees all of it.

    :param durable: also after a power cut: of what is not made again when it is missing.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        if durable:
            stream.flush()
            os.fsync(stream.fileno())
    part.replace(file)
