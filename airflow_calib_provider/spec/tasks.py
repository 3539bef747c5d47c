"""Reading one task: needs, locks, jobs, products, publish."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePosixPath
from typing import Any, TypeVar

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.errors import KindError, RenderError
from airflow_calib_provider.kinds import DEFAULT_BACKEND
from airflow_calib_provider.spec.failures import read_failures
from airflow_calib_provider.spec.groupings import read_grouping
from airflow_calib_provider.spec.kinds import backend_blocks, backend_kind
from airflow_calib_provider.spec.language import KEYS, MAX_JOBS, MAX_RETRIES, SPLIT_INPUTS
from airflow_calib_provider.spec.models import (
    FailureRule,
    InputsCommand,
    Jobs,
    Need,
    PayloadLock,
    Publish,
    ResourceRequest,
    RunSource,
    Split,
)
from airflow_calib_provider.spec.positions import Mapping, Node, Scalar, Sequence
from airflow_calib_provider.spec.reading import NAME, NAME_LENGTH, Keys, Reader
from airflow_calib_provider.spec.templates import is_template, split_command

T = TypeVar("T")

KEEP = timedelta(days=30)

_SHELL = frozenset({"&&", "||", "|", ";", ">", ">>", "<", "&", "2>&1"})


@dataclass(frozen=True)
class TemplateText:
    """A template with its place and what may stand in it."""

    scalar: Scalar
    text: str
    one_text: bool = True
    with_job: bool = False


@dataclass
class Defaults:
    """What ``defaults`` says; ``None`` is not stated.

    :ivar blocks: of backends, by their names.
    """

    backend: str | None = None
    retries: int | None = None
    quorum: float | None = None
    timeout: timedelta | None = None
    resources: dict[str, int] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    failures: tuple[FailureRule, ...] = ()
    blocks: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep: timedelta | None = None
    templates: list[TemplateText] = field(default_factory=list)


@dataclass
class RawTask:
    """A task as read, before groupings and needs are resolved.

    :ivar grouping_node: where ``group_by`` stands, ``None`` where it is left out.
    :ivar needs: with the node of each.
    :ivar needs_wrong: some need could not be read, so that what follows from the needs is not to be judged.
    :ivar products_wrong: the same for products, ``backend_wrong`` for the backend.
    """

    name: str
    node: Node
    key: Scalar
    grouping: Grouping | None = None
    grouping_node: Node | None = None
    needs: list[tuple[Need, Scalar]] = field(default_factory=list)
    needs_wrong: bool = False
    locks: list[PayloadLock] = field(default_factory=list)
    backend: str = DEFAULT_BACKEND
    backend_wrong: bool = False
    jobs: Jobs | None = None
    products: dict[str, str] = field(default_factory=dict)
    products_wrong: bool = False
    publish: Publish | None = None
    publish_tag: Node | None = None
    templates: list[TemplateText] = field(default_factory=list)


class TaskReader:
    """Reads the tasks of one workflow.

    :param workflow: its name, which needs without a workflow are meant in.
    """

    def __init__(self, reader: Reader, workflow: str, defaults: Defaults, source: RunSource | None) -> None:
        self.reader = reader
        self.problems = reader.problems
        self.workflow = workflow
        self.defaults = defaults
        self.source = source

    def read(self, name: str, key: Scalar, node: Node) -> RawTask:
        what = f"the task {name!r}"
        keys = Keys(self.reader, node, what, KEYS["a task"])
        task = RawTask(name, node, key)
        if "group_by" in keys:
            task.grouping_node = keys["group_by"]
            task.grouping = read_grouping(keys["group_by"], "group_by", self.reader, self.source)
        if "needs" in keys:
            before = len(self.problems.errors)
            self._needs(keys["needs"], task)
            task.needs_wrong = len(self.problems.errors) > before
        if "locks" in keys:
            self._locks(keys["locks"], task)
        backend = keys.get("backend", self.reader.backend)
        task.backend_wrong = "backend" in keys and backend is None
        task.backend = backend or self.defaults.backend or DEFAULT_BACKEND
        if "products" in keys:
            before = len(self.problems.errors)
            task.products = self.read_products(keys["products"])
            task.products_wrong = len(self.problems.errors) > before
        if "jobs" in keys:
            task.jobs = self._jobs(keys["jobs"], task)
        if "publish" in keys:
            task.publish = self._publish(keys["publish"], task)
        self._check_kind(keys, task, what)
        return task

    def _check_kind(self, keys: Keys, task: RawTask, what: str) -> None:
        if not isinstance(task.node, Mapping):
            return
        if ("jobs" in keys) == ("publish" in keys):
            has = "both jobs and publish" if "jobs" in keys else "neither jobs nor publish"
            self.problems.add(f"{what} has {has}", task.key, expected="exactly one of them")
            return
        if "publish" in keys:
            for name in ("products", "backend"):
                if name in keys:
                    self.problems.add(f"{name!r} in a task that publishes", keys[name], expected=f"{name} with jobs")
            if "needs" not in keys or (isinstance(keys["needs"], Sequence) and not keys["needs"].items):
                self.problems.add(
                    f"{what} publishes and needs nothing", task.key, expected="needs: [<task that makes the file>]"
                )

    # needs and locks

    def _needs(self, node: Node, task: RawTask) -> None:
        for item in self.reader.sequence(node, "needs") or ():
            text = self.reader.text(item, "an element of needs", "task or workflow.task")
            if text is None or not isinstance(item, Scalar):
                continue
            parts = text.split(".")
            if len(parts) > 2 or not all(NAME.fullmatch(part) and len(part) <= NAME_LENGTH for part in parts):
                self.reader.wrong(item, "an element of needs", "task or workflow.task")
                continue
            workflow = parts[0] if len(parts) == 2 else self.workflow
            need = Need(workflow=workflow, task=parts[-1])
            if any(other == need for other, _ in task.needs):
                self.problems.add(f"{text!r} is needed twice", item, expected="each task once")
                continue
            task.needs.append((need, item))

    def _locks(self, node: Node, task: RawTask) -> None:
        for item in self.reader.sequence(node, "locks") or ():
            keys = Keys(self.reader, item, "a lock", KEYS["a lock"])
            payload = keys.node("payload", "{payload: {tag: …, covers: group}}")
            if payload is None:
                continue
            inner = Keys(self.reader, payload, "payload", KEYS["payload"])
            tag = inner.require("tag", self.reader.tag, "the tag that is waited for")
            inner.get("covers", self.reader.choice(("group",)))
            if tag is None:
                continue
            if any(lock.tag == tag for lock in task.locks):
                self.problems.add(f"two locks on the tag {tag!r}", item, expected="each tag once")
                continue
            task.locks.append(PayloadLock(tag=tag))

    # jobs

    def _jobs(self, node: Node, task: RawTask) -> Jobs | None:
        keys = Keys(self.reader, node, "jobs", with_blocks(KEYS["jobs"]))
        command = keys.require("command", lambda value, _: self._command(value, task, with_job=True), "a command")
        inputs = self._inputs(keys["inputs"], task) if "inputs" in keys else None
        split = self._split(keys["split"], task, "inputs" in keys) if "split" in keys else Split()
        if "split" in keys and isinstance(inputs, tuple):
            self._check_shares(split, inputs, keys["split"])
        settings = self.read_settings(keys, "jobs")
        task.templates.extend([*self.defaults.templates, *settings.templates])
        backend = task.backend.partition(":")[0]
        for name in settings.blocks:
            if name != backend and not task.backend_wrong:
                said = f"{name!r} in a task whose backend is {task.backend!r}"
                self.problems.add(said, keys[name], expected=f"backend: {name}")
        if command is None:
            return None
        timeout = settings.timeout or self.defaults.timeout
        return Jobs(
            command=command,
            split=split or Split(),
            inputs=inputs,
            environment=self.defaults.environment | settings.environment,
            resources=ResourceRequest(**(self.defaults.resources | settings.resources)),
            retries=_stated(settings.retries, self.defaults.retries, 3),
            quorum=_stated(settings.quorum, self.defaults.quorum, 1.0),
            timeout=timeout,
            failures=settings.failures + self.defaults.failures,
            options=_options(backend, self.defaults, settings),
            keep=_stated(settings.keep, self.defaults.keep, KEEP),
        )

    def read_settings(self, keys: Keys, what: str) -> Defaults:
        """What ``defaults`` and ``jobs`` have in common."""
        result = Defaults(
            retries=keys.get("retries", self.reader.integer(0, MAX_RETRIES)),
            quorum=keys.get("quorum", self._quorum),
            timeout=keys.get("timeout", self.reader.duration),
            keep=keys.get("keep", self.reader.duration),
        )
        if "failures" in keys:
            result.failures = read_failures(keys["failures"], f"{what}.failures", self.reader)
        for name in backend_blocks():
            if name in keys:
                self._block(name, keys[name], f"{what}.{name}", result)
        if "resources" in keys:
            inner = Keys(self.reader, keys["resources"], f"{what}.resources", KEYS["resources"])
            for name, value in (
                ("cpus", inner.get("cpus", self.reader.integer(1, 4096))),
                ("memory", inner.get("memory", self.reader.size)),
                ("disk", inner.get("disk", self.reader.size)),
                ("gpus", inner.get("gpus", self.reader.integer(0, 1024))),
            ):
                if value is not None:
                    result.resources[name] = value
        if "environment" in keys:
            self._environment(keys["environment"], f"{what}.environment", result)
        return result

    def _block(self, name: str, node: Node, what: str, result: Defaults) -> None:
        try:
            kind = backend_kind(name)
        except KindError as error:
            self.problems.add(error.message, node, hint=error.hint)
            return
        if kind.keys is None:
            self.problems.add(f"the backend {name!r} has no keys of its own", node, expected="no block of this name")
            return
        result.blocks[name], templates = kind.read(self.reader, node, what)
        result.templates.extend(TemplateText(scalar, scalar.text) for scalar in templates)

    def _environment(self, node: Node, what: str, result: Defaults) -> None:
        for name, entry in (self.reader.mapping(node, what) or {}).items():
            if self.reader.text(entry.key, f"a variable of {what}") is None:
                continue
            if not NAME.fullmatch(name.lstrip("_")):
                self.problems.add(
                    f"{name!r} is no name of an environment variable", entry.key, expected="letters, digits and '_'"
                )
                continue
            text = self.reader.text(entry.value, f"{what}.{name}")
            if text is not None and isinstance(entry.value, Scalar):
                result.environment[name] = text
                result.templates.append(TemplateText(entry.value, text, with_job=True))

    def _quorum(self, node: Node, what: str) -> float | None:
        value = self.reader.positive(node, what)
        if value is not None and value > 1:
            self.problems.add(
                f"{what} is {value:g}",
                node,
                expected="expected a fraction of the jobs, above 0 and at most 1",
                hint=f"did you mean {value / 100:g}?" if 10 <= value <= 100 else "",
            )
            return None
        return value

    def _command(self, node: Node, task: RawTask, *, with_job: bool) -> tuple[str, ...] | None:
        found = self._command_line(node) if isinstance(node, Scalar) else self._command_list(node)
        if found is None:
            return None
        if not found or not found[0][1].strip():
            self.problems.add("the command is empty", node, expected="a program and its arguments")
            return None
        task.templates.extend(TemplateText(scalar, text, with_job=with_job) for scalar, text in found)
        return tuple(text for _, text in found)

    def _command_list(self, node: Node) -> list[tuple[Scalar, str]] | None:
        items = self.reader.sequence(node, "command")
        if items is None:
            return None
        found = []
        for item in items:
            text = self.reader.text(item, "an argument of the command")
            if text is not None and isinstance(item, Scalar):
                found.append((item, text))
        return found if len(found) == len(items) else None

    def _command_line(self, node: Scalar) -> list[tuple[Scalar, str]] | None:
        text = self.reader.text(node, "command", "a command")
        if text is None:
            return None
        try:
            words = split_command(text)
        except RenderError as error:
            self.problems.add(error.message, node, hint=error.hint)
            return None
        for word in words:
            if word in _SHELL:
                self.problems.add(
                    f"{word!r} in a command, which no shell reads",
                    node,
                    expected="a program and its arguments",
                    hint=f'for a shell: [bash, -c, "…"], or quote the {word!r}',
                )
                return None
        return [(node, word) for word in words]

    def _split(self, node: Node, task: RawTask, has_inputs: bool) -> Split | None:
        keys = Keys(self.reader, node, "split", KEYS["split"])
        if "count" in keys and "per_job" in keys:
            self.problems.add("split has both count and per_job", node, expected="one of them")
            return None
        per_job = keys.get("per_job", self.reader.integer(1, MAX_JOBS))
        if "per_job" in keys and not has_inputs:
            self.problems.add("split.per_job without inputs", keys["per_job"], expected="jobs.inputs")
        if "count" not in keys and "per_job" not in keys and isinstance(node, Mapping) and not node.entries:
            self.problems.add("split is empty", node, expected="count or per_job")
        if "inputs" in keys and ("count" not in keys or not has_inputs):
            said = "split.inputs without inputs" if "count" in keys else "split.inputs without count"
            self.problems.add(said, keys["inputs"], expected="jobs.inputs" if "count" in keys else "split.count")
        given = keys.get("inputs", self.reader.choice(SPLIT_INPUTS))
        count: int | str | None = None
        if "count" in keys:
            value = keys["count"]
            if isinstance(value, Scalar) and value.kind == "text" and is_template(value.text):
                count = value.text
                task.templates.append(TemplateText(value, value.text))
            else:
                count = self.reader.integer(1, MAX_JOBS)(value, "split.count")
        return Split(count=count, per_job=per_job, inputs="all" if given == "all" else "shared")

    def _check_shares(self, split: Split | None, inputs: tuple[str, ...], node: Node) -> None:
        """What can be told before anything is rendered: an input that is a template may become several."""
        if split is None or not isinstance(split.count, int) or split.inputs == "all":
            return
        if split.count > len(inputs) and not any(is_template(text) for text in inputs):
            place = node.entries["count"].value if isinstance(node, Mapping) and "count" in node.entries else node
            self.problems.add(
                f"split.count is {split.count}, and there are {len(inputs)} inputs to share",
                place,
                expected="at most one job for each input",
                hint="inputs: all beside count gives all inputs to each job",
            )

    def _inputs(self, node: Node, task: RawTask) -> str | tuple[str, ...] | InputsCommand | None:
        if isinstance(node, Mapping) and not node.is_template:
            keys = Keys(self.reader, node, "inputs", KEYS["inputs"])
            command = keys.require("command", lambda value, _: self._command(value, task, with_job=False), "a command")
            return InputsCommand(command=command) if command else None
        if isinstance(node, Sequence):
            texts = self.reader.texts(node, "inputs")
            if texts is not None and not texts and not node.items:
                self.problems.add("inputs is empty", node, expected="at least one input")
            for item in node.items:
                if isinstance(item, Scalar) and item.kind == "text":
                    task.templates.append(TemplateText(item, item.text, one_text=False))
            return texts
        text = self.reader.filled(node, "inputs")
        if text is not None and isinstance(node, Scalar):
            task.templates.append(TemplateText(node, text, one_text=False))
        return text

    # products and publish

    def read_products(self, node: Node) -> dict[str, str]:
        products: dict[str, str] = {}
        for name, entry in (self.reader.mapping(node, "products") or {}).items():
            if self.reader.name(entry.key, "the product") is None:
                continue
            text = self.reader.filled(entry.value, f"products.{name}")
            if text is None:
                continue
            problem = _bad_file(text)
            if problem:
                self.problems.add(
                    f"products.{name} {text!r} {problem}", entry.value, expected="a file relative to CALIB_OUT"
                )
                continue
            same = next((other for other, file in products.items() if file == text), "")
            if same:
                self.problems.add(f"products.{name} is the same file as products.{same}", entry.value)
            products[name] = text
        return products

    def _publish(self, node: Node, task: RawTask) -> Publish | None:
        keys = Keys(self.reader, node, "publish", KEYS["publish"])
        tag = keys.require("tag", self.reader.tag, "the tag to publish under")
        file = keys.require("file", self.reader.filled, 'a file, such as "{{ tasks.fit.products.constants }}"')
        keys.get("iov", self.reader.choice(("group",)))
        if file is not None and isinstance(keys["file"], Scalar):
            task.templates.append(TemplateText(keys["file"], file))
        if tag is None or file is None:
            return None
        task.publish_tag = keys["tag"]
        return Publish(tag=tag, file=file)


def with_blocks(known: tuple[str, ...]) -> tuple[str, ...]:
    """The keys of ``jobs`` or ``defaults`` with the blocks of the backends, which come before ``keep``."""
    return (*known[:-1], *backend_blocks(), known[-1])


def _options(backend: str, defaults: Defaults, own: Defaults) -> dict[str, Any]:
    """The block of a task's backend over that of the defaults."""
    theirs, mine = defaults.blocks.get(backend), own.blocks.get(backend)
    return backend_kind(backend).merged(theirs or {}, mine or {}) if theirs or mine else {}


def _bad_file(text: str) -> str:
    path = PurePosixPath(text)
    if is_template(text):
        return "is a template"
    if path.is_absolute() or text.startswith("~"):
        return "is absolute"
    if ".." in path.parts:
        return "leaves its folder with '..'"
    if text.endswith("/") or not path.parts:
        return "is a folder"
    if "\\" in text or not text.isprintable():
        return "has a character that file names should not have"
    return ""


def _stated(value: T | None, default: T | None, otherwise: T) -> T:
    if value is not None:
        return value
    return default if default is not None else otherwise
