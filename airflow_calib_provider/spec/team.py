"""Whose folder of specs it is, where one Airflow has those of several teams."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_calib_provider.domain.scalars import NAME, NAME_LENGTH
from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.regular import read_bytes

_LINE = re.compile(rb"^(?:team|\"team\"|'team')[ \t]*:[ \t]*(.*?)[ \t]*(?:#.*)?$", re.MULTILINE)


def team_of(folder: Path) -> str:
    """The ``team`` of a folder's ``sources.yaml``; empty where none is named.

    It is read as a line, not as YAML: a mistake elsewhere in the file must not make the folder nobody's.

    :raises SpecError: it is no name.
    """
    file = folder / SOURCES_FILE
    try:
        content = read_bytes(file)
    except OSError:
        return ""
    found = _LINE.search(content.replace(b"\r\n", b"\n"))
    if found is None:
        return ""
    name = found[1].decode(errors="replace").strip("\"'")
    if not NAME.fullmatch(name) or len(name) > NAME_LENGTH:
        line = content[: found.start()].count(b"\n") + 1
        raise SpecError(
            f"{name!r} is no name of a team",
            Place(file, line, 1),
            expected=f"letters, digits and _, starting with a letter, at most {NAME_LENGTH}",
        )
    return name
