"""The variables of templates, and checking that each template names only what will be there.

A known variable is a leaf or a mapping of its parts; ``ANY`` stands for whatever name another file declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from enum import Enum
from functools import partial
from typing import TypeAlias, Union

from airflow_calib_provider.domain.grouping import Grouping
from airflow_calib_provider.domain.scalars import one_of
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.comparisons import Operand, ValueKind, clash, kinds_within
from airflow_calib_provider.spec.language import ALWAYS
from airflow_calib_provider.spec.models import RESERVED, FieldType, Iteration, RunSource
from airflow_calib_provider.spec.positions import Scalar
from airflow_calib_provider.spec.problems import Problems, nearest
from airflow_calib_provider.spec.templates import (
    LIST_HINT,
    Use,
    compared_in,
    is_template,
    problems_of,
    readable_uses_of,
    render_text,
    render_value,
)
from airflow_calib_provider.spec.values import described


class Leaf(Enum):
    """What a variable is that has no parts: in words, its kind, and what its elements are, as far as that is known."""

    VALUE = ("a value", None, None)
    TEXT = ("a text", ValueKind.TEXT, None)
    NUMBER = ("a number", ValueKind.NUMBER, None)
    TRUTH = ("a truth value", ValueKind.TRUTH, None)
    LIST = ("a list", ValueKind.LIST, None)
    TEXTS = ("a list", ValueKind.LIST, ValueKind.TEXT)
    NUMBERS = ("a list", ValueKind.LIST, ValueKind.NUMBER)

    @property
    def is_list(self) -> bool:
        """Whether it is no single value."""
        return self.value[1] is ValueKind.LIST

    @property
    def operand(self) -> Operand:
        """It as a side of a comparison."""
        _, kind, of = self.value
        return Operand(kind, (of,))


Known: TypeAlias = Mapping[str, Union["Known", Leaf]]

ANY = "*"
_ALIKE = "convert one of them: x | string, x | int, x | float"

_GROUP: Known = {
    "name": Leaf.TEXT,
    "first_run": Leaf.NUMBER,
    "last_run": Leaf.NUMBER,
    "runs": Leaf.NUMBERS,
    "start": Leaf.TEXT,
    "end": Leaf.TEXT,
    "files": Leaf.TEXTS,
    "n_runs": Leaf.NUMBER,
}
JOB: Known = {
    "index": Leaf.NUMBER,
    "count": Leaf.NUMBER,
    "attempt": Leaf.NUMBER,
    "out": Leaf.TEXT,
    "report": Leaf.TEXT,
    "inputs": Leaf.TEXTS,
    "inputs_file": Leaf.TEXT,
}
_FIELDS = {
    FieldType.INT: Leaf.NUMBER,
    FieldType.FLOAT: Leaf.NUMBER,
    FieldType.STRING: Leaf.TEXT,
    FieldType.BOOL: Leaf.TRUTH,
    FieldType.TIME: Leaf.TEXT,
}
_KINDS = {ValueKind.TEXT: Leaf.TEXT, ValueKind.NUMBER: Leaf.NUMBER, ValueKind.TRUTH: Leaf.TRUTH}


def _of_param(value: object) -> Leaf:
    kind, of = kinds_within(value)
    if kind is ValueKind.LIST:
        return Leaf.TEXTS if of == (ValueKind.TEXT,) else Leaf.NUMBERS if of == (ValueKind.NUMBER,) else Leaf.LIST
    return Leaf.VALUE if kind is None else _KINDS[kind]


def task_variables(
    policy: Grouping | None,
    source: RunSource | None,
    params: Mapping[str, object],
    products: Mapping[str, Mapping[str, Leaf]],
    outside: Iterable[tuple[str, str]],
    locked_tags: Iterable[str],
    validated_tags: Iterable[str] = (),
) -> dict[str, Known | Leaf]:
    """The variables of a task's templates, without ``job``.

    :param source: ``None`` when it is not known; then any field of a run is taken for known.
    :param products: of each task of this workflow that this one needs.
    :param outside: workflow and task of the needs in other workflows, whose products are not known here.
    :param validated_tags: under which publications are that this task validates.
    """
    known: dict[str, Known | Leaf] = {
        "campaign": Leaf.TEXT,
        "workflow": Leaf.TEXT,
        "task": Leaf.TEXT,
        "group": _GROUP,
        "runs": Leaf.LIST,
        "params": {name: _of_param(value) for name, value in params.items()},
        "tasks": {task: {"products": names} for task, names in products.items()},

        "payloads": dict.fromkeys(locked_tags, Leaf.LIST),
        "former": dict.fromkeys(validated_tags, Leaf.LIST),
        "spec": {"folder": Leaf.TEXT},
    }  # fmt: skip
    workflows: dict[str, dict[str, dict[str, Known]]] = {}
    for workflow, task in outside:
        workflows.setdefault(workflow, {"tasks": {}})["tasks"][task] = {"products": {ANY: Leaf.LIST}}
    known["workflows"] = workflows
    if policy is None or policy.rules.single:
        names = [*ALWAYS, *(name for name in (source.fields if source else [ANY]) if name != "completed")]
        types = {**RESERVED, **(source.fields if source else {})}
        of_run = {name: _FIELDS[types[name]] if name in types else Leaf.VALUE for name in names}
        known["run"] = {**of_run, "files": Leaf.TEXTS}
    return known


def phase_variables(iteration: Iteration | None, part: str) -> dict[str, Known | Leaf]:
    """What the templates of a phase have besides.

    :param iteration: ``None``: it has mistakes, and what others leave is not known.
    :param part: ``<phase>.measure`` or ``<phase>.update``.
    """
    of_step = {"n": Leaf.NUMBER, "visit": Leaf.NUMBER, "stage": Leaf.NUMBER, "phase": Leaf.TEXT, "kept": Leaf.TEXT}
    results = {"results_file": Leaf.TEXT} if part.endswith(".update") else {}
    if iteration is None:
        others: Known = {ANY: {"results_file": Leaf.TEXT, "products": {ANY: Leaf.TEXT}}}
    else:
        own = iteration.phases.get(part.partition(".")[0])
        needed = own.phase.needs if own is not None else ()
        others = {
            name: {"results_file": Leaf.TEXT, "products": dict.fromkeys(iteration.phases[name].updated, Leaf.TEXT)}
            for name in needed
            if name in iteration.phases
        }
    return {"constants": {"file": Leaf.TEXT}, "step": {**of_step, **results}, "phases": others}


def lock_variables(source: RunSource | None, params: Mapping[str, object]) -> dict[str, Known | Leaf]:
    """The variables of a lock's templates: what is known when its group is closed."""
    known = task_variables(None, source, params, {}, (), ())
    group = {name: _GROUP[name] for name in ("name", "first_run", "last_run", "start", "end")}
    return {name: known[name] for name in ("campaign", "workflow", "task", "params", "run")} | {"group": group}


