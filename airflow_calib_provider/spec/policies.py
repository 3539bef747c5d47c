"""From ``group_by`` as written to a policy (rules 2–8, 12)."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.groupings.base import FieldUse, GroupingKeys
from airflow_calib_provider.domain.keys import Where
from airflow_calib_provider.domain.nodes import Node, Scalar
from airflow_calib_provider.domain.run import FILL
from airflow_calib_provider.domain.scalars import describe, one_of
from airflow_calib_provider.kinds import GROUPINGS
from airflow_calib_provider.spec.kinds import grouping_kind, run_source_kind
from airflow_calib_provider.spec.models import RESERVED, FieldType, RunSource
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.task_keys import PolicyKeys, WorkflowKeys, grouping_forms
from airflow_calib_provider.spec.written import Read

_NUMERIC = (FieldType.INT, FieldType.FLOAT)


class PolicyReader:
    """Makes policies of what is written, and checks the fields that they need.

    :param source: where the fields come from; ``None`` leaves them unchecked.
    :param deep: check conditions, too.

    :ivar awaited: the tasks whose values policies wait for, by their labels, each with its place.
    """

    def __init__(
        self, read: Read[WorkflowKeys], problems: Problems, source: RunSource | None, *, deep: bool = True
    ) -> None:
        self.deep = deep
        self.awaited: dict[str, tuple[str, Node]] = {}
        self.read = read
        self.problems = problems
        self.source = source
        self.named: Mapping[str, Grouping | None] = {}

    def name_all(self, written: Mapping[str, PolicyKeys]) -> None:
        """Read what ``groupings`` names."""
        found = {name: self._of_block(keys, ("groupings", name), name) for name, keys in written.items()}
        unreadable = {str(where[1]): None for where in self.read.wrong if where[0] == "groupings" and len(where) > 1}
        self.named = {**unreadable, **found}

    def policy(self, written: str | PolicyKeys, where: Where) -> Grouping | None:
        """The policy of a task; ``None`` where that cannot be told, which was reported."""
        if isinstance(written, PolicyKeys):
            return self._of_block(written, where, None)
        if written in self.named:
            return self.named[written]
        node, what = self.read.at(*where), str(where[-1])
        if written not in GROUPINGS:
            short = [name for name in GROUPINGS.own if grouping_kind(name).is_short()]
            forms = grouping_forms()
            expected = f"expected {', '.join([*self.named, forms])}"
            others = [name for name in GROUPINGS.names() if name not in GROUPINGS.own]
            hint = nearest(written, [*short, *others, *self.named])
            self.problems.add(f"{what} is {describe(node)}", node, expected=expected, hint=hint)
            return None
        kind = grouping_kind(written)
        if not kind.is_short():
            expected = f"expected {kind.example or f'{{{written}: {{…}}}}'}"
            self.problems.add(f"{what} is {written!r} of nothing", node, expected=expected)
            return None
        keys = kind.keys.unstated()
        self._check_fields(written, keys, where, what)
        return _with_common(kind.policy(keys, written), keys)

    def _of_block(self, written: PolicyKeys, where: Where, label: str | None) -> Grouping | None:
        for name, keys in written.blocks.items():
            what = ".".join(map(str, (*(where if where[0] == "groupings" else where[-1:]), name)))
            self._check_fields(name, keys, (*where, name), what)
            self._check_condition(grouping_kind(name).condition(keys), (*where, name))
        if len(written.blocks) != 1 or self.read.is_wrong(*where):
            return None
        ((name, keys),) = written.blocks.items()
        if keys.crossed():
            return None
        assert isinstance(keys, GroupingKeys)
        policy = _with_common(grouping_kind(name).policy(keys, label or keys.name or name), keys)
        if policy.awaits:
            self.awaited.setdefault(policy.label, (policy.awaits, self.read.at(*where, name, "task")))
        return policy

    def _check_condition(self, condition: tuple[str, str] | None, where: Where) -> None:
        node = self.read.find(*where, condition[0]) if condition is not None and self.deep else None
        if condition is not None and isinstance(node, Scalar):
            from airflow_calib_provider.spec.where import check_group_condition

            check_group_condition(node, condition[1], self.problems)

    def _check_fields(self, kind: str, keys: object, where: Where, what: str) -> None:
        if self.source is None:
            return
        assert isinstance(keys, GroupingKeys)
        timeless = run_source_kind(self.source.kind).timeless
        key = keys.key_of_times()
        if timeless and (grouping_kind(kind).needs_times or key):
            self.problems.add(
                f"{what}{'.' if key else ''}{key}: the source {self.source.name!r} has no times: {timeless}",
                self.read.at(*where, *([key] if key else [])),
                expected="a source that tells when runs were taken",
                hint="or group by run, count or sum",
            )
        for use in (*grouping_kind(kind).fields(keys), *keys.common_fields()):
            if use.is_amount:
                self._check_amount(use, self.source, (*where, *use.where))
            elif use.where:
                self._check_named(use, self.source, (*where, *use.where))
            elif use.field not in self.source.fields:
                self.problems.add(
                    f"{what}: the source {self.source.name!r} supplies no field {use.field!r}",
                    self.read.at(*where),
                    expected=f"{use.field!r} among its 'fields'",
                    hint="or group by run or sum",
                )

    def _check_named(self, use: FieldUse, source: RunSource, where: Where) -> None:
        fields = [name for name in source.fields if name not in RESERVED]
        if use.field not in fields:
            self.problems.add(
                f"the source {source.name!r} supplies no field {use.field!r}"
                if use.field not in RESERVED
                else f"{use.field!r} is no field that stays the same over several runs",
                self.read.at(*where),
                expected=one_of(fields) or "a field among its 'fields'",
                hint=nearest(use.field, fields),
            )

    def _check_amount(self, use: FieldUse, source: RunSource, where: Where) -> None:
        numeric = [name for name, kind in source.fields.items() if kind in _NUMERIC and name not in ("number", FILL)]
        if use.field not in source.fields:
            self.problems.add(
                f"the source {source.name!r} supplies no field {use.field!r}",
                self.read.key_at(*where),
                expected=one_of(numeric) or "a number among its 'fields'",
                hint=nearest(use.field, [*numeric, *use.others]),
            )
        elif source.fields[use.field] not in _NUMERIC:
            self.problems.add(
                f"the field {use.field!r} of the source {source.name!r} is a {source.fields[use.field]}",
                self.read.key_at(*where),
                expected=f"a number: {one_of(numeric)}" if numeric else "a number",
            )


def _with_common(policy: Grouping, keys: GroupingKeys) -> Grouping:
    """With what several kinds have in common, which none of them has to pass on."""
    return policy.model_copy(update=keys.common())
