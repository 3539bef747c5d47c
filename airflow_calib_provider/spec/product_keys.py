"""The keys of products, of job sets and of what iterates."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Either, Keys, Where, Words
from airflow_calib_provider.domain.scalars import WHAT, Duration, Reads, filled, mistake
from airflow_calib_provider.spec.templates import is_template

_FILE_NAME = 255
"""Bytes of a file's name that Linux takes."""


def _file(value: object) -> str:
    found = filled(value)
    problem = _wrong_with(found)
    if problem:
        raise mistake(f"{WHAT} {found!r} {problem}", "a file relative to CALIB_OUT")
    return found


def _wrong_with(file: str) -> str:
    path = PurePosixPath(file)
    if is_template(file):
        return "is a template"
    if path.is_absolute() or file.startswith("~"):
        return "is absolute"
    if ".." in path.parts:
        return "leaves its folder with '..'"
    if file.endswith("/") or not path.parts:
        return "is a folder"
    if "\\" in file or not file.isprintable():
        return "has a character that file names should not have"
    if any(len(part.encode()) > _FILE_NAME for part in path.parts):
        return f"has a name of more than {_FILE_NAME} bytes"
    return ""


ProductFile = Annotated[
    str,
    Reads(_file, {"type": "string", "pattern": r"^[^/~\\][^\\]*$", "not": {"pattern": r"(^|/)\.\.(/|$)|/$"}}, "file"),
]


class ProductKeys(Keys):
    """One product, as a mapping."""

    file: Annotated[
        ProductFile | None,
        Words(name="{above}.{key}", missing="a file relative to CALIB_OUT"),
        Field(description="what a job leaves in `CALIB_OUT`, relative to it, without `..`"),
    ] = None
    drop: Annotated[
        Duration | None,
        Words(name="{above}.{key}", default="never"),
        Field(
            description="its files are removed this long after their job has succeeded; what needs it then fails, and "
            "says so, until it is made again"
        ),
    ] = None


ProductValue = Annotated[str | ProductKeys, Either(scalar=ProductFile, mapping=ProductKeys)]


def files_of(products: dict[str, str | ProductKeys]) -> dict[str, str]:
    """Product → file, of those that say which."""
    files = {name: item.file if isinstance(item, ProductKeys) else item for name, item in products.items()}
    return {name: file for name, file in files.items() if file}


def drops_of(products: dict[str, str | ProductKeys]) -> dict[str, timedelta]:
    """Product → for how long it is kept, of those that are not kept for ever."""
    stated = {name: item.drop for name, item in products.items() if isinstance(item, ProductKeys)}
    return {name: drop for name, drop in stated.items() if drop is not None}


def same_files(products: dict[str, str], where: Where) -> Iterator[tuple[Where, PydanticCustomError]]:
    """Products that are the same file as one before them, or lie in another."""
    first: dict[PurePosixPath, str] = {}
    for product, file in products.items():
        other = first.setdefault(PurePosixPath(file), product)
        if other != product:
            yield (*where, product), mistake(f"{WHAT} is the same file as products.{other}")
    for product, file in products.items():
        holder = next((first[folder] for folder in PurePosixPath(file).parents if folder in first), None)
        if holder is not None:
            yield (*where, product), mistake(f"{WHAT} lies in products.{holder}, which is a file")
