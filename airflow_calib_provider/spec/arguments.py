"""Python values, read like those of a spec: what an operator in a hand-written DAG is given.

The language is the same, so that a failure policy or a size means the same in both; only places are missing, and the
arguments have names.
"""

from __future__ import annotations

import os
from collections import abc
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec.failures import read_failures
from airflow_calib_provider.spec.kinds import backend_blocks, backend_kind
from airflow_calib_provider.spec.language import MAX_JOBS, MAX_RETRIES
from airflow_calib_provider.spec.models import FailureRule, Jobs, ResourceRequest, Split
from airflow_calib_provider.spec.positions import Document, Entry, Node, Position, Scalar, Sequence
from airflow_calib_provider.spec.positions import Mapping as MappingNode
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.reading import NAME, Reader
from airflow_calib_provider.spec.tasks import KEEP, Defaults, TaskReader

T = TypeVar("T")

_NOWHERE = Position(0, 0, 0, 0)


class ArgumentsReader:
    """Reads arguments of an operator, and collects what is wrong with them.

    :param values: name → value; ``None`` is not stated.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = {name: value for name, value in values.items() if value is not None}
        self.problems = Problems(Document(Path(), "", [], node_of(None)))
        self.reader = Reader(self.problems)

    @property
    def mistakes(self) -> list[str]:
        """All that is wrong, in words, each with the name of its argument."""
        return [_words(error) for error in self.problems.errors]

    def add(self, message: str, expected: str, hint: str = "") -> None:
        """Record a mistake."""
        self.problems.add(message, _NOWHERE, expected=expected, hint=hint)

    def settings(self) -> Jobs:
        """Everything of a job set but its command, environment and inputs, as far as it can be read: from ``count``,
        ``per_job``, ``all_inputs``, ``cpus``, ``memory``, ``disk``, ``gpus``, ``timeout``, ``retries_of_jobs``,
        ``quorum``, ``failures``, ``keep`` and the block of a backend."""
        if "count" in self.values and "per_job" in self.values:
            self.add("both count and per_job are given", "one of them")
        if "per_job" in self.values and "inputs" not in self.values:
            self.add("per_job is given without inputs", "inputs=[…]")
        split = self._split()
        whole = self.reader.integer
        resources = {
            "cpus": self._get("cpus", whole(1, 4096)),
            "memory": self._get("memory", self.reader.size),
            "disk": self._get("disk", self.reader.size),
            "gpus": self._get("gpus", whole(0, 1024)),
        }
        stated = {
            "split": split,
            "resources": ResourceRequest(**{name: value for name, value in resources.items() if value is not None}),
            "retries": self._get("retries_of_jobs", whole(0, MAX_RETRIES)),
            "quorum": self._get("quorum", self._quorum),
            "timeout": self._get("timeout", self._duration),
            "failures": self._failures(),
            "options": self._options(),
            "keep": self._get("keep", self._duration) or KEEP,
        }
        known = {name: value for name, value in stated.items() if value is not None}
        return Jobs(command=(), **known)  # type: ignore[arg-type]

    def _split(self) -> Split:
        whole = self.reader.integer
        count, per_job = self._get("count", whole(1, MAX_JOBS)), self._get("per_job", whole(1, MAX_JOBS))
        gets_all = self.values.get("all_inputs", False)
        if not isinstance(gets_all, bool):
            self.add(f"all_inputs is {_shown(gets_all)}", "True or False")
        elif gets_all and ("count" not in self.values or "inputs" not in self.values):
            self.add("all_inputs is given without count and inputs", "count=… and inputs=[…]")
        inputs = self.values.get("inputs")
        if count is not None and not gets_all and isinstance(inputs, list | tuple) and count > len(inputs):
            self.add(
                f"count is {count}, and there are {len(inputs)} inputs to share",
                "at most one job for each input",
                "all_inputs=True gives all inputs to each job",
            )
        return Split(count=count, per_job=per_job, inputs="all" if gets_all else "shared")

    def products(self) -> dict[str, str]:
        """``products``: name → file, relative to ``CALIB_OUT``."""
        if "products" not in self.values:
            return {}
        reader = TaskReader(self.reader, "", Defaults(), None)
        return reader.read_products(node_of(self.values["products"]))

    def command(self, value: Any) -> tuple[str, ...]:
        """A program and its arguments, numbers and paths as texts; nothing of ``None``."""
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, abc.Sequence):
            self.add(f"command is {_shown(value)}", "a list: a program and its arguments", "no shell reads it")
            return ()
        if not value:
            self.add("command is empty", "a program and its arguments")
        return tuple(self._texts("command", value))

    def inputs(self, value: Any) -> tuple[str, ...] | None:
        """Paths and URLs."""
        if value is None:
            return None
        if isinstance(value, str) or not isinstance(value, abc.Sequence):
            self.add(f"inputs is {_shown(value)}", "a list of paths and URLs")
            return None
        found = tuple(self._texts("inputs", value))
        broken = next((text for text in found if not text.strip() or "\n" in text), None)
        if broken is not None:
            self.add(f"an element of inputs is empty or holds a line break: {broken!r}", "one path or URL each")
        return found

    def environment(self, value: Any) -> dict[str, str]:
        """Variables and their values."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(f"environment is {_shown(value)}", "a mapping of names to texts")
            return {}
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name.lstrip("_")):
                self.add(f"{name!r} in environment is no name of a variable", "letters, digits and '_'")
        texts = self._texts("environment", value.values(), [f"[{name!r}]" for name in value])
        return dict(zip((str(name) for name in value), texts, strict=True))

    def _texts(self, what: str, values: abc.Iterable[Any], where: abc.Sequence[str] = ()) -> abc.Iterator[str]:
        for number, value in enumerate(values):
            place = f"{what}{where[number] if where else f'[{number}]'}"
            if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
                self.add(f"{place} is {_shown(value)}", "text")
            elif "\0" in str(value):
                self.add(f"{place} holds a NUL character", "text without it")
            yield str(value)

    def _get(self, name: str, read: Callable[[Node, str], T | None]) -> T | None:
        return read(node_of(self.values[name]), name) if name in self.values else None

    def _quorum(self, node: Node, what: str) -> float | None:
        value = self.reader.positive(node, what)
        if value is not None and value > 1:
            self.add(f"{what} is {value:g}", "a fraction of the jobs, above 0 and at most 1")
            return None
        return value

    def _duration(self, node: Node, what: str) -> timedelta | None:
        value = self.values[what]
        if not isinstance(value, timedelta):
            return self.reader.duration(node, what)
        if value <= timedelta(0):
            self.add(f"{what} is {value}", "a duration above 0")
            return None
        return value

    def _failures(self) -> tuple[FailureRule, ...]:
        if "failures" not in self.values:
            return ()
        return read_failures(node_of(self.values["failures"]), "failures", self.reader)

    def _options(self) -> dict[str, Any] | None:
        name = next((name for name in backend_blocks() if name in self.values), None)
        if name is None:
            return None
        before = len(self.problems.errors)
        found, _ = backend_kind(name).read(self.reader, node_of(self.values[name]), name)
        # What could not be read may be half there.
        return backend_kind(name).merged({}, found) if len(self.problems.errors) == before else None


def node_of(value: Any) -> Node:
    """A value as a spec would have it; text is always quoted, so that it is nothing but text."""
    if value is None:
        return Scalar("", "null", _NOWHERE)
    if isinstance(value, bool):
        return Scalar(str(value).lower(), "bool", _NOWHERE)
    if isinstance(value, int):
        return Scalar(str(value), "int", _NOWHERE)
    if isinstance(value, float):
        return Scalar(repr(value), "float", _NOWHERE)
    if isinstance(value, list | tuple):
        return Sequence(tuple(node_of(item) for item in value), _NOWHERE)
    if isinstance(value, Mapping):
        entries = {str(key): Entry(_key(key), node_of(item)) for key, item in value.items()}
        return MappingNode(entries, _NOWHERE)
    return Scalar(str(value), "text", _NOWHERE, quoted=True)


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _key(key: Any) -> Scalar:
    node = node_of(key)
    return node if isinstance(node, Scalar) else Scalar(str(key), "text", _NOWHERE, quoted=True)


def _words(error: SpecError) -> str:
    return "; ".join(part for part in (error.message, error.expected, error.suggestion) if part)
