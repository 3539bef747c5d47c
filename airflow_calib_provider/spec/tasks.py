"""From a task as written to a task: needs, locks, jobs with the defaults, products, publish."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from airflow_calib_provider.credentials import variable
from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.keys import Keys, Where
from airflow_calib_provider.domain.nodes import Mapping as MappingNode
from airflow_calib_provider.domain.nodes import Node, Scalar, Sequence
from airflow_calib_provider.domain.verdicts import Limit
from airflow_calib_provider.spec.failure_keys import RuleKeys, as_tuple
from airflow_calib_provider.spec.iterations import IterationReader
from airflow_calib_provider.spec.job_keys import CredentialsKeys, DefaultsKeys, InputsKeys, JobsKeys
from airflow_calib_provider.spec.kinds import FILES, backend_kind
from airflow_calib_provider.spec.locks import LockReader
from airflow_calib_provider.spec.models import (
    FailureRule,
    InputsCommand,
    Iteration,
    Jobs,
    Lock,
    Need,
    Publish,
    ResourceRequest,
    Split,
)
from airflow_calib_provider.spec.policies import PolicyReader
from airflow_calib_provider.spec.presets import params_of
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.product_keys import drops_of, files_of
from airflow_calib_provider.spec.publications import files_of as files_of_publication
from airflow_calib_provider.spec.publications import publication
from airflow_calib_provider.spec.task_keys import TaskKeys, WorkflowKeys
from airflow_calib_provider.spec.templates import is_template, split_command
from airflow_calib_provider.spec.written import Read, report


@dataclass(frozen=True)
class TemplateText:
    """A template with its place and what may stand in it."""

    scalar: Scalar
    text: str
    one_text: bool = True
    with_job: bool = False
    of_lock: bool = False
    of_phase: str = ""


@dataclass
class RawTask:
    """A task as read, before groupings and needs are resolved.

    :ivar policy_node: where ``group_by`` stands, ``None`` where it is left out.
    :ivar needs: with the node of each.
    :ivar needs_wrong: some need could not be read, so that what follows from the needs is not to be judged.
    :ivar products_wrong: the same for products.
    """

    name: str
    key: Scalar
    policy: Grouping | None = None
    policy_node: Node | None = None
    needs: list[tuple[Need, Scalar]] = field(default_factory=list)
    needs_wrong: bool = False
    locks: list[Lock] = field(default_factory=list)
    backend: str = ""
    jobs: Jobs | None = None
    products: dict[str, str] = field(default_factory=dict)
    drops: dict[str, timedelta] = field(default_factory=dict)
    products_wrong: bool = False
    publish: Publish | None = None
    verdict: dict[str, Limit] = field(default_factory=dict)
    publish_tag: Node | None = None
    iteration: Iteration | None = None
    templates: list[TemplateText] = field(default_factory=list)


class TaskReader:
    """Makes the tasks of one workflow from what is written.

    :param workflow: its name, which needs without a workflow are meant in.
    :param deep: gather the templates too.
    """

    def __init__(
        self, read: Read[WorkflowKeys], problems: Problems, workflow: str, policies: PolicyReader, *, deep: bool
    ) -> None:
        self.written = read
        self.problems = problems
        self.workflow = workflow
        self.policies = policies
        self.deep = deep
        keys = read.keys
        self.defaults = (keys.defaults if keys is not None else None) or DefaultsKeys.unstated()
        self.jobs = JobsMaker(self.defaults)
        self.of_defaults = list(self._of_settings(("defaults",), self.defaults.blocks)) if deep else []

    def read(self, name: str, keys: TaskKeys) -> RawTask:
        """One task."""
        where: Where = ("tasks", name)
        task = RawTask(name, self.written.key_at(*where), products=files_of(keys.products))
        if keys.has("group_by"):
            task.policy_node = self.written.at(*where, "group_by")
            if keys.group_by is not None:
                task.policy = self.policies.policy(keys.group_by, (*where, "group_by"))
        self._needs(keys, task, (*where, "needs"))
        self._locks(keys, task, (*where, "locks"))
        task.drops = drops_of(keys.products)
        task.verdict = {value: limit for value, said in keys.verdict.items() if (limit := said.limit()) is not None}
        task.products_wrong = self.written.is_wrong(*where, "products")
        task.backend = keys.backend or self.defaults.backend
        if keys.jobs is not None:
            unsure = self.written.is_wrong(*where, "backend")
            task.jobs = self.job_set(keys.jobs, task.backend, (*where, "jobs"), unsure=unsure)
        if keys.iterate is not None:
            unsure = self.written.is_wrong(*where, "backend")
            IterationReader(self, task, (*where, "iterate"), unsure=unsure).read(keys.iterate)
        if keys.publish is not None and files_of_publication(keys.publish):
            task.publish = publication(keys.publish)
            key = "set" if keys.publish.together else "tag"
            task.publish_tag = self.written.at(*where, "publish", key)
        only_publishes = keys.has("publish") and not (keys.has("jobs") or keys.has("iterate"))
        if only_publishes and not keys.needs and not task.needs_wrong:
            said = f"the task {name!r} publishes and needs nothing"
            self.problems.add(said, task.key, expected="needs: [<task that makes the file>]")
        if self.deep:
            task.templates.extend(self.templates((*where, "jobs"), keys.jobs))
            task.templates.extend(self._of_publication((*where, "publish"), keys))
        return task

    def _needs(self, keys: TaskKeys, task: RawTask, where: Where) -> None:
        task.needs_wrong = self.written.is_wrong(*where)
        seen: set[Need] = set()
        for number, (workflow, name) in enumerate(keys.needs):
            node = self.written.at(*where, number)
            assert isinstance(node, Scalar)
            need = Need(workflow=workflow or self.workflow, task=name)
            if need in seen:
                task.needs_wrong = True
                self.problems.add(f"{node.text!r} is needed twice", node, expected="each task once")
                continue
            seen.add(need)
            task.needs.append((need, node))

    def _locks(self, keys: TaskKeys, task: RawTask, where: Where) -> None:
        params = params_of(self.written.keys) if self.written.keys is not None else {}
        reader = LockReader(self.written, self.problems, params, deep=self.deep)
        task.locks = reader.read(keys.locks, where)
        task.templates += [TemplateText(node, text, of_lock=True) for node, text in reader.templates]

    # jobs

    def job_set(self, keys: JobsKeys, backend: str, where: Where, *, unsure: bool) -> Jobs | None:
        """A job set, whose mistakes together with the defaults are told.

        :param unsure: the backend could not be read.
        """
        kind = backend.partition(":")[0]
        for name in keys.blocks:
            if name != kind and not unsure:
                said = f"{name!r} in a task whose backend is {backend!r}"
                self.problems.add(said, self.written.at(*where, name), expected=f"backend: {name}")
        if not keys.command:
            return None
        made = self.jobs.make(keys, kind)
        if not unsure and not self.written.is_wrong(*where, kind) and not self.written.is_wrong("defaults", kind):
            self._together(made.options, kind, where)
        return made

    def _together(self, block: Mapping[str, object], kind: str, where: Where) -> None:
        """What is wrong with the task's block over that of the defaults, where it is stated."""
        for place, error in backend_kind(kind).check(block):
            homes: list[Where] = [(*where, kind), ("defaults", kind)]
            home = next((home for home in homes if self.written.find(*home, *place) is not None), None)
            if home is not None:
                report(self.written, (*home, *place), error, self.problems)
            else:
                report(self.written, where, error, self.problems)

    # templates

    def templates(self, jobs: Where, keys: JobsKeys | None) -> Iterator[TemplateText]:
        """The templates of a job set.

        :param jobs: where it stands.
        """
        yield from self._command((*jobs, "command"), with_job=True)
        yield from self.inputs((*jobs, "inputs"))
        yield from self.texts((*jobs, "split", "count"))
        if keys is not None:
            yield from self.of_defaults
            yield from self._of_settings(jobs, keys.blocks)

    def _of_publication(self, where: Where, keys: TaskKeys) -> Iterator[TemplateText]:
        yield from self.texts((*where, "file"))
        yield from self.texts((*where, "default"))
        for number in range(len(keys.publish.together) if keys.publish is not None else 0):
            yield from self.texts((*where, "set", number, "file"))

    def _of_settings(self, where: Where, blocks: Iterable[str]) -> Iterator[TemplateText]:
        yield from self.texts((*where, "environment"), with_job=True)
        for name in blocks:
            yield from self.texts((*where, name, FILES))

    def _command(self, where: Where, *, with_job: bool) -> Iterator[TemplateText]:
        node = self._node(where)
        if isinstance(node, Scalar) and node.kind == "text":
            for word in split_command(node.text):
                if is_template(word):
                    yield TemplateText(node, word, with_job=with_job)
        elif isinstance(node, Sequence):
            yield from self.texts(where, with_job=with_job)

    def inputs(self, where: Where) -> Iterator[TemplateText]:
        """Those of inputs, however they are given."""
        if isinstance(self._node(where), MappingNode):
            yield from self._command((*where, "command"), with_job=False)
        else:
            yield from self.texts(where, one_text=False)

    def texts(self, where: Where, *, one_text: bool = True, with_job: bool = False) -> Iterator[TemplateText]:
        """The texts at a place: one, or those of a list or mapping."""
        node = self._node(where)
        items: list[Node] = [node] if node is not None else []
        if isinstance(node, Sequence):
            items = list(node.items)
        elif isinstance(node, MappingNode):
            items = [entry.value for entry in node.entries.values()]
        for item in items:
            if isinstance(item, Scalar) and item.kind == "text" and is_template(item.text):
                yield TemplateText(item, item.text, one_text=one_text, with_job=with_job)

    def _node(self, where: Where) -> Node | None:
        return self.written.find(*where)


