"""What a YAML file names and this machine does not have, and files that look like specs and are none."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import CalibError, Place, SpecError
from airflow_calib_provider.spec.checks.command_warnings import HINT, above, as_here, taken_as_it_is, wrong_with_command
from airflow_calib_provider.spec.checks.known_text import known_text
from airflow_calib_provider.spec.checks.publication_warnings import of_publication
from airflow_calib_provider.spec.checks.store_warnings import of_stores
from airflow_calib_provider.spec.kinds import FILES, backend_kind, run_source_kind
from airflow_calib_provider.spec.known import workflow_files
from airflow_calib_provider.spec.language import API_VERSION, CATEGORIES_FILE, MESSAGES_FILE, SOURCES_FILE
from airflow_calib_provider.spec.loader import load_sources
from airflow_calib_provider.spec.models import InputsCommand, Jobs, Lock, Task, Workflow
from airflow_calib_provider.spec.positions import Document, Node, read_document
from airflow_calib_provider.spec.positions import Mapping as MappingNode
from airflow_calib_provider.spec.positions import Sequence as SequenceNode
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.regular import open_regular
from airflow_calib_provider.spec.resolving import find_cycle
from airflow_calib_provider.spec.templates import variables_of

SHOWN = 20
"""How many files that are not read are named."""

LOOKED_AT = 10_000
"""Bytes at the beginning of a file that tell whether it is meant as a spec."""


@dataclass(frozen=True)
class Warned:
    """Something that is no mistake of the file, but will not work as things are.

    :ivar error: what, and where.
    :ivar source: the run source that it is about, or
    :ivar workflow: the workflow,
    :ivar task: with its task. Without any of these it is about the folder.
    """

    error: SpecError
    source: str | None = None
    workflow: str | None = None
    task: str | None = None

    def concerns(self, workflow: Workflow, grouping: str) -> bool:
        """Whether the DAG of this grouping is held up by it."""
        if self.source is None and self.workflow is None:
            return True
        if self.source is not None:
            return workflow.runs.source == self.source
        return self.workflow == workflow.name and self.task in {task.name for task in workflow.tasks_of(grouping)}


def warnings_of(paths: Sequence[Path], workflows: Mapping[str, Workflow]) -> list[Warned]:
    """Everything of these files and folders that is missing on this machine, run sources first; then what nobody reads.

    A path with an environment variable that is not set here is not looked at.
    """
    folders = dict.fromkeys(path if path.is_dir() else path.parent for path in paths)
    result = [item for folder in folders for item in _of_sources(folder / SOURCES_FILE)]
    result += [item for workflow in workflows.values() for item in _of_tasks(workflow)]
    result += [item for path in paths if path.is_dir() for item in _not_read(path)]
    return [*result, *_alike(workflows), *_for_ever(workflows), *_of_product_locks(workflows)]


def _for_ever(workflows: Mapping[str, Workflow]) -> Iterator[Warned]:
    """Locks on payloads that are published only after the task that waits for them."""
    tasks = {
        f"{workflow.name}.{task.name}": (workflow, task)
        for workflow in workflows.values()
        for task in workflow.tasks.values()
    }
    publisher = {
        tag: name for name, (_, task) in tasks.items() if task.publish is not None for tag in task.publish.tags
    }
    edges = {
        name: [f"{need.workflow or workflow.name}.{need.task}" for need in task.needs]
        + [publisher[tag] for lock in task.locks if (tag := _tag_of(lock)) in publisher]
        for name, (workflow, task) in tasks.items()
    }
    while cycle := find_cycle(edges):
        for name, following in pairwise(cycle):
            workflow, task = tasks[name]
            for number, lock in enumerate(task.locks):
                tag = _tag_of(lock)
                if publisher.get(tag) == following:
                    document = read_document(Path(workflow.file))
                    place = _place(document, "tasks", task.name, "locks", number)
                    said = f"the payload {tag!r} is published after what waits for it: {' → '.join(cycle)}"
                    hint = "this opens only in campaigns whose base campaign has the payload"
                    yield Warned(SpecError(said, place, suggestion=hint), workflow=workflow.name, task=task.name)
        edges[cycle[0]] = [name for name in edges[cycle[0]] if name != cycle[1]]


def _of_product_locks(workflows: Mapping[str, Workflow]) -> Iterator[Warned]:
    """Locks on products that nobody makes, as far as these files tell: other folders have workflows, too."""
    for workflow in workflows.values():
        for task in workflow.tasks.values():
            for number, lock in enumerate(task.locks):
                for part, one in enumerate(lock.leaves()):
                    key, said, hint = _without_maker(one, workflows)
                    if key:
                        inner = ("any", part) if lock.alternatives else ()
                        where = ("tasks", task.name, "locks", number, *inner, "product", key)
                        place = _place(read_document(Path(workflow.file)), *where)
                        yield Warned(SpecError(said, place, suggestion=hint), workflow=workflow.name, task=task.name)


def _without_maker(lock: Lock, workflows: Mapping[str, Workflow]) -> tuple[str, str, str]:
    """The key of a lock on a product that is wrong, what is wrong, and what is meant; empty where nothing is."""
    if "product" not in lock.parameters:
        return "", "", ""
    workflow, name, product = (str(lock.parameters[key]) for key in ("workflow", "task", "product"))
    if workflow not in workflows:
        near = nearest(workflow, workflows)
        return ("workflow", f"this folder has no workflow {workflow!r}", near) if near else ("", "", "")
    tasks = workflows[workflow].tasks
    if name not in tasks:
        return "task", f"the workflow {workflow!r} has no task {name!r}", nearest(name, tasks) or one_of(tasks)
    if product not in tasks[name].products:
        said = f"the task '{workflow}.{name}' has no product {product!r}, so that this lock never opens"
        return "product", said, nearest(product, tasks[name].products) or one_of(tasks[name].products)
    return "", "", ""


def _tag_of(lock: Lock) -> str:
    """The tag that a lock waits for as long as it takes; empty: there is none."""
    return str(lock.parameters.get("tag", "")) if lock.holds_for_ever and "store" not in lock.parameters else ""


def _not_read(folder: Path) -> Iterator[Warned]:
    """Files that look like specs, and are not read because of their names or where they lie.

    A folder with run sources of its own is one of specs itself.
    """
    read = set(workflow_files(folder))
    found = []
    for here, folders, names in os.walk(folder):
        inner = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in inner if not Path(here, name, SOURCES_FILE).is_file())
        for name in sorted(names):
            file = Path(here, name)
            ours = file.suffix.lower() in (".yaml", ".yml") and not name.startswith((".#", "._"))
            known = file in read or file in (folder / SOURCES_FILE, folder / CATEGORIES_FILE, folder / MESSAGES_FILE)
            if ours and not known and _looks_like_a_spec(file):
                found.append(file)
    for file in found[:SHOWN]:
        what = "is in a subfolder" if file.parent != folder else "has a name"
        yield _of_file(file, f"the file {what} that is not read", _where_to(file, folder))
    if more := found[SHOWN:]:
        yield _of_file(folder, f"{len(more)} more files are not read", "")


def _where_to(file: Path, folder: Path) -> str:
    if file.parent != folder:
        return f"move it into {folder}, or check that folder by itself: it needs a {SOURCES_FILE} and a stub of its own"
    return f"rename it {file.stem.lstrip('.')}.yaml"


def _looks_like_a_spec(file: Path) -> bool:
    try:
        with open_regular(file) as stream:
            head = stream.read(LOOKED_AT)
    except OSError:
        return False
    return API_VERSION.partition("/")[0].encode() + b"/" in head and b"apiVersion" in head


def _alike(workflows: Mapping[str, Workflow]) -> Iterator[Warned]:
    first: dict[str, Workflow] = {}
    for workflow in workflows.values():
        other = first.setdefault(workflow.name.lower(), workflow)
        if other is not workflow:
            said = f"the workflows {other.name!r} ({other.file}) and {workflow.name!r} differ in capitals only"
            error = _of_file(Path(workflow.file), said, "people and some file systems take them for one").error
            yield Warned(error)


def _of_file(file: Path, message: str, hint: str) -> Warned:
    return Warned(SpecError(message, Place(file), suggestion=hint))


def _of_sources(file: Path) -> Iterator[Warned]:
    document = read_document(file)
    for name, source in load_sources(file).items():
        try:
            found = list(run_source_kind(source.kind).warnings(source, file.parent))
        except CalibError:
            continue
        for key, message, hint in found:
            place = _place(document, "sources", name, source.kind, key)
            yield Warned(SpecError(message, place, suggestion=hint), source=name)


def _of_tasks(workflow: Workflow) -> Iterator[Warned]:
    folder = Path(workflow.file).resolve().parent
    document = read_document(Path(workflow.file))
    for task in workflow.tasks.values():
        found = (
            *_of_start(task, folder),
            *_of_jobs(task, folder),
            *_of_published_file(task, workflow),
            *of_publication(task, workflow, document),
            *of_stores(task, workflow),
            *_of_late_runs(task, workflow),
            *_of_failed_runs(task, workflow),
        )
        told: set[tuple[Place, str]] = set()
        for keys, message, hint in found:
            place = _place(document, "tasks", task.name, *keys)
            if (place, message) in told:  # of an anchor that several phases share
                continue
            told.add((place, message))
            yield Warned(SpecError(message, place, suggestion=hint), workflow=workflow.name, task=task.name)


def _of_start(task: Task, folder: Path) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """First constants of an iteration that are not there."""
    start = task.iteration.start if task.iteration is not None else None
    if start is None or start.file is None:
        return
    text = known_text(start.file, folder)
    if text is not None and Path(text).is_absolute() and not Path(text).is_file():
        keys = ("else",) if start.payload is not None else ("from", "file")
        said = f"the first constants {os.path.normpath(text)} do not exist"
        yield ("iterate", "constants", *keys), said, "the first step cannot begin before they do"


def _of_jobs(task: Task, folder: Path) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What the job sets of a task name and their jobs will not find, with the keys that lead to it."""
    for where, jobs in _job_sets(task):
        yield from _of_job_set(task.backend, where, jobs, folder)


