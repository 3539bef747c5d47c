"""Reading ``failures``: what becomes of a job that failed or is held."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from airflow_calib_provider.spec.language import FAILURE_CLASSES, KEYS
from airflow_calib_provider.spec.models import FailureRule
from airflow_calib_provider.spec.positions import Mapping, Node, Sequence
from airflow_calib_provider.spec.problems import one_of
from airflow_calib_provider.spec.reading import Keys, Reader

T = TypeVar("T")

ACTIONS = ("retry", "release", "fail")
NEVER_HELD = ("exit", "signal", "product", "lost")
"""Classes of jobs that have ended: there is nothing to release."""

MAX_RELEASES = 1000


def read_failures(node: Node, what: str, reader: Reader) -> tuple[FailureRule, ...]:
    """The rules of a list, without those that could not be read."""
    rules = [_rule(item, reader) for item in reader.sequence(node, what) or ()]
    return tuple(rule for rule in rules if rule is not None)


def _rule(node: Node, reader: Reader) -> FailureRule | None:
    before = len(reader.problems.errors)
    keys = Keys(reader, node, "a rule of failures", KEYS["failures"])
    when = keys.node("when", "{class: …}, or exit_code, signal, hold_code")
    action = keys.require("then", reader.choice(ACTIONS), one_of(ACTIONS))
    found = _when(when, reader) if when is not None else {}
    factor, at_most = _memory(keys["memory"], reader) if "memory" in keys else (None, None)
    times = keys.get("times", reader.integer(1, MAX_RELEASES))
    after = keys.get("after", reader.duration)
    for name, needed in (("memory", "retry"), ("times", "release"), ("after", "release")):
        if name in keys and action is not None and action != needed:
            reader.problems.add(
                f"{name!r} in a rule that says 'then: {action}'", keys[name], expected=f"{name} with 'then: {needed}'"
            )
    classes = found.get("classes", ())
    if when is not None and action == "release" and classes and all(one in NEVER_HELD for one in classes):
        said = f"a job of the class {' or '.join(map(str, classes))} is not held, and cannot be released"
        reader.problems.add(said, keys["then"], expected="then: retry, or then: fail")
    if len(reader.problems.errors) > before or action is None:
        return None
    return FailureRule.model_validate(
        {**found, "then": action, "times": times, "after": after, "factor": factor, "at_most": at_most}
    )


def _when(node: Node, reader: Reader) -> dict[str, tuple[object, ...]]:
    keys = Keys(reader, node, "when", KEYS["failures.when"])
    if isinstance(node, Mapping) and not node.is_template and not keys.entries:
        reader.problems.add("when is empty", node, expected=one_of(KEYS["failures.when"]))
    found: dict[str, tuple[object, ...]] = {}
    readers: dict[str, Callable[[Node, str], object]] = {
        "class": reader.choice(FAILURE_CLASSES),
        "exit_code": reader.integer(0, 255),
        "signal": reader.integer(1, 64),
        "hold_code": reader.integer(1, 9999),
    }
    for name, read in readers.items():
        if name in keys:
            found["classes" if name == "class" else f"{name}s"] = _values(keys[name], f"when.{name}", read, reader)
    return found


def _values(node: Node, what: str, read: Callable[[Node, str], T | None], reader: Reader) -> tuple[T, ...]:
    """One value, or a list of them."""
    if isinstance(node, Sequence):
        if not node.items:
            reader.problems.add(f"{what} is empty", node, expected="at least one value")
        values = [read(item, f"an element of {what}") for item in node.items]
    else:
        values = [read(node, what)]
    return tuple(value for value in values if value is not None)


def _memory(node: Node, reader: Reader) -> tuple[float | None, int | None]:
    keys = Keys(reader, node, "memory", KEYS["failures.memory"])
    if isinstance(node, Mapping) and not node.is_template and not keys.entries:
        reader.problems.add("memory is empty", node, expected="factor, at_most or both")
    factor = keys.get("factor", reader.number)
    if factor is not None and not 1 < factor <= 100:
        reader.problems.add(f"factor is {factor:g}", keys["factor"], expected="a number above 1 and at most 100")
    return factor, keys.get("at_most", reader.size)
