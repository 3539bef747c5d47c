"""An outside store of payloads: a notebook, one file with a line for each payload of any tag."""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside.conditions import ConditionsStore, PlacedPayload, checked


class Notebook(ConditionsStore):
    """``notebook:/some/file``: lines of tag, first run, last run (``-``: open) and file."""

    @classmethod
    def fault(cls, place: str) -> str:
        return "" if place.startswith("/") else "is not the absolute path of a notebook"

    def listing(self, tag: str) -> list[PlacedPayload]:
        try:
            lines = [line.split() for line in Path(self.place).read_text().splitlines()]
        except OSError as error:
            raise OutsideError(f"the notebook is away: {error.strerror}") from error
        found = [
            PlacedPayload(int(first), None if last == "-" else int(last), file)
            for of_tag, first, last, file in lines
            if of_tag == tag
        ]
        if not found:
            raise OutsideError(f"the notebook has nothing of {tag}")
        return checked(tag, found)


STORE = Notebook