def check_template(
    scalar: Scalar, text: str, known: Known, problems: Problems, *, one_text: bool, seen: dict[tuple[int, str], None]
) -> None:
    """Report the variables of a template that do not exist, and lists where one text is needed.

    :param text: the template; a part of the scalar where that is a whole command line.
    :param one_text: the place takes one text, as an argument does.
    :param seen: what was reported already, because a command line shares one scalar.
    """
    for use in check_readable(scalar, text, problems, one_text=one_text):
        _check_use(use, scalar, known, problems, one_text, seen)
    for compared in compared_in(text) if is_template(text) else ():
        item, key = compared.comparison, (id(scalar), f"{compared.expression} {compared.offset}")
        wrong = clash(replace(item, left=_declared(item.left, known), right=_declared(item.right, known)))
        if wrong and key not in seen:
            seen[key] = None
            where = problems.inside(scalar, compared.expression, compared.offset)
            problems.add(wrong, where, expected="values of one type", hint=_ALIKE)


def _declared(side: Operand, known: Known) -> Operand:
    """A side of a comparison with what the declaration of its variable says."""
    found: Known | Leaf | None = known
    for part in side.path:
        found = found.get(part, found.get(ANY)) if isinstance(found, Mapping) else None
    if isinstance(found, Leaf):
        return found.operand
    return Operand(ValueKind.MAPPING) if side.path and found is not None else side


