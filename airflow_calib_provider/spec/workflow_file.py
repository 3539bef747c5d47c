"""Reading one workflow's file into a :class:`Workflow`, with every mistake that the file alone shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_calib_provider.domain.quantities import parse_time
from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec import resolving
from airflow_calib_provider.spec.kinds import run_source_kind
from airflow_calib_provider.spec.language import API_VERSION, GROUP_SENSOR, KEYS, LOCKS_SUFFIX, SOURCES_FILE
from airflow_calib_provider.spec.models import RunSelection, RunSource, Task, Workflow
from airflow_calib_provider.spec.positions import Document, Mapping, Node, Scalar, Sequence
from airflow_calib_provider.spec.problems import Problems, nearest, one_of
from airflow_calib_provider.spec.reading import Keys, Reader
from airflow_calib_provider.spec.tasks import Defaults, RawTask, TaskReader, with_blocks


@dataclass
class Sources:
    """The run sources that a workflow may use.

    :ivar known: those without mistakes; ``None`` when they are not looked at.
    :ivar broken: those with mistakes of their own, reported elsewhere.
    """

    known: Map[str, RunSource] | None
    broken: frozenset[str] = frozenset()


@dataclass
class Loaded:
    """A file as read.

    :ivar workflow: ``None`` when the file has mistakes.
    :ivar name: the workflow's name, as far as it could be read.
    :ivar clashes: another file has the same name.
    """

    document: Document
    problems: Problems
    workflow: Workflow | None = None
    name: str | None = None
    name_node: Node | None = None
    clashes: bool = False
    raw_tasks: dict[str, RawTask] = field(default_factory=dict)

    @property
    def errors(self) -> list[SpecError]:
        return self.problems.sorted()


def read_workflow(document: Document, sources: Sources, *, deep: bool) -> Loaded:
    """Read a document.

    :param deep: check the condition and the templates too.
    """
    loaded = Loaded(document, Problems(document))
    _WorkflowReader(loaded, sources, deep).read()
    return loaded


class _WorkflowReader:
    def __init__(self, loaded: Loaded, sources: Sources, deep: bool) -> None:
        self.loaded = loaded
        self.problems = loaded.problems
        self.reader = Reader(self.problems)
        self.sources = sources
        self.deep = deep

    def read(self) -> None:
        document = self.loaded.document
        # A file of another version has other keys: these are looked at only after the version.
        entries = document.root.entries if isinstance(document.root, Mapping) else {}
        stated = entries["apiVersion"].value if "apiVersion" in entries else None
        if isinstance(stated, Scalar) and stated.kind == "text" and stated.text != API_VERSION:
            self.problems.add(f"apiVersion {stated.text!r} is not known", stated, expected=API_VERSION)
            return
        keys = Keys(self.reader, document.root, "the workflow", KEYS["the workflow"])
        keys.require("apiVersion", self.reader.text, API_VERSION)
        name = keys.require("workflow", self._workflow_name, "the workflow's name")
        self.loaded.name = name
        self.loaded.name_node = keys.get("workflow", lambda node, _: node)
        description = keys.get("description", lambda node, what: self.reader.text(node, what))
        owner = keys.get("owner", self.reader.filled)
        tags = keys.get("tags", self.reader.texts)
        params = self._params(keys["params"]) if "params" in keys else {}
        selection, source = self._runs(keys)
        tasks = self._tasks(keys, name or "this_workflow", source)
        self.loaded.raw_tasks = tasks
        resolved = resolving.resolve(tasks, name or "this_workflow", self.problems)
        if self.deep and self.loaded.name is not None:
            resolving.check_templates(tasks, name or "", source, params, self.problems)
        if self.problems.errors or name is None or selection is None or resolved is None:
            return
        self.loaded.workflow = Workflow(
            name=name,
            description=description or "",
            owner=owner or "airflow",
            tags=tags or (),
            runs=selection,
            params=params,
            tasks={task: self._task(tasks[task], resolved) for task in tasks},
            text=document.text,
            hash=hashlib.sha256(document.text.encode()).hexdigest(),
            file=str(document.file),
        )

    @staticmethod
    def _task(raw: RawTask, resolved: resolving.Resolved) -> Task:
        return Task(
            name=raw.name,
            grouping=resolved.groupings[raw.name],
            needs=tuple(resolved.needs[raw.name]),
            payload_locks=tuple(raw.locks),
            backend=raw.backend,
            jobs=raw.jobs,
            products=raw.products,
            publish=raw.publish,
        )

    def _workflow_name(self, node: Node, what: str) -> str | None:
        name = self.reader.name(node, what)
        if name is not None and "__" in name:
            # Otherwise the DAGs a__b of grouping c and a of grouping b__c would be called the same.
            self.problems.add(f"the workflow's name {name!r} contains '__'", node, expected="single underscores")
            return None
        return name

    # runs

    def _runs(self, top: Keys) -> tuple[RunSelection | None, RunSource | None]:
        node = top.node("runs", "{source: <name>}")
        if node is None:
            return None, None
        keys = Keys(self.reader, node, "runs", KEYS["runs"])
        name = keys.require("source", self.reader.name, f"a run source of {SOURCES_FILE}")
        source = self._source(name, keys) if name is not None else None
        where = keys.get("where", self.reader.filled)
        since: int | datetime | None = keys.get("since", self._since)
        timeless = run_source_kind(source.kind).timeless if source is not None else ""
        if source is not None and timeless and "since" not in keys:
            self.problems.add(
                f"runs.since is missing, which the {source.kind} source {source.name!r} needs",
                node,
                expected="the first run, such as since: 1",
                hint=timeless,
            )
        elif source is not None and timeless and isinstance(since, datetime):
            self.problems.add(
                f"runs.since is a time, and runs of the {source.kind} source {source.name!r} have none",
                keys["since"],
                expected="the number of the first run",
            )
        if where is not None and self.deep and isinstance(keys["where"], Scalar):
            from airflow_calib_provider.spec.where import check_condition

            check_condition(keys["where"], where, source, self.problems)
        if name is None:
            return None, source
        selection = RunSelection(
            source=name,
            where=where,
            since=since,
            incomplete_after=keys.get("incomplete_after", self.reader.duration),
            settle=keys.get("settle", self.reader.duration),
        )
        return selection, source

    def _source(self, name: str, keys: Keys) -> RunSource | None:
        known = self.sources.known
        if known is None or name in known:
            return known[name] if known is not None else None
        if name in self.sources.broken:
            self.problems.add(
                f"the run source {name!r} has mistakes of its own", keys["source"], hint=f"see {SOURCES_FILE}"
            )
            return None
        options = sorted(known)
        self.problems.add(
            f"unknown run source {name!r}",
            keys["source"],
            expected=one_of(options) or f"a run source of {SOURCES_FILE}, which has none",
            hint=nearest(name, options),
        )
        return None

    def _since(self, node: Node, what: str) -> int | datetime | None:
        if isinstance(node, Scalar) and node.kind in ("date", "text"):
            try:
                return parse_time(node.text)
            except ValueError:
                self.reader.wrong(node, what, "a run number or a time such as 2026-03-01T00:00:00Z")
                return None
        return self.reader.integer(1, 2**53)(node, what)

    # params, defaults, tasks

    def _params(self, node: Node) -> dict[str, Any]:
        params: dict[str, Any] = {}
        for name, entry in (self.reader.mapping(node, "params") or {}).items():
            if self.reader.name(entry.key, "the parameter") is None:
                continue
            if isinstance(entry.value, Sequence):
                params[name] = [self._plain(item, f"an element of params.{name}") for item in entry.value.items]
            else:
                params[name] = self._plain(entry.value, f"params.{name}")
        return params

    def _plain(self, node: Node, what: str) -> Any:
        if not isinstance(node, Scalar):
            self.reader.wrong(node, what, "text, a number, true or false, or a list of these")
            return None
        if node.kind == "bool":
            return node.text.lower() == "true"
        if node.kind == "int":
            return self.reader.integer(-(2**63), 2**63)(node, what)
        if node.kind == "float":
            return self.reader.number(node, what)
        if node.kind == "odd bool":
            self.reader.wrong(node, what, "true or false", f'a text goes into quotes: "{node.text}"')
            return None
        return self.reader.text(node, what, "text, a number, true or false")

    def _tasks(self, top: Keys, workflow: str, source: RunSource | None) -> dict[str, RawTask]:
        defaults = self._defaults(top, workflow, source)
        node = top.node("tasks", "{<name>: {…}}")
        if node is None:
            return {}
        entries = self.reader.mapping(node, "tasks")
        if entries is not None and not entries:
            self.problems.add("there are no tasks", node, expected="at least one task")
        tasks = {}
        task_reader = TaskReader(self.reader, workflow, defaults, source)
        for name, entry in (entries or {}).items():
            if self.reader.name(entry.key, "the task") is not None:
                if name == GROUP_SENSOR or name.endswith(LOCKS_SUFFIX):
                    said = f"the task's name {name!r} is one that its DAG uses itself"
                    self.problems.add(said, entry.key, expected="another name")
                tasks[name] = task_reader.read(name, entry.key, entry.value)
        return tasks

    def _defaults(self, top: Keys, workflow: str, source: RunSource | None) -> Defaults:
        if "defaults" not in top:
            return Defaults()
        keys = Keys(self.reader, top["defaults"], "defaults", with_blocks(KEYS["defaults"]))
        defaults = TaskReader(self.reader, workflow, Defaults(), source).read_settings(keys, "defaults")
        defaults.backend = keys.get("backend", self.reader.backend)
        return defaults
