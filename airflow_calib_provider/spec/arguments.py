"""Python values, read like those of a spec: what an operator in a hand-written DAG is given.

The language is the same, so that a failure policy or a size means the same in both; only places are missing, and the
arguments have names.
"""

from __future__ import annotations

import os
from collections import abc
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Keys, Where, Words, keys_of
from airflow_calib_provider.domain.nodes import Entry, Node, Position, Scalar, Sequence
from airflow_calib_provider.domain.nodes import Mapping as MappingNode
from airflow_calib_provider.domain.scalars import NAME, Duration, Fraction, Name, Size, whole
from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.kinds import BACKENDS, DEFAULT_BACKEND
from airflow_calib_provider.spec.failure_keys import RuleKeys
from airflow_calib_provider.spec.job_keys import (
    Cpus,
    CredentialsKeys,
    DefaultsKeys,
    Gpus,
    JobsKeys,
    PerJob,
    ResourcesKeys,
    Retries,
)
from airflow_calib_provider.spec.kinds import backend_kind
from airflow_calib_provider.spec.language import CONTRACT, MAX_JOBS, OF_STEPS
from airflow_calib_provider.spec.models import Jobs, Split
from airflow_calib_provider.spec.positions import Document
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.product_keys import ProductValue, drops_of, files_of, same_files
from airflow_calib_provider.spec.tasks import JobsMaker, credentials_of, options_of, rule_of, variables_of
from airflow_calib_provider.spec.written import read_keys

_NOWHERE = Position(0, 0, 0, 0)


class ArgumentKeys(Keys):
    """What of a job set an operator is given, under the operator's names."""

    count: Annotated[int, whole(1, MAX_JOBS)] | None = None
    per_job: PerJob | None = None
    cpus: Cpus | None = None
    memory: Size | None = None
    disk: Size | None = None
    gpus: Gpus | None = None
    timeout: Duration | None = None
    retries_of_jobs: Retries | None = None
    quorum: Fraction | None = None
    credentials: CredentialsKeys | None = None
    failures: Annotated[tuple[RuleKeys, ...], Words(item="a rule of failures")] = ()
    blocks: Annotated[
        dict[str, Keys], Blocks(BACKENDS), Words(entry="{key}"), Field(default_factory=dict, alias=BLOCKS)
    ]
    keep: Duration | None = None
    products: Annotated[
        dict[Name, ProductValue], Words(name="products", key="the product"), Field(default_factory=dict)
    ]

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """No two products may be the same file."""
        yield from same_files(files_of(self.products), ("products",))


