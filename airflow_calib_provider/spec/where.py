"""Checking a workflow's condition at load; apart from the rest, because reading conditions is slow to import."""

from __future__ import annotations

from airflow_calib_provider.spec.conditions import Condition, ConditionError
from airflow_calib_provider.spec.models import RunSource
from airflow_calib_provider.spec.positions import Scalar
from airflow_calib_provider.spec.problems import Problems, nearest, one_of


def check_condition(scalar: Scalar, text: str, source: RunSource | None, problems: Problems) -> None:
    """Report a condition that cannot be read, or that does not fit the fields of its source.

    :param source: ``None`` leaves the fields unchecked.
    """
    try:
        condition = Condition(text)
        # Every run that is looked at is completed, and which files it has is no property to select by.
        fields = [name for name in source.fields if name not in ("completed", "files")] if source else []
        if source is not None:
            unknown = [use for use in condition.uses if use.name not in fields]
            for use in unknown:
                problems.add(
                    f"a condition cannot use {use.name!r}"
                    if use.name in ("completed", "files")
                    else f"the source {source.name!r} supplies no field {use.name!r}",
                    problems.find(scalar, f"run.{use.name}"),
                    expected=one_of(fields),
                    hint=""
                    if use.name in ("completed", "files")
                    else nearest(use.name, fields) or "declare it under 'fields' of the run source",
                )
            if not unknown:
                condition.check(source.fields)
    except ConditionError as error:
        place = problems.offset(scalar, error.line, error.column) if error.line else scalar.position
        problems.add(error.message, place, hint=error.hint)
