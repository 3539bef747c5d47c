"""What messages say of payloads, those of a set together: pure functions of events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from airflow_calib_provider.domain.advice import PROMPT
from airflow_calib_provider.domain.listing import of_runs
from airflow_calib_provider.ledger.rows import Event

TOGETHER = 10 * 10**9
"""Nanoseconds within which a set is made, approved, published."""


def is_new(event: Event) -> bool:
    """Whether it is a candidate that was made now: of late runs it waits for a person, others go on by themselves."""
    return event.from_state is None and event.to_state == "candidate"


def as_sets(events: Iterable[Event]) -> list[list[Event]]:
    """Events of which one message tells: those that follow one another and are of one set of payloads."""
    found: list[list[Event]] = []
    for event in events:
        if found and _is_of(event, found[-1]):
            found[-1].append(event)
        else:
            found.append([event])
    return found


def _is_of(event: Event, before: Sequence[Event]) -> bool:
    """Whether the same has happened to another tag of the same set."""
    last = before[-1]
    same = all(
        getattr(event, name) == getattr(last, name)
        for name in ("entity", "campaign", "workflow", "task", "group_name", "to_state")
    )
    return (
        same
        and event.entity == "payload"
        and event.at - last.at < TOGETHER
        and _telling(event) == _telling(last)
        and event.data.get("tag") not in {one.data.get("tag") for one in before}
    )


def _telling(event: Event) -> tuple[object, ...]:
    """What is said of it but for its tag and revision."""
    data = event.data
    names = ("first_run", "last_run", "by", "comment", "rollback", "fallback", "reminded", "publication")
    return (is_new(event), bool(data.get("asked")), *(data.get(name) for name in names))


def payload_title(event: Event, others: Sequence[Event] = ()) -> str:
    """What has happened, and to which payloads.

    :param others: of the same set, before it.
    """
    said = f"{_named([*others, event])} for {_runs(event.data)}"
    said += f" in {event.campaign}" if event.campaign not in (None, PROMPT) else ""
    if event.to_state == "published":
        return f"{'Published in its place' if event.data.get('fallback') else 'Published'}: {said}"
    if event.to_state == "withdrawn":
        return f"Withdrawn: {said}"
    if is_new(event):
        return f"Waits for a person: {said} {'are candidates' if others else 'is a candidate'}"
    return f"{'Still waits' if event.data.get('reminded') else 'Waits'} for an approval: {said}"


def _named(events: Sequence[Event]) -> str:
    """``A and B revision 2``, or ``A revision 1 and B revision 2``."""
    pairs = [(str(event.data.get("tag")), event.data.get("revision")) for event in events]
    if len({revision for _, revision in pairs}) == 1:
        return f"{_and([tag for tag, _ in pairs])} revision {pairs[0][1]}"
    return _and([f"{tag} revision {revision}" for tag, revision in pairs])


def _and(parts: Sequence[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]


def _runs(data: Mapping[str, Any]) -> str:
    first, last = data.get("first_run"), data.get("last_run")
    return of_runs(first, last) if isinstance(first, int) and isinstance(last, int) else "its runs"


def payload_why(event: Event) -> str:
    """Who or what has decided it; empty: its reason says why, or it goes by itself."""
    data = event.data
    person, comment = data.get("by"), f": {data['comment']}" if data.get("comment") else ""
    if is_new(event):
        return "it was made of late runs, and is not published by itself"
    if event.to_state == "withdrawn":
        return f"{person or 'somebody'} has withdrawn it{comment}; nothing holds for these runs now"
    if event.to_state != "published":
        return ""
    if data.get("fallback"):
        return f"the content of the group before holds for these runs for now: {data['fallback']}"
    if data.get("rollback"):
        return f"{person or 'somebody'} has put the content of revision {data['rollback']} back{comment}"
    return f"as {person} has decided{comment}" if person else ""


def payload_to_do(event: Event, here: str) -> str:
    """What a person can do about what was published, withdrawn, or is a new candidate.

    :param here: group and options of a command.
    """
    if is_new(event):
        return (
            f"What helps: `calib payload publish {here}` publishes what it has made; `calib explain {here}` says more"
        )
    if event.to_state == "withdrawn":
        return "`calib stale` lists what was made from it"
    return f"`calib explain {here}` says what its own still waits for" if event.data.get("fallback") else ""