def _of_job_set(
    backend: str, where: tuple[str, ...], jobs: Jobs, folder: Path
) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    shared_with_jobs = partial(backend_kind(backend).shares, jobs.options)
    for keys, command in _commands(where, jobs):
        arguments = [known_text(item, folder) for item in command]
        shared = shared_with_jobs if keys == (*where, "command") else as_here
        for number, message, hint in wrong_with_command(arguments, _transferred(jobs), shared):
            yield (*keys, number), message, hint
        for number, (template, text) in enumerate(zip(command, arguments, strict=True)):
            if text is not None and (file := _beside(template, text)) and not shared(file):
                said = f"the jobs do not see {file}, which is on none of the volumes of their pods"
                yield (*keys, number), said, "name the volume in kubernetes.volumes, or put the file into the image"
    for number, item in enumerate(
        (jobs.inputs,) if isinstance(jobs.inputs, str) else jobs.inputs if isinstance(jobs.inputs, tuple) else ()
    ):
        text = known_text(item, folder)
        if text is not None and (found := taken_as_it_is(text)):
            yield (*where, "inputs", number), *found
        elif text is not None and (path := above(text)):
            message = f"the input {path} leads out of the folder where the job runs (CALIB_OUT), not from this file's"
            yield (*where, "inputs", number), message, HINT