class ArgumentsReader:
    """Reads arguments of an operator, and collects what is wrong with them.

    :param values: name → value; ``None`` is not stated.
    """

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values = {name: value for name, value in values.items() if value is not None}
        self.problems = Problems(Document(Path(), "", [], node_of(None)))
        self.durations = {name: value for name in ("timeout", "keep") if (value := self._timedelta(name)) is not None}
        known = {name for name in keys_of(ArgumentKeys) if name not in self.durations}
        stated = {name: value for name, value in self.values.items() if name in known}
        self.read = read_keys(ArgumentKeys, node_of(stated), "the arguments", self.problems)
        self.keys = self.read.keys or ArgumentKeys.unstated()

    @property
    def mistakes(self) -> list[str]:
        """All that is wrong, in words, each with the name of its argument."""
        return [_words(error) for error in self.problems.errors]

    def add(self, message: str, expected: str, hint: str = "") -> None:
        """Record a mistake."""
        self.problems.add(message, _NOWHERE, expected=expected, hint=hint)

    def settings(self) -> Jobs:
        """Everything of a job set but its command, environment and inputs, as far as it can be read.

        Of the environment it has what tells of the credentials.

        From ``count``, ``per_job``, ``all_inputs``, ``cpus``, ``memory``, ``disk``, ``gpus``, ``timeout``,
        ``retries_of_jobs``, ``quorum``, ``credentials``, ``failures``, ``keep`` and the block of a backend.
        """
        keys = self.keys
        if "count" in self.values and "per_job" in self.values:
            self.add("both count and per_job are given", "one of them")
        if "per_job" in self.values and "inputs" not in self.values:
            self.add("per_job is given without inputs", "inputs=[…]")
        resources = {name: getattr(keys, name) for name in ("cpus", "memory", "disk", "gpus")}
        own = {name: value for name, value in resources.items() if value is not None}
        defaults = DefaultsKeys.unstated(resources=ResourcesKeys.unstated(**own))
        options, backend = {}, DEFAULT_BACKEND
        for name in keys.blocks:
            # What could not be read may be half there.
            if not self.read.is_wrong(name):
                options, backend = options_of(name, {}, keys.blocks), name
                for _, error in backend_kind(name).check(options):
                    told = error.context or {}
                    self.add(told["said"], told["expected"], told["hint"])
        made = JobsMaker(defaults).make(JobsKeys.unstated(), DEFAULT_BACKEND)
        stated: dict[str, object] = {
            "split": self._split(),
            "retries": keys.retries_of_jobs,
            "quorum": keys.quorum,
            "timeout": self.durations.get("timeout", keys.timeout),
            "failures": tuple(map(rule_of, keys.failures)),
            "options": options,
            "credentials": (credentials := credentials_of(keys.credentials)),
            "environment": variables_of(credentials, backend, options),
            "keep": self.durations.get("keep", keys.keep),
        }
        return made.model_copy(update={name: value for name, value in stated.items() if value is not None})

    def _split(self) -> Split:
        count, gets_all = self.keys.count, self.values.get("all_inputs", False)
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
        return Split(count=count, per_job=self.keys.per_job, inputs="all" if gets_all else "shared")

    def products(self) -> dict[str, str]:
        """``products``: name → file, relative to ``CALIB_OUT``."""
        return files_of(self.keys.products)

    def drops(self) -> dict[str, timedelta]:
        """``products``: name → for how long it is kept, of those that are not kept for ever."""
        return drops_of(self.keys.products)

    def command(self, value: object) -> tuple[str, ...]:
        """A program and its arguments, numbers and paths as texts; nothing of ``None``."""
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, abc.Sequence):
            self.add(f"command is {_shown(value)}", "a list: a program and its arguments", "no shell reads it")
            return ()
        if not value:
            self.add("command is empty", "a program and its arguments")
        return tuple(self._texts("command", value))

    def inputs(self, value: object) -> tuple[str, ...] | None:
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

    def environment(self, value: object) -> dict[str, str]:
        """Variables and their values."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.add(f"environment is {_shown(value)}", "a mapping of names to texts")
            return {}
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name.lstrip("_")):
                self.add(f"{name!r} in environment is no name of a variable", "letters, digits and '_'")
            elif name in (*CONTRACT, *OF_STEPS):
                self.add(f"{name} in environment is set for every job, and cannot be set otherwise", "another name")
        texts = self._texts("environment", value.values(), [f"[{name!r}]" for name in value])
        return dict(zip((str(name) for name in value), texts, strict=True))

    def _texts(self, what: str, values: abc.Iterable[object], where: abc.Sequence[str] = ()) -> abc.Iterator[str]:
        for number, value in enumerate(values):
            place = f"{what}{where[number] if where else f'[{number}]'}"
            if isinstance(value, bool) or not isinstance(value, str | int | float | os.PathLike):
                self.add(f"{place} is {_shown(value)}", "text")
            elif "\0" in str(value):
                self.add(f"{place} holds a NUL character", "text without it")
            yield str(value)

    def _timedelta(self, name: str) -> timedelta | None:
        value = self.values.get(name)
        if isinstance(value, timedelta) and value <= timedelta(0):
            self.add(f"{name} is {value}", "a duration above 0")
        return value if isinstance(value, timedelta) else None


def node_of(value: object) -> Node:
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


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}…"


def _key(key: object) -> Scalar:
    node = node_of(key)
    return node if isinstance(node, Scalar) else Scalar(str(key), "text", _NOWHERE, quoted=True)


def _words(error: SpecError) -> str:
    return "; ".join(part for part in (error.message, error.expected, error.suggestion) if part)
