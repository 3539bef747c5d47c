"""Why an idle job does not start: what its ad, the negotiator and the machines' ads say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Protocol

_REQUESTS = (
    ("RequestCpus", ("TotalSlotCpus", "Cpus"), "cpus", 1.0),
    ("RequestMemory", ("TotalSlotMemory", "Memory"), "MB of memory", 1.0),
    ("RequestDisk", ("TotalSlotDisk", "Disk"), "MB of disk", 1 / 1024),
    ("RequestGpus", ("TotalSlotGPUs", "GPUs"), "GPUs", 1.0),
)
"""Attribute of the job, those of a slot of which the first that is there counts, what it is, and its unit."""

_BUSY = ("insufficient priority", "preempt", "no match found", "submitter limit", "limit exceeded")


class FullAd(Protocol):
    """What is needed of an ad as the bindings have it, with expressions."""

    def __contains__(self, name: object) -> bool: ...
    def get(self, name: str, default: object) -> object:
        """The value of an attribute, or what stands for one that is not there."""

    def lookup(self, name: str) -> object:
        """The expression of an attribute, not evaluated."""

    def eval(self, name: str) -> object:
        """The value of an attribute, evaluated within the ad."""


def why_idle(classad: ModuleType, job: FullAd, machines: Sequence[FullAd]) -> str:
    """Say why an idle job does not start.

    :param classad: the module ``classad2``.
    :param job: the job's full ad.
    :param machines: the ads of the pool's slots, without dynamic ones.
    :returns: a sentence; empty if there is nothing to say, as the job may start any moment.
    """
    if not machines:
        return "idle: the pool has no machine that this connection may see"
    if missing := list(_too_big(job, machines)):
        return "idle: no machine matches, because " + "; ".join(missing)
    if unmet := _unmet(classad, job, machines):
        return "idle: no machine matches, because " + unmet
    said = str(job.get("LastRejMatchReason", "") or "").strip()
    if said and any(word in said.lower() for word in _BUSY):
        return f"idle: all machines that match are busy ({said})"
    return f"idle: {said}" if said else ""


def _too_big(job: FullAd, machines: Sequence[FullAd]) -> Iterator[str]:
    for name, of_slot, what, unit in _REQUESTS:
        wanted = _number(job, name)
        if not wanted:
            continue
        offered = max(next((v for one in of_slot if (v := _number(ad, one)) is not None), 0.0) for ad in machines)
        if wanted > offered:
            yield f"it asks for {wanted * unit:,.0f} {what} and the largest slot has {offered * unit:,.0f}"


def _number(ad: FullAd, name: str) -> float | None:
    if name not in ad:
        return None
    value = ad.eval(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _unmet(classad: ModuleType, job: FullAd, machines: Sequence[FullAd]) -> str:
    """The clauses of the job's requirements that no machine fulfils; else the machines' own that refuse the job."""
    expression = job.lookup("Requirements") if "Requirements" in job else None
    if expression is None:
        return ""
    clauses = [clause for clause in conjuncts(str(expression)) if clause.lower() != "true"]
    accepting = {clause: sum(_true(classad, clause, job, ad) for ad in machines) for clause in clauses}
    if none := [clause for clause, count in accepting.items() if not count]:
        return "no machine fulfils " + " nor ".join(none)
    if not any(_true(classad, str(expression), job, ad) for ad in machines):
        said = ", ".join(f"{clause} ({count} of {len(machines)})" for clause, count in accepting.items())
        return f"no machine fulfils all of {said}"
    if not any(_true(classad, "START", ad, job) for ad in machines if "START" in ad or "Start" in ad) and any(
        "Start" in ad for ad in machines
    ):
        return "every machine that fulfils its requirements refuses the job (START)"
    return ""


def _true(classad: ModuleType, clause: str, mine: FullAd, target: FullAd) -> bool:
    return bool(classad.ExprTree(clause).eval(mine, target) is True)


def conjuncts(text: str) -> list[str]:
    """The parts of ``a && (b && c) && (d || e)`` that all must be true: ``a``, ``b``, ``c``, ``d || e``."""
    parts = _split(text.strip())
    if len(parts) > 1:
        return [one for part in parts for one in conjuncts(part)]
    (only,) = parts
    if only.startswith("(") and _closing(only) == len(only) - 1:
        inner = only[1:-1].strip()
        return conjuncts(inner) if len(_split(inner)) > 1 or inner.startswith("(") else [inner]
    return [only]


def _split(text: str) -> list[str]:
    parts, depth, quoted, start, position = [], 0, False, 0, 0
    while position < len(text):
        character = text[position]
        if quoted:
            position += character == "\\"
            quoted = text[position : position + 1] != '"' or character == "\\"
        elif character == '"':
            quoted = True
        elif character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif depth == 0 and text.startswith("||", position):
            # An alternative binds weaker: the whole is one clause.
            return [text]
        elif depth == 0 and text.startswith("&&", position):
            parts.append(text[start:position].strip())
            position += 1
            start = position + 1
        position += 1
    return [*parts, text[start:].strip()]


def _closing(text: str) -> int:
    """Where the bracket that the text begins with is closed."""
    depth, quoted, position = 0, False, 0
    while position < len(text):
        character = text[position]
        if quoted:
            if character == "\\":
                position += 1
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return -1
