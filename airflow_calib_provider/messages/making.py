"""From events to messages: a pure function of events, and of facts about their groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from airflow_calib_provider.domain.advice import PROMPT
from airflow_calib_provider.domain.listing import of_runs
from airflow_calib_provider.domain.page_addresses import PEOPLE, group_address, page_address
from airflow_calib_provider.domain.reasons import Cause, Reason, render
from airflow_calib_provider.ledger.rows import Event
from airflow_calib_provider.messages.base import AboutTask, Message
from airflow_calib_provider.messages.of_payloads import as_sets, is_new, payload_title, payload_to_do, payload_why

log = logging.getLogger(__name__)

LONGEST = 1_500
"""Characters of one part of a message: of a reason there may be thousands."""

GroupKey = tuple[str, str, str]
"""Campaign, workflow, group."""


class GroupRuns(NamedTuple):
    """The first and the last run of a group, and whether they arrived late."""

    first_run: int
    last_run: int
    late: bool = False


_OUTCOMES = ("done", "failed", "refused")
"""States of an action from chat in which it is over."""

WANTED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("group_task", ("failed",)),
    ("group_edition", ("stuck",)),
    ("payload", ("candidate", "validated", "approved", "published", "withdrawn")),
    ("alarm", ("raised",)),
    ("publication_deadline", ("near", "passed")),
    ("chat_action", _OUTCOMES),
)
"""Entity → states of which something may be told; all others are not even read."""

_FOLLOWS = frozenset({"upstream_ended", "skipped"})
"""Reasons of tasks that end since something else did, of which a message tells already."""

_OF_ALARM = {
    "spec_broken": "spec_broken",
    "source_unreadable": "source_unreadable",
    "backend_trouble": "stalled",
    "held_jobs": "stalled",
    "deadline_near": "deadline",
}


def reason_of(event: Event) -> Mapping[str, Any]:
    """Why, structured; empty: the event does not say."""
    found = event.data.get("reason")
    return found if isinstance(found, dict) else {}


def topic_of(event: Event) -> str:
    """What a message about an event is about; empty: nobody is told of it."""
    of = _TOPICS.get(event.entity)
    return of(event) if of is not None else ""


def _of_task(event: Event) -> str:
    code = str(reason_of(event).get("code", ""))
    if event.to_state != "failed" or event.from_state == "failed" or code in _FOLLOWS:
        return ""
    if code == "deadline_passed":
        return "deadline"
    return "not_converged" if code.startswith("iteration_") else "failed"


def _of_payload(event: Event) -> str:
    if event.to_state in ("published", "withdrawn"):
        return "published"
    is_asked = event.data.get("asked") or event.data.get("reminded")
    return "waiting_for_person" if is_asked or is_new(event) else ""


_TOPICS: dict[str, Callable[[Event], str]] = {
    "group_task": _of_task,
    "group_edition": lambda event: "waiting_for_person" if event.to_state == "stuck" else "",
    "payload": _of_payload,
    "alarm": lambda event: _OF_ALARM.get(str(event.data.get("code")), "") if event.to_state == "raised" else "",
    "publication_deadline": lambda event: "deadline" if event.to_state in ("near", "passed") else "",
    # A press that came to nothing was told to who pressed.
    "chat_action": lambda event: "from_chat" if event.from_state and event.to_state in _OUTCOMES else "",
}


def group_of(event: Event) -> GroupKey | None:
    """The group that an event is about."""
    if event.campaign is None or event.workflow is None or event.group_name is None:
        return None
    return event.campaign, event.workflow, event.group_name


def message_of(
    event: Event, groups: Mapping[GroupKey, GroupRuns], link: str, others: Sequence[Event] = ()
) -> Message | None:
    """The message about one event; ``None``: nobody is told of it.

    :param link: Airflow's address; empty: there are no links.
    :param others: of the same set, before it.
    """
    if not _is_told(event, groups):
        return None
    topic = topic_of(event)
    key = group_of(event)
    return Message(
        key=f"event-{event.id}",
        topic=topic,
        event=event.id,
        at=datetime.fromtimestamp(event.at / 1e9, UTC),
        title=_short(_title(event, topic, others), 200),
        where=_where(event, groups.get(key) if key is not None else None),
        why=_short(_why(event)),
        to_do=_short(_to_do(event)),
        link=_address(event, link) if link else "",
        thread="/".join(key) if key is not None else f"{topic}/{event.workflow or reason_of(event).get('source', '')}",
        about=_about(event),
    )


def _is_told(event: Event, groups: Mapping[GroupKey, GroupRuns]) -> bool:
    if event.entity == "payload" and is_new(event):
        key = group_of(event)
        facts = groups.get(key) if key is not None else None
        return facts is not None and facts.late
    return bool(topic_of(event))


def _about(event: Event) -> AboutTask | None:
    key = group_of(event)
    return AboutTask(*key, event.task) if event.entity == "group_task" and key is not None and event.task else None


def _title(event: Event, topic: str, others: Sequence[Event]) -> str:
    task = f"{event.workflow}.{event.task}" if event.task else event.workflow or ""
    of = f"{task} {event.group_name}" if event.group_name else task
    of += f" in {event.campaign}" if event.campaign not in (None, PROMPT) else ""
    if event.entity == "payload":
        return payload_title(event, others)
    if event.entity == "publication_deadline":
        what = "The deadline is near" if event.to_state == "near" else "The deadline has passed"
        return f"{what}: {of}"
    if event.entity == "chat_action":
        became = "done" if event.to_state == "done" else "not done"
        about = of if event.group_name else event.campaign
        return f"{str(event.data.get('action', '')).capitalize()} of {about} by {event.data.get('person')}: {became}"
    titles = {
        "failed": f"Failed: {of}",
        "not_converged": f"Did not converge: {of}",
        "deadline": f"The deadline {'is near' if event.entity == 'alarm' else 'has passed'}: {of}",
        "stalled": f"Stalled: {of}",
        "spec_broken": f"{reason_of(event).get('file') or event.workflow} cannot be used as it is",
        "source_unreadable": f"The run source {reason_of(event).get('source', '')} cannot be read",
        "waiting_for_person": f"Waits for a person: {of}",
    }
    return titles.get(topic, of)


def _where(event: Event, facts: GroupRuns | None) -> str:
    runs = of_runs(facts.first_run, facts.last_run) if facts is not None else ""
    parts = [event.workflow, event.task, event.group_name, runs]
    parts.append(f"campaign {event.campaign}" if event.campaign and event.campaign != PROMPT else None)
    return " · ".join(part for part in parts if part)


def _why(event: Event) -> str:
    if event.entity == "payload" and (said := payload_why(event)):
        return said
    if event.entity == "group_edition":
        return "Airflow could not be made to run the amended group again"
    if event.entity == "chat_action":
        return became_in_words(event.to_state or "", str(event.data.get("outcome") or ""))
    reason = reason_of(event)
    return render(reason) if reason else ""


def became_in_words(state: str, outcome: str) -> str:
    """What became of an action that was asked for from chat.

    :param outcome: as the ledger has it.
    """
    return "something had happened since the message was sent" if state == "refused" else outcome


def _to_do(event: Event) -> str:
    """What a person can do: a command, or what would release it."""
    here = " ".join(part for part in (event.group_name, f"--workflow {event.workflow}") if part)
    here += f" --campaign {event.campaign}" if event.campaign not in (None, PROMPT) else ""
    if event.entity == "payload" and (event.to_state in ("published", "withdrawn") or is_new(event)):
        return payload_to_do(event, here)
    if event.entity == "group_edition":
        return f"What helps: mend what keeps Airflow from it, then `calib retry {here}`"
    if event.entity == "publication_deadline":
        return f"`calib explain {here}` says what its tasks wait for"
    reason: Reason = reason_of(event)
    if not reason:
        return ""
    about = event.task or event.group_name or event.workflow or ""
    state = "failed" if event.to_state == "failed" else "waiting"
    place = {"workflow": event.workflow, "group": event.group_name, "task": event.task}
    release = Cause(about, reason, state, **place, campaign=event.campaign or PROMPT).release  # type: ignore[arg-type]
    return f"What helps: {release}" if release else ""


def _address(event: Event, link: str) -> str:
    """The view of the page in Airflow's UI where it is seen."""
    key = group_of(event)
    if key is not None:
        return group_address(link, *key, event.task)
    return page_address(link, PEOPLE)


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def made(events: Sequence[Event], groups: Mapping[GroupKey, GroupRuns], link: str) -> list[Message]:
    """The messages about events, in their order: one for a set of payloads.

    One that cannot be understood keeps no other back.
    """
    told = [event for event in events if _is_told_anyhow(event, groups)]
    found = (_message_anyhow(together[-1], groups, link, together[:-1]) for together in as_sets(told))
    return [message for message in found if message is not None]


def _is_told_anyhow(event: Event, groups: Mapping[GroupKey, GroupRuns]) -> bool:
    try:
        return _is_told(event, groups)
    except Exception:  # noqa: BLE001 - what is odd about it is told with it
        return True


def _message_anyhow(
    event: Event, groups: Mapping[GroupKey, GroupRuns], link: str, others: Sequence[Event]
) -> Message | None:
    try:
        return message_of(event, groups, link, others)
    except Exception as error:  # whatever another version of this package has written into an event
        log.exception("no message can be made of event %d, %s", event.id, event.entity)
        at = datetime.fromtimestamp(event.at / 1e9, UTC)
        what = " ".join(part for part in (event.workflow, event.task, event.group_name, event.to_state) if part)
        why = f"event {event.id} cannot be told in words: {type(error).__name__}"
        return Message(f"event-{event.id}", topic_of(event), event.id, at, what or event.entity, why=why)