def check_readable(scalar: Scalar, text: str, problems: Problems, *, one_text: bool) -> tuple[Use, ...]:
    """Report what cannot be read in a template, and what is wrong with one that has no variables.

    :returns: the variables of what can be read.
    """
    if not is_template(text):
        return ()
    wrong = problems_of(text)
    for error in wrong:
        problems.add(error.message, problems.inside(scalar, error.expression, error.offset), hint=error.hint)
    uses = readable_uses_of(text)
    if not wrong and not uses:
        try:
            if one_text:
                render_text(text, {})
            else:
                _check_list(render_value(text, {}))
        except RenderError as error:
            problems.add(error.message, problems.inside(scalar, "{{", 0), hint=error.hint)
    return uses


def _check_list(value: object) -> None:
    """Where a list may stand, such as in ``inputs``, one text may stand too."""
    items = value if isinstance(value, list) else [value]
    wrong = [item for item in items if not isinstance(item, str)]
    if wrong:
        raise RenderError(f"a path or a list of paths is needed, not {described(wrong[0])}")


def _check_use(
    use: Use,
    scalar: Scalar,
    known: Known,
    problems: Problems,
    one_text: bool,
    seen: dict[tuple[int, str], None],
) -> None:
    dotted = ".".join(use.path)
    if (id(scalar), dotted) in seen:
        return
    found: Known | Leaf = known
    for depth, part in enumerate(use.path):
        before = ".".join(use.path[:depth])
        if isinstance(found, Leaf):
            seen[id(scalar), dotted] = None
            problems.add(
                f"{before!r} has no part {part!r}",
                problems.inside(scalar, use.expression, use.offset),
                expected=f"just {before}",
            )
            return
        inner = found.get(part, found.get(ANY))
        if inner is None:
            seen[id(scalar), dotted] = None
            _unknown(use, depth, found, known, scalar, problems)
            return
        found = inner
    if one_text and use.printed and (not isinstance(found, Leaf) or found.is_list):
        seen[id(scalar), dotted] = None
        what = "a list" if isinstance(found, Leaf) else "a mapping"
        problems.add(
            f"{dotted!r} is {what}, and only one text can stand here",
            problems.inside(scalar, use.expression, use.offset),
            hint=LIST_HINT if "job" in known else "",
        )


def _unknown(use: Use, depth: int, options: Known, known: Known, scalar: Scalar, problems: Problems) -> None:
    dotted = ".".join(use.path[: depth + 1])
    before = ".".join(use.path[:depth])
    names = (f"{before}.{name}" if before else name for name in options if name != ANY)
    problems.add(
        f"unknown variable {dotted!r}",
        problems.inside(scalar, use.expression, use.offset),
        expected=partial(one_of, names),
        hint=partial(_hint, use, depth, options, known),
    )


def _hint(use: Use, depth: int, options: Known, known: Known) -> str:
    root = use.path[0]
    if depth == 0 and root == "run":
        return "'run' exists where tasks are grouped by run; use 'runs' or 'group' here"
    if depth == 0 and root == "job":
        return "'job' exists in jobs.command and jobs.environment only"
    if hint := nearest(use.path[depth], options):
        return hint
    if depth == 0:
        homes = [name for name, parts in known.items() if isinstance(parts, Mapping) and root in parts]
        return f"did you mean '{homes[0]}.{root}'?" if homes else ""
    if root == "phases" and depth == 1:
        return f"what another phase leaves can be used where this one needs it: needs: [{use.path[1]}]"
    if root == "phases" and depth == 3 and not options:
        return f"the update of {use.path[1]} leaves no products: declare them in update: {{products: {{…}}}} there"
    if root in ("tasks", "workflows"):
        return "a task's products can be used where it is among 'needs'" if depth <= 3 else ""
    if root == "payloads":
        return "a tag's files can be used where it is among 'locks'"
    return "declare it under 'fields' of the run source" if root == "run" else ""
