"""From a task of the spec and a group's context to job definitions."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from airflow_calib_provider.domain import lengths
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.context import SPEC_FOLDER, GroupContext
from airflow_calib_provider.jobsets.query import query
from airflow_calib_provider.ledger.rows import Definition
from airflow_calib_provider.spec.kinds import FILES
from airflow_calib_provider.spec.language import MAX_JOBS
from airflow_calib_provider.spec.models import FailureRule, InputsCommand, Jobs, Task
from airflow_calib_provider.spec.templates import is_template, render_command, render_text, render_value, uses_of
from airflow_calib_provider.spec.values import no_text

# What is known only when an attempt is submitted stands in a definition as one of these, so that a definition (and its
# hash) is the same for every attempt.
_MARK = "⟦"
OUT, REPORT, INPUTS_FILE, ATTEMPT = "⟦out⟧", "⟦report⟧", "⟦inputs_file⟧", "⟦attempt⟧"
MAILBOX = "⟦mailbox⟧"

# For texts that Airflow renders, once for all jobs.
INDEX, COUNT = "⟦index⟧", "⟦count⟧"


@dataclass(frozen=True)
class Rendered:
    """The jobs of a job set.

    :ivar definitions: one JSON-able mapping per job: command, environment, inputs, resources, timeout.
    :ivar inputs: the frozen list of inputs (rule 33).
    :ivar digest: SHA-256 of the definitions, the inputs, the runs, the backend and the declared products: tells whether
        a cleared generation can be continued (rule 14).
    :ivar options: the spec's block for the backend; no part of the digest, as it says how jobs run and not what.
    :ivar failures: the failure policy; no part of the digest either.
    :ivar named: all texts with the mark of the spec's folder.
    """

    definitions: Sequence[Definition]
    inputs: Sequence[str]
    digest: str
    options: Mapping[str, object] = field(default_factory=dict)
    failures: Sequence[Mapping[str, object]] = ()
    named: frozenset[str] = frozenset()


def render(task: Task, context: GroupContext, folder: Path | None = None) -> Rendered:
    """Render a task's job set for a group.

    :param folder: what ``{{ spec.folder }}`` stands for; by default the folder of the YAML file.
    :raises RenderError: a template cannot be rendered, a catalogue query fails, or there would be no job.
    """
    jobs = task.jobs
    assert jobs is not None
    where = {SPEC_FOLDER: str(folder or context.folder)}
    inputs = _inputs(jobs, context.variables, where)
    files = _files(jobs, task.backend, context.variables)
    texts = _Texts(context.variables)
    shares = _shares(jobs, inputs, context.variables)
    definitions = [_definition(jobs, context.task, texts, share, files) for share in shares]
    rendered = _rendered(jobs, definitions, inputs, context.runs, task.backend, task.products)
    return replace(rendered, named=_named(rendered), inputs=[filled(item, where) for item in inputs])


def query_of(jobs: Jobs, context: GroupContext) -> list[str]:
    """The command that is asked for inputs, with the mark of the spec's folder; empty without one."""
    wanted = jobs.inputs
    return list(_query(wanted, context.variables)) if isinstance(wanted, InputsCommand) else []


def _query(wanted: InputsCommand, variables: Mapping[str, object]) -> tuple[str, ...]:
    command = render_command(wanted.command, variables)
    if said := lengths.too_long(command, {}):
        raise RenderError(
            f"jobs.inputs.{said}", "ask for inputs with less: {{ group.first_run }}, {{ group.last_run }}"
        )
    return command


def _named(rendered: Rendered) -> frozenset[str]:
    found = set(rendered.inputs)
    for item in rendered.definitions:
        for texts in (item["command"], item["environment"].values(), item["inputs"] or (), item.get("files", ())):
            found.update(text for text in texts if SPEC_FOLDER in text)
    return frozenset(text for text in found if SPEC_FOLDER in text)


