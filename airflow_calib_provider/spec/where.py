"""Checking a workflow's condition at load; apart from the rest, because the runtime need not be there for workers."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.spec.condition_text import ConditionText
from airflow_calib_provider.spec.conditions import NOT_IN_CONDITIONS, Condition, ConditionError, read_condition
from airflow_calib_provider.spec.group_conditions import GroupCondition
from airflow_calib_provider.spec.models import FieldType, RunSource
from airflow_calib_provider.spec.positions import Scalar
from airflow_calib_provider.spec.problems import Problems, nearest


def check_condition(scalar: Scalar, text: str, source: RunSource | None, problems: Problems) -> None:
    """Report a condition that cannot be read, or that does not fit the fields of its source.

    :param source: ``None`` leaves the fields unchecked.
    """
    try:
        words = read_condition(text)
    except ConditionError as error:
        _tell(error, scalar, problems)
        return
    if source is None:
        return
    told = _tell_unknown(words, scalar, source, problems)
    try:
        Condition(text, source.fields)
    except ConditionError as error:
        for mistake in (error, *error.others):
            if words.offset(mistake.line, mistake.column) not in told:
                _tell(mistake, scalar, problems)


def check_answer_condition(scalar: Scalar, text: str, types: Mapping[str, str], problems: Problems, noun: str) -> None:
    """Report a condition on what a service answers that cannot be read, or does not fit the declared fields.

    :param types: of the fields, :param noun: and what the condition calls their object.
    """
    try:
        words = read_condition(text, noun)
        unknown = [use for use in words.uses() if use.name not in types]
        for use in unknown:
            place = problems.offset(scalar, *words.place(use.mention))
            said = f"`fields` declares no {use.name!r}"
            problems.add(said, place, expected=one_of(types), hint=nearest(use.name, types))
        if not unknown:
            Condition(text, {name: FieldType(kind) for name, kind in types.items()}, noun=noun)
    except ConditionError as error:
        for mistake in (error, *error.others):
            _tell(mistake, scalar, problems)


def check_group_condition(scalar: Scalar, text: str, problems: Problems) -> None:
    """Report a condition on groups that cannot be read, or is true of one without runs."""
    try:
        GroupCondition(text)
    except ConditionError as error:
        for mistake in (error, *error.others):
            _tell(mistake, scalar, problems)


def _tell(mistake: ConditionError, scalar: Scalar, problems: Problems) -> None:
    place = problems.offset(scalar, mistake.line, mistake.column) if mistake.line else scalar.position
    problems.add(mistake.message, place, hint=mistake.hint)


def _tell_unknown(words: ConditionText, scalar: Scalar, source: RunSource, problems: Problems) -> set[int]:
    """Report every mention of a field that a source does not supply, or that is not for conditions.

    :returns: where these mentions stand in the text.
    """
    fields = [name for name in source.fields if name not in NOT_IN_CONDITIONS]
    unknown = [use for use in words.uses() if use.name not in fields]
    for use in unknown:
        barred = use.name in NOT_IN_CONDITIONS
        problems.add(
            f"a condition cannot use {use.name!r}"
            if barred
            else f"the source {source.name!r} supplies no field {use.name!r}",
            problems.offset(scalar, *words.place(use.mention)),
            expected=one_of(fields),
            hint="" if barred else nearest(use.name, fields) or "declare it under 'fields' of the run source",
        )
    return {offset for use in unknown for offset in range(use.start, use.end)}
