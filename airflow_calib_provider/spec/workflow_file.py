"""Reading one workflow's file into a :class:`Workflow`, with every mistake that the file alone shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as Map
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec import resolving
from airflow_calib_provider.spec.categories_file import Categories, resolved
from airflow_calib_provider.spec.kinds import run_source_kind
from airflow_calib_provider.spec.language import API_VERSION, CATEGORIES_FILE, LOCKS_SUFFIX, SOURCES_FILE, TAKEN_TASKS
from airflow_calib_provider.spec.models import RunSelection, RunSource, Task, Workflow
from airflow_calib_provider.spec.policies import PolicyReader
from airflow_calib_provider.spec.positions import Document, Mapping, Node, Scalar
from airflow_calib_provider.spec.presets import check_presets, params_of, presets_of
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.publications import check_publications
from airflow_calib_provider.spec.task_keys import RunsKeys, WorkflowKeys
from airflow_calib_provider.spec.tasks import RawTask, TaskReader
from airflow_calib_provider.spec.written import read_keys


@dataclass
class Sources:
    """The run sources that a workflow may use.

    :ivar known: those without mistakes; ``None`` when they are not looked at.
    :ivar broken: those with mistakes of their own, reported elsewhere.
    :ivar categories: those of runs.
    :ivar approvers: the lists of those who may approve payloads.
    """

    known: Map[str, RunSource] | None
    broken: frozenset[str] = frozenset()
    categories: Categories = field(default_factory=Categories)
    approvers: Map[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass
class Loaded:
    """A file as read.

    :ivar workflow: ``None`` when the file has mistakes.
    :ivar name: the workflow's name, as far as it could be read.
    :ivar clashes: another file has the same name.
    :ivar raw_tasks: none where the file cannot be read.
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
        """What is wrong with the file, in the order of its lines."""
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
        self.sources = sources
        self.deep = deep

    def read(self) -> None:
        document = self.loaded.document
        if self._is_of_another_version(document.root):
            return
        self.written = read_keys(WorkflowKeys, document.root, "the workflow", self.problems)
        keys = self.written.keys
        if keys is None:
            return
        self.loaded.name = keys.workflow
        self.loaded.name_node = self.written.find("workflow")
        source = self._runs(keys.runs) if keys.runs is not None else None
        name = keys.workflow or "this_workflow"
        tasks, awaited = self._tasks(keys, name, source)
        self.loaded.raw_tasks = tasks
        resolved = resolving.resolve(tasks, name, awaited, self.problems)
        check_presets(self.written, self.problems)
        params = params_of(keys)
        if self.deep and keys.workflow is not None:
            resolving.check_templates(tasks, keys.workflow, source, params, self.problems)
        if self.problems.errors or keys.runs is None or keys.workflow is None or resolved is None:
            return
        self.loaded.workflow = Workflow(
            name=keys.workflow,
            description=keys.description,
            owner=keys.owner,
            tags=keys.tags,
            runs=self._selection(keys.runs),
            params=params,
            presets=presets_of(keys),
            preset=keys.preset,
            tasks={task: self._task(tasks[task], resolved) for task in tasks},
            text=document.text,
            hash=hashlib.sha256(document.text.encode()).hexdigest(),
            file=str(document.file),
        )

    def _is_of_another_version(self, root: Node) -> bool:
        """A file of another version has other keys: these are looked at only after the version."""
        entries = root.entries if isinstance(root, Mapping) else {}
        stated = entries["apiVersion"].value if "apiVersion" in entries else None
        if not isinstance(stated, Scalar) or stated.kind != "text" or stated.text == API_VERSION:
            return False
        self.problems.add(f"apiVersion {stated.text!r} is not known", stated, expected=API_VERSION)
        return True

    @staticmethod
    def _task(raw: RawTask, resolved: resolving.Resolved) -> Task:
        return Task(
            name=raw.name,
            policy=resolved.policies[raw.name],
            needs=tuple(resolved.needs[raw.name]),
            locks=tuple(raw.locks),
            backend=raw.backend,
            jobs=raw.jobs,
            products=raw.products,
            drops=raw.drops,
            publish=raw.publish,
            verdict=raw.verdict,
            iteration=raw.iteration,
        )

    # runs

    def _runs(self, keys: RunsKeys) -> RunSource | None:
        source = self._source(keys.source) if keys.source is not None else None
        timeless = run_source_kind(source.kind).timeless if source is not None else ""
        if source is not None and timeless:
            self._check_since(keys, source, timeless)
        self._check_categories(keys, source)
        node = self.written.find("runs", "where")
        if keys.where is not None and self.deep and isinstance(node, Scalar):
            from airflow_calib_provider.spec.where import check_condition

            check_condition(node, keys.where, source, self.problems)
        return source

    def _selection(self, keys: RunsKeys) -> RunSelection:
        categories = resolved(keys.categories, self.sources.categories.texts)
        return RunSelection.model_validate({**keys.model_dump(), "categories": categories})

    def _check_categories(self, keys: RunsKeys, source: RunSource | None) -> None:
        """Each is declared, and fits the source: what does not is told where it stands, in their own file."""
        there = self.sources.categories
        if there.known is None:
            return
        for number, name in enumerate(keys.categories):
            place = self.written.at("runs", "categories", number)
            if name in there.broken or not there.is_readable:
                said = f"the category {name!r} has mistakes of its own"
                self.problems.add(said, place, hint=f"see {CATEGORIES_FILE}", told_in=CATEGORIES_FILE)
            elif name not in there.known:
                options = sorted({*there.known, *there.broken})
                listed = one_of(options) if there.is_there else f"a file {CATEGORIES_FILE} with it"
                hint = partial(nearest, name, options)
                self.problems.add(f"unknown category {name!r}", place, expected=listed, hint=hint)
            elif source is not None and self.deep and (mistakes := there.mistakes(name, source)):
                said = f"the category {name!r} is no condition on runs of the source {source.name!r}"
                self.problems.add(said, place, hint=f"see {CATEGORIES_FILE}")
                self.problems.errors += mistakes

    def _check_since(self, keys: RunsKeys, source: RunSource, timeless: str) -> None:
        if not keys.has("since"):
            self.problems.add(
                f"runs.since is missing, which the {source.kind} source {source.name!r} needs",
                self.written.at("runs"),
                expected="the first run, such as since: 1",
                hint=timeless,
            )
        elif isinstance(keys.since, datetime):
            self.problems.add(
                f"runs.since is a time, and runs of the {source.kind} source {source.name!r} have none",
                self.written.at("runs", "since"),
                expected="the number of the first run",
            )

    def _source(self, name: str) -> RunSource | None:
        known = self.sources.known
        if known is None or name in known:
            return known[name] if known is not None else None
        node = self.written.at("runs", "source")
        if name in self.sources.broken:
            said = f"the run source {name!r} has mistakes of its own"
            self.problems.add(said, node, hint=f"see {SOURCES_FILE}", told_in=SOURCES_FILE)
            return None
        options = sorted(known)
        self.problems.add(
            f"unknown run source {name!r}",
            node,
            expected=one_of(options) or f"a run source of {SOURCES_FILE}, which has none",
            hint=lambda: nearest(name, options),
        )
        return None

    # tasks

    def _tasks(
        self, keys: WorkflowKeys, workflow: str, source: RunSource | None
    ) -> tuple[dict[str, RawTask], Map[str, resolving.AwaitedTask]]:
        policies = PolicyReader(self.written, self.problems, source, deep=self.deep)
        policies.name_all(keys.groupings)
        reader = TaskReader(self.written, self.problems, workflow, policies, deep=self.deep)
        tasks = {}
        for name, task in keys.tasks.items():
            if name in TAKEN_TASKS or name.endswith(LOCKS_SUFFIX):
                said = f"the task's name {name!r} is one that its DAG or Airflow uses itself"
                self.problems.add(said, self.written.key_at("tasks", name), expected="another name")
            tasks[name] = reader.read(name, task)
        check_publications(
            self.written,
            tasks,
            workflow,
            self.sources.approvers if self.sources.known is not None else None,
            self.problems,
        )
        return tasks, policies.awaited
