"""Reading ``group_by`` (rules 2–8, 12)."""

from __future__ import annotations

from collections.abc import Mapping as Map
from typing import Any, Literal, cast

from airflow_calib_provider.domain.grouping import Grouping, GroupKind
from airflow_calib_provider.spec.language import KEYS, SHORT, TAIL
from airflow_calib_provider.spec.models import FieldType, RunSource
from airflow_calib_provider.spec.positions import Entry, Mapping, Node, Scalar
from airflow_calib_provider.spec.problems import nearest, one_of
from airflow_calib_provider.spec.reading import Keys, Reader

_FORMS = "run, fill, {run: …}, {fill: …} or {sum: …}"
_NUMERIC = (FieldType.INT, FieldType.FLOAT)


def read_grouping(node: Node, what: str, reader: Reader, source: RunSource | None) -> Grouping | None:
    """One ``group_by``.

    :param source: where the fields come from; ``None`` leaves them unchecked.
    """
    if isinstance(node, Scalar):
        return _short_form(node, what, reader, source)
    keys = Keys(reader, node, what, KEYS["group_by"])
    kinds = [name for name in KEYS["group_by"] if name in keys]
    if len(kinds) != 1:
        if isinstance(node, Mapping) and not node.is_template and (kinds or not node.entries):
            reader.problems.add(f"{what} has {' and '.join(kinds) or 'no kind'}", node, expected=f"expected {_FORMS}")
        return None
    kind = GroupKind(kinds[0])
    inner = keys[kind.value]
    if kind is GroupKind.RUN:
        return _run(inner, f"{what}.run", reader)
    if kind is GroupKind.FILL:
        return _fill(inner, f"{what}.fill", reader, source)
    return _sum(inner, f"{what}.sum", reader, source)


def _short_form(node: Scalar, what: str, reader: Reader, source: RunSource | None) -> Grouping | None:
    text = reader.text(node, what, _FORMS)
    if text is None:
        return None
    if text == "sum":
        reader.problems.add(f"{what} is 'sum' of nothing", node, expected="expected {sum: {<field>: <amount>}}")
        return None
    if text not in ("run", "fill"):
        reader.wrong(node, what, _FORMS, nearest(text, ("run", "fill")))
        return None
    if text == "fill":
        _check_fill(node, what, reader, source)
    return Grouping(kind=GroupKind(text), label=text)


def _run(node: Node, what: str, reader: Reader) -> Grouping | None:
    keys = Keys(reader, node, what, KEYS["group_by.run"])
    return Grouping(kind=GroupKind.RUN, **_common(keys, what, "run", reader))


def _fill(node: Node, what: str, reader: Reader, source: RunSource | None) -> Grouping | None:
    keys = Keys(reader, node, what, KEYS["group_by.fill"])
    _check_fill(node, what, reader, source)
    minimum: dict[str, float] = {}
    if "at_least" in keys:
        entries = reader.mapping(keys["at_least"], f"{what}.at_least")
        if entries is not None and not entries:
            reader.problems.add(f"{what}.at_least is empty", keys["at_least"], expected="expected {<field>: <amount>}")
        minimum = _amounts(entries or {}, f"{what}.at_least", reader, source)
    short = keys.get("short", reader.choice(SHORT))
    if short in ("next", "drop") and "at_least" not in keys:
        reader.problems.add(
            f"{what}.short without at_least", keys["short"], expected="expected at_least: {<field>: <amount>}"
        )
    return Grouping(
        kind=GroupKind.FILL,
        minimum=minimum,
        short=cast(Literal["next", "keep", "drop"], short or "keep"),
        max_wait=keys.get("max_wait", reader.duration),
        **_common(keys, what, "fill", reader),
    )


def _sum(node: Node, what: str, reader: Reader, source: RunSource | None) -> Grouping | None:
    entries = reader.mapping(node, what)
    if entries is None:
        return None
    options = KEYS["group_by.sum"]
    fields = {name: entry for name, entry in entries.items() if name not in options}
    if len(fields) != 1:
        reader.problems.add(
            f"{what} has {'no field' if not fields else 'several fields: ' + ', '.join(fields)}",
            node,
            expected="expected exactly one {<field>: <amount>}",
        )
    minimum = _amounts(fields, what, reader, source)
    known = Mapping({name: entry for name, entry in entries.items() if name in options}, node.position)
    keys = Keys(reader, known, what, options)
    tail = keys.get("tail", reader.choice(TAIL))
    common = _common(keys, what, "sum", reader)
    if len(minimum) != 1:
        return None
    return Grouping(
        kind=GroupKind.SUM,
        minimum=minimum,
        tail=cast(Literal["keep", "drop", "previous"], tail or "keep"),
        **common,
    )


def _common(keys: Keys, what: str, kind: str, reader: Reader) -> dict[str, Any]:
    late = keys.get("late_runs", reader.choice(("ignore", "new_group")))
    if late == "new_group":
        reader.problems.add(
            f"{what}.late_runs 'new_group' is not available yet", keys["late_runs"], expected="expected ignore"
        )
    name = keys.get("name", reader.name)
    if name is not None and "__" in name:
        reader.problems.add(f"{what}.name {name!r} contains '__'", keys["name"], expected="single underscores")
        name = None
    return {"label": name or kind}


def _amounts(entries: Map[str, Entry], what: str, reader: Reader, source: RunSource | None) -> dict[str, float]:
    amounts = {}
    for field, entry in entries.items():
        _check_numeric(field, entry.key, what, reader, source)
        amount = reader.positive(entry.value, f"{what}.{field}")
        if amount is not None:
            amounts[field] = amount
    return amounts


def _check_numeric(field: str, node: Node, what: str, reader: Reader, source: RunSource | None) -> None:
    if source is None:
        return
    numeric = [name for name, kind in source.fields.items() if kind in _NUMERIC and name not in ("number", "fill")]
    if field not in source.fields:
        reader.problems.add(
            f"the source {source.name!r} supplies no field {field!r}",
            node,
            expected=one_of(numeric) or "a number among its 'fields'",
            hint=nearest(field, [*numeric, *KEYS["group_by.sum"]] if what.endswith("sum") else numeric),
        )
    elif source.fields[field] not in _NUMERIC:
        reader.problems.add(
            f"the field {field!r} of the source {source.name!r} is a {source.fields[field]}",
            node,
            expected=f"a number: {one_of(numeric)}" if numeric else "a number",
        )


def _check_fill(node: Node, what: str, reader: Reader, source: RunSource | None) -> None:
    if source is not None and "fill" not in source.fields:
        reader.problems.add(
            f"{what}: the source {source.name!r} supplies no field 'fill'",
            node,
            expected="'fill' among its 'fields'",
            hint="or group by run or sum",
        )
