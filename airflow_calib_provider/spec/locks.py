"""From locks as written to locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue

from airflow_calib_provider.domain.keys import Where
from airflow_calib_provider.domain.locks.base import LockKind
from airflow_calib_provider.domain.nodes import Scalar
from airflow_calib_provider.spec.kinds import lock_kind
from airflow_calib_provider.spec.lock_keys import ANY, AlternativeKeys, LockKeys
from airflow_calib_provider.spec.models import Lock
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.templates import is_template, readable_uses_of
from airflow_calib_provider.spec.written import Read


class LockReader:
    """Makes the locks of one task from what is written; two on the same are a mistake."""

    def __init__(self, read: Read[Any], problems: Problems, params: Mapping[str, object], *, deep: bool) -> None:
        self._written = read
        self._problems = problems
        self._params = params
        self._deep = deep
        self._seen: set[str] = set()
        self.templates: list[tuple[Scalar, str]] = []

    def read(self, locks: Iterable[LockKeys], where: Where) -> list[Lock]:
        """Those that could be read."""
        found = []
        for number, keys in enumerate(locks):
            here = (*where, number)
            if keys.any_of:
                alternatives = [
                    leaf
                    for place, one in enumerate(keys.any_of)
                    if (leaf := self._leaf(one, (*here, ANY, place))) is not None
                ]
                lock = Lock(kind=ANY, alternatives=tuple(alternatives))
            elif (leaf := self._leaf(keys, here)) is not None:
                lock = leaf
            else:
                continue
            limits = keys.limits()
            found.append(lock if limits is None else lock.model_copy(update={"limits": limits.as_json()}))
        return found

    def _leaf(self, keys: AlternativeKeys, where: Where) -> Lock | None:
        for name, block in keys.blocks.items():
            if self._written.is_wrong(*where, name):
                continue
            kind = lock_kind(name)
            on = kind.on(block)
            if on in self._seen:
                self._problems.add(f"two locks on {on}", self._written.at(*where), expected=kind.once)
                continue
            self._seen.add(on)
            stands_as, parameters = kind.row(block)
            if self._deep:
                self._check_condition(kind.condition(block), (*where, name))
            return Lock(kind=stands_as, parameters={**parameters, **self._of_templates(kind, block, (*where, name))})
        return None

    def _of_templates(self, kind: LockKind, block: object, where: Where) -> dict[str, JsonValue]:
        """What the templates of a lock need besides what its group says: params, and whether it is about each run."""
        paths: list[tuple[str, ...]] = []
        for key, text in kind.texts(block):
            node = self._written.find(*where, *key.split("."))
            if not is_template(text) or not isinstance(node, Scalar):
                continue
            self.templates.append((node, text))
            paths += [use.path for use in readable_uses_of(text)]
        if not paths:
            return {}
        names = {path[1] for path in paths if path[0] == "params" and len(path) > 1}
        params = {name: as_json(self._params[name]) for name in sorted(names & set(self._params))}
        return {"each_run": any(path[0] == "run" for path in paths), "params": params}

    def _check_condition(self, condition: tuple[str, str, Mapping[str, str]] | None, where: Where) -> None:
        if condition is None:
            return
        from airflow_calib_provider.spec.where import check_answer_condition

        key, text, types = condition
        node = self._written.find(*where, key)
        if isinstance(node, Scalar):
            check_answer_condition(node, text, types, self._problems, "answer")


def as_json(value: object) -> JsonValue:
    """A parameter as a row of the ledger has it."""
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    return value if isinstance(value, str | bool | int | float) else str(value)
