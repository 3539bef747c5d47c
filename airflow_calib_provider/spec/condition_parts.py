"""Which part of a condition a run does not meet, and with what values."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.unmet import UnmetPart
from airflow_calib_provider.spec.condition_text import ConditionText
from airflow_calib_provider.spec.conditions import Condition, ConditionError
from airflow_calib_provider.spec.models import FieldType


def unmet(
    text: str, types: Mapping[str, FieldType], fields: Mapping[str, object], *, untold: bool = False
) -> list[UnmetPart]:
    """The parts by which a condition is not met: of parts that must all be true those that are not, of others each.

    What cannot be told is left out where something else beside it is false: that is asked first, as by ``has(...)``.

    :param types: of the fields.
    :param fields: of the run, by name.
    :param untold: what cannot be told is not left out: it is why the whole cannot be told.
    :returns: none, if it is met.
    """
    whole = ConditionText(ConditionText(text).unbracketed())
    sign, operands = whole.operands()
    if not sign:
        part = _part(whole.text, types, fields)
        return [] if part is None else [part]
    found = [unmet(operand, types, fields, untold=untold) for operand in operands]
    if sign == "||" and not all(found):
        return []
    parts = [part for some in found for part in some]
    plain = [part for part in parts if not part.error]
    return plain if sign == "&&" and plain and not untold else parts


def _part(text: str, types: Mapping[str, FieldType], fields: Mapping[str, object]) -> UnmetPart | None:
    """``None``: it is met."""
    values, error = dict[str, object](), ""
    try:
        condition = Condition(text, types)
        values = {name: fields.get(name) for name in sorted(condition.fields)}
        if condition.evaluate(fields):
            return None
    except ConditionError as caught:
        error = caught.message
    return UnmetPart(text, values, error)