def _job_sets(task: Task) -> Iterator[tuple[tuple[str, ...], Jobs]]:
    """The job sets of a task, each with the keys that lead to it: of one that iterates those of its phases."""
    if task.iteration is not None:
        for name, phase in task.iteration.phases.items():
            yield ("iterate", "phases", name, "measure"), phase.measure
            yield ("iterate", "phases", name, "update"), phase.update
    elif task.jobs is not None:
        yield ("jobs",), task.jobs


def _beside(template: str, text: str) -> Path | None:
    """The file below the folder of the specs that an argument is."""
    if "spec.folder" not in variables_of(template) or "\n" in text:
        return None
    path = Path(os.path.normpath(text.rpartition("=")[2] if text.startswith("-") else text))
    return path if path.is_absolute() else None


def _transferred(jobs: Jobs) -> set[str]:
    """Files that a backend puts where the job runs."""
    files = jobs.options.get(FILES)
    return {Path(str(name)).name for name in files} if isinstance(files, list | tuple) else set()


def _of_published_file(task: Task, workflow: Workflow) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    if task.publish is None or any(name.startswith("tasks.") for name in variables_of(task.publish.file)):
        return
    made = [
        f"tasks.{need.task}.products.{name}"
        for need in task.needs
        if need.workflow in (None, workflow.name) and need.task in workflow.tasks
        for name in workflow.tasks[need.task].products
    ]
    hint = f'write "{{{{ {made[0] if made else "tasks.TASK.products.NAME"} }}}}"'
    yield ("publish", "file"), f"no task makes the file {task.publish.file} that is published", hint


def _of_late_runs(task: Task, workflow: Workflow) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What late runs form groups for, and waits for tasks for which they are in none."""
    if task.policy.late_runs != "new_group":
        return
    for number, need in enumerate(task.needs):
        other = workflow.tasks.get(need.task) if need.workflow in (None, workflow.name) else None
        if other is not None and other.policy.late_runs == "ignore" and other.policy.label != task.policy.label:
            label = other.policy.label
            said = f"groups of late runs wait for {other.name}, whose grouping {label!r} has late runs in none"
            yield ("needs", number), said, "write late_runs: new_group there, too"


def _of_failed_runs(task: Task, workflow: Workflow) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What says how groups do without failed runs, and has nothing in which a run alone can fail."""
    tasks = workflow.tasks_of(task.policy.label)
    if task.policy.failed_runs is None or task.name != tasks[0].name:
        return
    for need in (need for one in tasks for need in one.needs):
        other = workflow.tasks.get(need.task) if need.workflow in (None, workflow.name) else None
        if other is None or other.policy.label != task.policy.label:
            return
    said = f"failed_runs has no effect: no task of the grouping {task.policy.label!r} needs one of another grouping"
    hint = "name the task in which a run may fail under 'needs', or leave failed_runs out"
    yield ("group_by", str(task.policy.kind), "failed_runs"), said, hint


def _commands(where: tuple[str, ...], jobs: Jobs) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The commands of a job set, each with the keys that lead to it."""
    yield (*where, "command"), jobs.command
    if isinstance(jobs.inputs, InputsCommand):
        yield (*where, "inputs", "command"), jobs.inputs.command


def _place(document: Document, *keys: str | int) -> Place:
    """Where the value of nested keys stands; of a list its first element."""
    node: Node = document.root
    for key in keys:
        if isinstance(node, SequenceNode) and isinstance(key, int) and key < len(node.items):
            node = node.items[key]
        elif isinstance(node, MappingNode) and key in node.entries:
            node = node.entries[str(key)].value
        else:
            break
    if isinstance(node, SequenceNode) and node.items:
        node = node.items[0]
    return Place(document.file, node.position.line, node.position.column)
