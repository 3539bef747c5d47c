"""Conditions on what was found in the runs of a group, in the language of those on runs (rule 47).

They are about numbers alone, and can do nothing that has no result for some of these: what is wrong with one shows when
its file is loaded, and not in the night in which a group has so many runs that it would divide by zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from airflow_calib_provider.domain.run_facts import COUNT, MAX, MIN, SUM
from airflow_calib_provider.spec.condition_text import ConditionError, ConditionText, FieldMention
from airflow_calib_provider.spec.conditions import Condition, read_condition
from airflow_calib_provider.spec.models import FieldType
from airflow_calib_provider.spec.problems import nearest

_OF_VALUES = (SUM, MIN, MAX)
_FORMS = "count, sum.<value>, min.<value> and max.<value>"
_CALLED = "double"
_LITERALS = ("true", "false", "in")


class GroupText(ConditionText):
    """The words of a condition on a group. It mentions ``count``, and values of the runs by what is made of them."""

    conversions = "double(…), as in double(count)"

    def _use(self, index: int) -> tuple[FieldMention | None, int]:
        word, dot, name = (self._at(place) for place in range(index, index + 3))
        if word.kind != "name" or self._at(index - 1).text == ".":
            return None, 1
        if word.text == COUNT and dot.text not in (".", "("):
            return FieldMention(COUNT, word.start, word.end, word.start), 1
        if word.text not in _OF_VALUES:
            return None, 1
        if dot.text != "." or name.kind != "name" or self._at(index + 3).text in ("(", "."):
            hint = f"write {word.text}.<value>, which the task reports under a name of letters, digits and '_'"
            raise self.error(f"{word.text!r} without a value", word.start, hint)
        return FieldMention(f"{word.text}.{name.text}", word.start, name.end, word.start), 3

    def _refuse(self, index: int, bound: frozenset[str]) -> None:
        word = self._at(index)
        if word.kind == "text":
            raise self.error("a text in a condition on numbers", word.start, f"a group has {_FORMS}")
        if word.text == "%":
            raise self.error("a remainder in a condition on a group", word.start, "compare with < or >=")
        if word.kind != "name" or word.text in _LITERALS or self._at(index - 1).text == ".":
            super()._refuse(index, bound)
        elif self._at(index + 1).text == "(":
            if word.text != _CALLED:
                said = f"a condition on a group has no function {word.text!r}"
                raise self.error(said, word.start, f"{_CALLED}(…) makes a fraction of a whole number")
        else:
            said = f"{word.text!r} of a value" if word.text == COUNT else f"unknown name {word.text!r}"
            meant = nearest(word.text, _OF_VALUES) if self._at(index + 1).text == "." and word.text != COUNT else ""
            raise self.error(said, word.start, meant or f"a group has {_FORMS}")


class GroupCondition:
    """A compiled condition on a group.

    :raises ConditionError: it is none, or true of a group without runs.

    :ivar values: the names of the values that it mentions.
    """

    def __init__(self, text: str) -> None:
        words = read_condition(text, "", GroupText)
        names = [use.name for use in words.uses()]
        self._condition = Condition(text, {name: _type(name) for name in names}, "", GroupText)
        self.fields = tuple(dict.fromkeys(names))
        self.values = tuple(dict.fromkeys(name.partition(".")[2] for name in names if "." in name))
        if not names:
            raise ConditionError("a condition that says nothing of the group", f"a group has {_FORMS}")
        empty = {name: 0 if name == COUNT else 0.0 for name in names if not name.startswith((MIN, MAX))}
        if self._met_by(empty):
            hint = "the condition says when a group has enough, such as sum.pairs >= 4000"
            raise ConditionError("the condition is true of a group without runs, which would end at once", hint)

    def met(self, found: Mapping[str, float]) -> bool:
        """Whether a group has enough.

        :param found: what is made of the values of its runs, by the names that conditions have for it.
        :raises ConditionError: it gives no answer.
        """
        return self._condition.evaluate(found)

    def _met_by(self, found: Mapping[str, float]) -> bool:
        try:
            return self.met(found)
        except ConditionError:
            return False  # of no runs there is no least value


@lru_cache(maxsize=64)
def group_condition(text: str) -> GroupCondition:
    """The condition of a policy.

    :raises ConditionError: it is none.
    """
    return GroupCondition(text)


def value_names(text: str) -> tuple[str, ...]:
    """The values that a condition mentions."""
    return group_condition(text).values


def met(text: str, found: Mapping[str, float]) -> Mapping[str, float] | None:
    """What a condition mentions, as a group has it, if that is enough; ``None``: it is not.

    :param found: what is made of the values of its runs, by the names that conditions have for it.
    """
    condition = group_condition(text)
    return {name: found[name] for name in condition.fields if name in found} if condition.met(found) else None


def _type(name: str) -> FieldType:
    return FieldType.INT if name == COUNT else FieldType.FLOAT
