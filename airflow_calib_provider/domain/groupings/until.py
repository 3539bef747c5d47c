"""Runs are a group as soon as what a task has found in them is enough, as a condition on its values says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.amounts import add, amount
from airflow_calib_provider.domain.grouping import GroupDraft, Grouping, RunFacts
from airflow_calib_provider.domain.groupings.base import GroupingKind, SeveralRunsKeys
from airflow_calib_provider.domain.keys import Words
from airflow_calib_provider.domain.run_facts import COUNT, MAX, MIN, SUM
from airflow_calib_provider.domain.scalars import Filled, Name
from airflow_calib_provider.kinds import load

_LANGUAGE = "airflow_calib_provider.spec.group_conditions"
"""The language of conditions, which is loaded where one is asked."""


class UntilKeys(SeveralRunsKeys):
    """The block ``until``."""

    says: ClassVar[str] = "runs until enough was found in them: [group_by.until](#group_byuntil)"

    task: Annotated[
        Name | None,
        Words(name="{above}.{key}", missing="a task of this workflow that is grouped by run"),
        Field(description="a task of this workflow, grouped by `run`, whose jobs report the values"),
    ] = None
    when: Annotated[
        Filled | None,
        Words(
            name="{above}.{key}",
            missing='a condition such as "sum.pairs >= 4000"',
            type="[condition](#conditions-on-groups)",
        ),
        Field(
            description="on `count`, `sum.<value>`, `min.<value>`, `max.<value>` of a group's runs: it closes with the "
            "run with which this is true"
        ),
    ] = None


class UntilKind(GroupingKind):
    """Runs until a condition on what was found in them is met."""

    name = "until"
    keys = UntilKeys
    until = "closes when enough was found in its runs"
    example = '{until: {task: <task>, when: "sum.<value> >= <amount>"}}'

    def is_short(self) -> bool:
        """Never: it must be said what is enough."""
        return False

    def policy(self, keys: UntilKeys, label: str) -> Grouping:
        """With task and condition."""
        return Grouping(kind=self.name, label=label, options={"task": keys.task, "when": keys.when})

    def ends(self, options: Mapping[str, Any]) -> str:
        """The condition."""
        return f"closes when {options['when']}, of {options['task']}" if "when" in options else self.until

    def awaits(self, policy: Grouping) -> str:
        """The task."""
        return str(policy.options["task"])

    def values(self, policy: Grouping) -> Sequence[str]:
        """Those that the condition mentions."""
        names: Sequence[str] = load(f"{_LANGUAGE}:value_names")(policy.options["when"])
        return names

    def live(self, policy: Grouping, now: Grouping) -> Grouping:
        """The condition that a group opened with, as long as that of now is on the same values; else that of now.

        Of a job that does not report any more what it did, no group would ever have enough.
        """
        same = self.awaits(policy) == self.awaits(now) and {*self.values(policy)} == {*self.values(now)}
        return policy if same else policy.model_copy(update={"options": now.options})

    def condition(self, keys: UntilKeys) -> tuple[str, str] | None:
        """When a group has enough."""
        return ("when", keys.when) if keys.when is not None else None

    def took(self, group: GroupDraft, run: RunFacts) -> None:
        """Its values join those of the group; a run that has none, as it was skipped or left out, adds nothing."""
        values = run.values.get(str(group.policy.options["task"]))
        if values is None:
            return
        marks = group.marks
        marks[COUNT] = int(amount(marks.get(COUNT))) + 1
        for name, one in values.items():
            total, least, most = (_known(group, what) for what in (SUM, MIN, MAX))
            marks[SUM] = {**total, name: add(total.get(name, 0.0), one.total)}
            marks[MIN] = {**least, name: min(least.get(name, one.least), one.least)}
            marks[MAX] = {**most, name: max(most.get(name, one.most), one.most)}

    def after(self, group: GroupDraft) -> None:
        """It closes with the run with which the condition is met."""
        if not group.marks.get(COUNT):
            return
        found: dict[str, float] = {COUNT: int(amount(group.marks[COUNT]))}
        for what in (SUM, MIN, MAX):
            found |= {f"{what}.{name}": value for name, value in _known(group, what).items()}
        used: Mapping[str, float] | None = load(f"{_LANGUAGE}:met")(group.policy.options["when"], found)
        if used is not None:
            group.finish("enough", task=group.policy.options["task"], values=dict(used))


def _known(group: GroupDraft, what: str) -> dict[str, float]:
    found = group.marks.get(what)
    return {name: amount(value) for name, value in found.items()} if isinstance(found, dict) else {}


KIND = UntilKind()