def render_plain(jobs: Jobs, products: Mapping[str, str], backend: str) -> Rendered:
    """Render a job set in whose texts nothing is a template any more, as an operator in a hand-written DAG has it.

    :param jobs: with the marks of this module where a value of the job belongs; inputs are a list.
    :raises RenderError: there would be no job, or too many.
    """
    inputs = [str(item) for item in jobs.inputs] if isinstance(jobs.inputs, tuple) else []
    definitions = []
    for index, count, mine in _shares(jobs, inputs, {}):
        known = {INDEX: str(index), COUNT: str(count)}
        command = [filled(argument, known) for argument in jobs.command]
        environment = {name: filled(text, known) for name, text in sorted(jobs.environment.items())}
        _refuse_long(command, environment, "", index)
        definitions.append(_stated(jobs, command, environment, mine, _templates(jobs)))
    return _rendered(jobs, definitions, inputs, (), backend, products)


def _rendered(
    jobs: Jobs,
    definitions: Sequence[Definition],
    inputs: Sequence[str],
    runs: Sequence[int],
    backend: str,
    products: Mapping[str, str],
) -> Rendered:
    content = [list(definitions), list(inputs), list(runs), backend, dict(sorted(products.items()))]
    text = json.dumps(content, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Rendered(definitions, inputs, digest, _options(jobs), [_rule(rule) for rule in jobs.failures])


def _templates(jobs: Jobs) -> list[str]:
    files = jobs.options.get(FILES)
    return [str(text) for text in files] if isinstance(files, list | tuple) else []


def _files(jobs: Jobs, backend: str, variables: Mapping[str, object]) -> list[str]:
    """What the payload needs where there is no shared file system."""
    files = [render_text(text, variables) for text in _templates(jobs)]
    broken = next((file for file in files if not file or any(sign in file for sign in "\n\r\0")), None)
    if broken is not None:
        block = backend.partition(":")[0]
        raise RenderError(f"an element of {block}.{FILES} is empty or holds a line break: {broken!r}")
    return files


def _options(jobs: Jobs) -> dict[str, object]:
    """The block for the backend, as far as it is stated; its files stand in the definitions."""
    return {name: value for name, value in jobs.options.items() if name != FILES}


def _rule(rule: FailureRule) -> dict[str, object]:
    stated = rule.model_dump(exclude_none=True, exclude={"after"})
    found = {name: list(value) if isinstance(value, tuple) else value for name, value in stated.items() if value != ()}
    return found if rule.after is None else {**found, "after": rule.after.total_seconds()}


def _inputs(jobs: Jobs, variables: Mapping[str, object], where: Mapping[str, str]) -> list[str]:
    wanted = jobs.inputs
    if wanted is None:
        return []
    if isinstance(wanted, InputsCommand):
        command = _query(wanted, variables)
        folder = where[SPEC_FOLDER]
        listed = query([filled(argument, where) for argument in command])
        return [SPEC_FOLDER + item.removeprefix(folder) if item.startswith(f"{folder}/") else item for item in listed]
    items: list[object] = []
    for template in (wanted,) if isinstance(wanted, str) else wanted:
        found = render_value(template, variables)
        items += found if isinstance(found, list | tuple) else [found]
    if not all(isinstance(item, str) for item in items):
        raise RenderError(f"inputs must be a list of paths or URLs, not {items!r}"[:300])
    texts = [str(item) for item in items]
    broken = next((text for text in texts if not text.strip() or any(sign in text for sign in "\n\r\0")), None)
    if broken is not None:
        raise RenderError(f"an input is empty or holds a line break: {broken!r}")
    if (odd := next(filter(no_text, texts), None)) is not None:
        raise RenderError(f"{no_text(odd)} in an input: {odd!r}")
    return texts


def _shares(
    jobs: Jobs, inputs: Sequence[str], variables: Mapping[str, object]
) -> Iterator[tuple[int, int, Sequence[str]]]:
    """Index, number of jobs and inputs of each job."""
    size = jobs.split.per_job
    if size is not None:
        count = math.ceil(len(inputs) / size)
        if not count:
            raise RenderError("the job set has no inputs, hence no jobs")
    else:
        count = _count(jobs, variables)
    if count > MAX_JOBS:
        raise RenderError(f"{count} jobs are more than the {MAX_JOBS} that a job set may have")
    if not _has_shares(jobs):
        for index in range(count):
            yield index, count, inputs
        return
    if count > len(inputs):
        raise RenderError(
            f"{count} jobs cannot share {len(inputs)} inputs: each job needs at least one of its own",
            "ask for fewer jobs, or say that each gets all inputs (split.inputs: all; all_inputs=True in a DAG)",
        )
    # Of count jobs the first ones get one input more where it does not come out even.
    least, more = (size, 0) if size is not None else divmod(len(inputs), count)
    for index in range(count):
        start = index * least + min(index, more)
        yield index, count, inputs[start : start + least + (index < more)]


def _has_shares(jobs: Jobs) -> bool:
    """Whether each job has inputs of its own, rather than all of them."""
    if jobs.split.per_job is not None:
        return True
    return jobs.inputs is not None and jobs.split.count is not None and jobs.split.inputs != "all"


def _count(jobs: Jobs, variables: Mapping[str, object]) -> int:
    wanted = jobs.split.count
    if wanted is None:
        return 1
    value = render_value(wanted, variables) if isinstance(wanted, str) else wanted
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise RenderError(f"split.count must be a whole number of at least 1, not {value!r}")
    return value


class _Texts:
    """Renders texts of which most are the same for all jobs: those that do not name the job are rendered once.

    :param variables: what holds for all jobs.
    """

    def __init__(self, variables: Mapping[str, object]) -> None:
        self._common = variables
        self._kept: dict[str, str] = {}

    def of(self, templates: Iterable[str], job: Mapping[str, object]) -> list[str]:
        """Each rendered for a job.

        :raises RenderError: as :func:`render_text` does.
        """
        variables: dict[str, object] = {}
        texts = []
        for template in templates:
            text = self._kept.get(template)
            if text is None:
                variables = variables or {**self._common, "job": job}
                text = render_text(template, variables)
                if not is_template(template) or not any(use.path[0] == "job" for use in uses_of(template)):
                    self._kept[template] = text
            texts.append(text)
        return texts


def _definition(
    jobs: Jobs, task: str, texts: _Texts, share: tuple[int, int, Sequence[str]], files: Sequence[str]
) -> Definition:
    index, count, inputs = share
    job = {
        "index": index,
        "count": count,
        "inputs": inputs,
        "out": OUT,
        "report": REPORT,
        "inputs_file": INPUTS_FILE,
        "attempt": ATTEMPT,
    }
    names = sorted(jobs.environment)
    environment = dict(zip(names, texts.of([jobs.environment[name] for name in names], job), strict=True))
    command = texts.of(jobs.command, job)
    _refuse_long(command, environment, f"tasks.{task}.jobs.", index)
    return _stated(jobs, command, environment, inputs, files)


def _refuse_long(command: Sequence[str], environment: Mapping[str, str], where: str, index: int) -> None:
    if said := lengths.too_long(command, environment):
        raise RenderError(f"{where}{said} (job {index})", lengths.HINT)


def _stated(
    jobs: Jobs, command: Sequence[str], environment: Mapping[str, str], inputs: Sequence[str], files: Sequence[str]
) -> Definition:
    definition: Definition = {
        "command": list(command),
        "environment": dict(environment),
        # Inputs that all jobs share stand in the generation, once.
        "inputs": list(inputs) if _has_shares(jobs) else None,
        "cpus": jobs.resources.cpus,
        "memory": jobs.resources.memory,
        "disk": jobs.resources.disk,
        "timeout": jobs.timeout.total_seconds() if jobs.timeout else None,
    }
    # Left out where they say nothing: what was rendered before there were such keys has the same digest still.
    if jobs.resources.gpus:
        definition["gpus"] = jobs.resources.gpus
    if files:
        definition["files"] = list(files)
    if jobs.credentials:
        definition["credentials"] = dict(jobs.credentials)
    return definition


def filled(text: str, known: Mapping[str, str]) -> str:
    """A text with values in the place of its marks."""
    if _MARK not in text:
        return text
    for mark, value in known.items():
        text = text.replace(mark, value)
    return text


def git_commit(folder: Path) -> str | None:
    """The commit that the folder of the specs is at; ``None`` where there is no git or no repository."""
    try:
        result = subprocess.run(
            ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