class JobsMaker:
    """Makes job sets: what one does not say itself is as ``defaults`` say."""

    def __init__(self, defaults: DefaultsKeys) -> None:
        self.defaults = defaults
        self.resources = defaults.resources.model_dump()
        self.failures = tuple(map(rule_of, defaults.failures))

    def make(self, keys: JobsKeys, backend: str) -> Jobs:
        """A job set.

        :param backend: without its connection.
        """
        defaults, split = self.defaults, keys.split
        inputs: Any = keys.inputs
        if isinstance(inputs, InputsKeys):
            inputs = InputsCommand(command=inputs.command or ())
        own = keys.resources.model_dump(exclude_unset=True) if keys.resources is not None else {}
        options = options_of(backend, defaults.blocks, keys.blocks)
        credentials = credentials_of(defaults.credentials, keys.credentials)
        return Jobs(
            command=keys.command or (),
            split=Split(count=split.count, per_job=split.per_job, inputs=split.inputs)
            if split is not None and not split.is_both()
            else Split(),
            inputs=inputs,
            environment={
                **variables_of(credentials, backend, options),
                **defaults.environment,
                **keys.environment,
            },
            resources=ResourceRequest(**{**self.resources, **own}),
            retries=keys.retries if keys.retries is not None else defaults.retries,
            quorum=keys.quorum if keys.quorum is not None else defaults.quorum,
            timeout=keys.timeout or defaults.timeout,
            failures=(*map(rule_of, keys.failures), *self.failures),
            options=options,
            credentials=credentials,
            keep=keys.keep or defaults.keep,
        )


