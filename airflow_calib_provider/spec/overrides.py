"""What a campaign sets otherwise than its workflows' files: params, preset, backend, resources, tags (rule 54).

An override is a place of the YAML file (``params.window``, ``preset``, ``backend``, ``resources.memory``) and a value.
The file is read with the value in its place, so that the language itself says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_calib_provider.domain import nodes
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.job_keys import ResourcesKeys
from airflow_calib_provider.spec.language import PRESET
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.param_values import as_declared, read_text
from airflow_calib_provider.spec.positions import parse_document
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.workflow_file import Sources, read_workflow

PARAMS, BACKEND, RESOURCES = "params.", "backend", "resources."
OUTSIDE = "stores."
"""Before one of our tags: under which one a campaign publishes it to the stores of the spec."""

_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,119}")

MOST = 200
"""Overrides of a campaign."""

Overrides = Mapping[str, object]
"""Of one workflow: place → value."""


def sorted_out(
    settings: Mapping[str, object], workflows: Mapping[str, Workflow], *, complete: bool = True
) -> tuple[dict[str, dict[str, object]], list[str]]:
    """Which workflow gets which override.

    :param settings: ``window``, ``zee.window``, ``backend``, ``zee.resources.memory`` → a value, or a text for one.
    :param workflows: those of the campaign.
    :param complete: all of them; else a name that these do not have may be of one that is missing.
    :returns: workflow → overrides; and everything that is wrong.
    """
    found: dict[str, dict[str, object]] = {}
    mistakes: list[str] = []
    if len(settings) > MOST:
        return found, [f"{len(settings)} parameters are set, and a campaign can set {MOST} at most"]
    for key, value in settings.items():
        head, dot, rest = key.partition(".")
        concerned = {head: workflows[head]} if dot and head in workflows else workflows
        name = rest if dot and head in workflows else key
        places = {workflow: place for workflow, item in concerned.items() if (place := _place(name, item)) is not None}
        if not places and complete:
            mistakes.append(_unknown(key, name, concerned, workflows))
        for workflow, place in places.items():
            try:
                found.setdefault(workflow, {})[place] = _typed(place, value, concerned[workflow])
            except ValueError as error:
                mistakes.append(f"{key}: {error}")
    for workflow, set_here in found.items() if not mistakes else ():
        mistakes += _half_sets(workflows[workflow], set_here)
    return found, list(dict.fromkeys(mistakes))


def _published(workflow: Workflow) -> list[tuple[str, ...]]:
    """The sets of tags that go to outside stores."""
    return [task.publish.tags for task in workflow.tasks.values() if task.publish is not None and task.publish.stores]


def _half_sets(workflow: Workflow, places: Overrides) -> Iterator[str]:
    """A set goes to stores as a whole."""
    for tags in _published(workflow):
        missing = [tag for tag in tags if OUTSIDE + tag not in places]
        if missing and len(missing) < len(tags):
            yield f"{workflow.name}: {', '.join(tags)} are published together, and there is no {OUTSIDE}{missing[0]}"


def _place(name: str, workflow: Workflow) -> str | None:
    """The place in the file that a name stands for; a declared param comes first."""
    if name in workflow.params:
        return PARAMS + name
    if name == PRESET and workflow.presets:
        return PRESET
    if name.startswith(OUTSIDE):
        known = any(name.removeprefix(OUTSIDE) in tags for tags in _published(workflow))
        return name if known else None
    is_setting = name == BACKEND or (name.startswith(RESOURCES) and name in _resources())
    return name if is_setting and any(task.jobs for task in workflow.tasks.values()) else None


def _resources() -> list[str]:
    return [RESOURCES + name for name in ResourcesKeys.model_fields]


def _unknown(key: str, name: str, concerned: Mapping[str, Workflow], workflows: Mapping[str, Workflow]) -> str:
    names = [*dict.fromkeys(param for item in concerned.values() for param in item.params)]
    names += [OUTSIDE + tag for item in concerned.values() for tags in _published(item) for tag in tags]
    names += [*([PRESET] if any(item.presets for item in concerned.values()) else []), BACKEND, *_resources()]
    qualified = [f"{workflow}.{param}" for workflow, item in workflows.items() for param in item.params]
    hint = nearest(name, names) or nearest(key, qualified)
    where = next(iter(concerned)) if len(concerned) == 1 else "any of its workflows"
    return f"{key}: not a parameter of {where}; {hint + ' ' if hint else ''}it can be {one_of(names)}"


def _typed(place: str, value: object, workflow: Workflow) -> object:
    """:raises ValueError: the value is of another type than is declared."""
    if place.startswith(OUTSIDE):
        return _outside_tag(value, workflow)
    if not place.startswith(PARAMS):
        read = read_text(value) if isinstance(value, str) else value
        if isinstance(read, int) and not isinstance(read, bool):
            return read
        if not isinstance(value, str):
            raise ValueError(f"{value!r} is neither a text nor a whole number")
        return value
    return as_declared(workflow.params[place.removeprefix(PARAMS)], value, texts=True)


def _outside_tag(value: object, workflow: Workflow) -> str:
    """:raises ValueError: it is no tag, or one that the spec names."""
    if not isinstance(value, str) or not _TAG.fullmatch(value):
        raise ValueError(f"{value!r} is no tag: letters, digits, `_`, `-`, `.`")
    named = {tag for tags in _published(workflow) for tag in tags}
    named |= {one.tag for task in workflow.tasks.values() if task.publish is not None for one in task.publish.stores}
    if value in named:
        raise ValueError(f"{value} is a tag that the file names, to which only `prompt` publishes")
    return value


def unfit(workflow: Workflow, overrides: Overrides) -> list[str]:
    """What a campaign sets, and a workflow that was edited does not declare any more, or as something else."""
    found = []
    for place, value in overrides.items():
        name = place.removeprefix(PARAMS)
        if place == PRESET and value not in workflow.presets:
            found.append(f"{workflow.name} has no preset {value} any more, which the campaign sets")
        if place == name:
            continue
        if name not in workflow.params:
            found.append(f"{workflow.name} has no parameter {name} any more, which the campaign sets")
            continue
        try:
            as_declared(workflow.params[name], value, texts=True)
        except ValueError as error:
            found.append(f"{workflow.name}.{name}, which the campaign sets: {error}")
    return found


def mistakes_of(workflow: Workflow, overrides: Overrides, source: RunSource | None) -> list[str]:
    """What the language says against a workflow with these overrides, its templates too."""
    try:
        overridden(workflow, overrides, source=source)
    except SpecErrors as error:
        parts = [(item.message, item.expected, item.suggestion) for item in error.errors]
        return [f"{workflow.name}: {'; '.join(part for part in said if part)}" for said in parts]
    return []


def overridden(workflow: Workflow, overrides: Overrides, *, source: RunSource | None = None) -> Workflow:
    """A workflow with these values in their places; text and hash are those of the file.

    :param source: its run source: then its templates are checked, too.
    :raises SpecErrors: it would have mistakes.
    """
    if not overrides:
        return workflow
    document = parse_document(workflow.text, Path(workflow.file))
    assert isinstance(document.root, nodes.Mapping)
    document.root = _with(document.root, overrides)
    # Runs are selected as they were: what the categories say was checked before.
    sources = Sources(None if source is None else {source.name: source})
    loaded = read_workflow(document, sources, deep=source is not None)
    if loaded.workflow is None:
        raise SpecErrors(loaded.errors)
    # Which groupings the tasks of other workflows have is known from those.
    tasks = {
        name: task.model_copy(update={"needs": workflow.tasks[name].needs})
        for name, task in loaded.workflow.tasks.items()
    }
    return loaded.workflow.model_copy(update={"tasks": tasks, "runs": workflow.runs})


def _with(root: nodes.Mapping, overrides: Overrides) -> nodes.Mapping:
    # Params of a preset are set in the one that holds then.
    # What is published under which tag is said when it is, not by the file.
    stated = [place for place in overrides if not place.startswith(OUTSIDE)]
    for place in sorted(stated, key=lambda place: place != PRESET):
        for path in _paths(root, place):
            root = _put(root, path, overrides[place])
    return root


def _paths(root: nodes.Mapping, place: str) -> Iterator[tuple[str, ...]]:
    if place == PRESET:
        yield (PRESET,)
        return
    if place.startswith(PARAMS):
        yield _of_param(root, place.removeprefix(PARAMS))
        return
    for name, task in _mappings(root, "tasks"):
        if "jobs" not in task.entries and "iterate" not in task.entries:
            continue
        if place == BACKEND:
            yield "tasks", name, BACKEND
            continue
        resources = ("resources", place.removeprefix(RESOURCES))
        if "jobs" in task.entries:
            yield "tasks", name, "jobs", *resources
        for phase, parts in _mappings(task, "iterate", "phases"):
            for part in ("measure", "update"):
                if part in parts.entries:
                    yield "tasks", name, "iterate", "phases", phase, part, *resources


def _of_param(root: nodes.Mapping, name: str) -> tuple[str, ...]:
    chosen = root.entries[PRESET].value if PRESET in root.entries else None
    for preset, values in _mappings(root, "presets"):
        if isinstance(chosen, nodes.Scalar) and preset == chosen.text and name in values.entries:
            return "presets", preset, name
    return "params", name


def _mappings(node: nodes.Mapping, *path: str) -> Iterator[tuple[str, nodes.Mapping]]:
    """The mappings that stand in a mapping below a node, each with its key."""
    for key in path:
        below = node.entries[key].value if key in node.entries else None
        if not isinstance(below, nodes.Mapping):
            return
        node = below
    for name, entry in node.entries.items():
        if isinstance(entry.value, nodes.Mapping):
            yield name, entry.value


def _put(node: nodes.Mapping, path: Sequence[str], value: object) -> nodes.Mapping:
    key, rest = path[0], path[1:]
    old = node.entries.get(key)
    place = old.value.position if old is not None else node.position
    if rest:
        inner = old.value if old is not None and isinstance(old.value, nodes.Mapping) else nodes.Mapping({}, place)
        new: nodes.Node = _put(inner, rest, value)
    else:
        new = _node(value, place)
    name = old.key if old is not None else nodes.Scalar(key, "text", place)
    return nodes.Mapping({**node.entries, key: nodes.Entry(name, new)}, node.position, node.is_template)


def _node(value: object, place: nodes.Position) -> nodes.Node:
    if isinstance(value, list):
        return nodes.Sequence(tuple(_node(item, place) for item in value), place)
    if isinstance(value, bool):
        return nodes.Scalar(str(value).lower(), "bool", place)
    if isinstance(value, int | float):
        return nodes.Scalar(repr(value), "int" if isinstance(value, int) else "float", place)
    return nodes.Scalar(str(value), "text", place, quoted=True)
