"""Reading values that are texts, such as a CSV file's cells, by their declared types."""

from __future__ import annotations

import math
import re

from airflow_calib_provider.domain.run import MAX_RUN_NUMBER, FieldValue
from airflow_calib_provider.runsources.times import EXPECTED, ClockChange, TimeRules
from airflow_calib_provider.spec.models import FieldType

_INT = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)
_FLOAT = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "1": True, "0": False}


class BadValue(Exception):
    """A cell that is not what its column says.

    :ivar expected: what would be right.
    """

    def __init__(self, message: str, expected: str = "") -> None:
        super().__init__(message)
        self.expected = expected


def read_value(text: str, kind: FieldType, name: str, times: TimeRules) -> FieldValue:
    """One value; an empty cell is null.

    :param name: of the field: luminosities and event counts cannot be negative.
    :raises BadValue: it is not of this type.
    """
    text = text.strip()
    if not text:
        return None
    if kind is FieldType.STRING:
        return text
    if kind is FieldType.BOOL:
        return read_bool(text)
    if kind is FieldType.TIME:
        return _time(text, times)
    value = _integer(text) if kind is FieldType.INT else _number(text)
    check_sign(value, name, text)
    return value


def check_sign(value: float, name: str, text: str = "") -> None:
    """:raises BadValue: luminosities and event counts cannot be negative."""
    if value < 0 and (name == "events" or name.startswith("lumi")):
        raise BadValue(f"{name} is negative: {text or value}", "0 or more")


def read_bool(text: str) -> bool:
    """:raises BadValue: it is no truth value."""
    value = _BOOLS.get(text.strip().lower())
    if value is None:
        raise BadValue(f"{shown(text)} is no truth value", "true or false")
    return value


def read_run_number(text: str) -> int:
    """:raises BadValue: it is no positive whole number, or too large."""
    text = text.strip()
    if not text:
        raise BadValue("the run number is empty", "a whole number above 0")
    value = _integer(text)
    if not 0 < value <= MAX_RUN_NUMBER:
        raise BadValue(f"the run number is {text}", "a whole number above 0 and at most 2^53")
    return value


def shown(text: str) -> str:
    """A text for a message, cut to a readable length."""
    return repr(text if len(text) <= 60 else text[:57] + "…")


def _integer(text: str) -> int:
    if not _INT.fullmatch(text) or abs(int(text)) >= 2**63:
        raise BadValue(f"{shown(text)} is no whole number", "a whole number")
    return int(text)


def _number(text: str) -> float:
    if not _FLOAT.fullmatch(text):
        raise BadValue(f"{shown(text)} is no number", "a finite number")
    value = float(text)
    if not math.isfinite(value):
        raise BadValue(f"{shown(text)} is too large", "a finite number")
    return value


def _time(text: str, times: TimeRules) -> str:
    try:
        return times.read(text).isoformat()
    except ClockChange as error:
        raise BadValue(str(error), EXPECTED) from None
    except ValueError:
        raise BadValue(f"{shown(text)} is no time", EXPECTED) from None