def options_of(backend: str, defaults: Mapping[str, Keys], own: Mapping[str, Keys]) -> dict[str, Any]:
    """The block of a task's backend over that of the defaults."""
    if backend not in defaults and backend not in own:
        return {}
    theirs, mine = (
        blocks[backend].model_dump(mode="json", exclude_unset=True) if backend in blocks else {}
        for blocks in (defaults, own)
    )
    return backend_kind(backend).merged(theirs, mine)


def credentials_of(*levels: CredentialsKeys | None) -> dict[str, str]:
    """Kind → path; what stands later wins."""
    found: dict[str, str] = {}
    for keys in levels:
        stated = keys.model_dump(exclude_unset=True) if keys is not None else {}
        found |= {kind: path for kind, path in stated.items() if path is not None}
    return found


def variables_of(credentials: Mapping[str, str], backend: str, options: Mapping[str, object]) -> dict[str, str]:
    """The variables by which jobs find their credentials, but for what the backend itself gives them."""
    brought = backend_kind(backend).brings(options) if credentials else frozenset()
    return dict(variable(kind, path) for kind, path in credentials.items() if kind not in brought)


def rule_of(keys: RuleKeys) -> FailureRule:
    """A rule of failures."""
    when = keys.when
    return FailureRule(
        classes=as_tuple(when.classes) if when else (),
        exit_codes=as_tuple(when.exit_code) if when else (),
        signals=as_tuple(when.signal) if when else (),
        hold_codes=as_tuple(when.hold_code) if when else (),
        then=keys.then or "retry",
        times=keys.times,
        after=keys.after,
        factor=keys.memory.factor if keys.memory else None,
        at_most=keys.memory.at_most if keys.memory else None,
    )
