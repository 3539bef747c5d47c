"""Many messages as one: a digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

from airflow_calib_provider.domain.page_addresses import PEOPLE, page_address
from airflow_calib_provider.domain.topics import TOPICS
from airflow_calib_provider.messages.base import Message

SHOWN = 20
"""Lines of a digest; the rest is counted."""

OF_WHY = 120
"""Characters of a reason in such a line."""


def folded(messages: Sequence[Message], at_most: int, link: str = "") -> list[Message]:
    """The messages themselves, or one that tells of all of them.

    :param at_most: so many at a time.
    :param link: Airflow's address.
    """
    return list(messages) if len(messages) <= at_most else [digest(messages, link)]


def digest(messages: Sequence[Message], link: str = "") -> Message:
    """One message that tells of several."""
    counts = Counter(message.topic for message in messages)
    ordered = sorted(messages, key=lambda message: (list(TOPICS).index(message.topic), message.event))
    listed = ", ".join(f"{counts[topic]} × {says}" for topic, says in TOPICS.items() if counts[topic])
    begin, end = messages[0].at, messages[-1].at
    more = len(messages) - SHOWN
    lines = [f"{message.at:%H:%M} {_line(message)}" for message in ordered[:SHOWN]]
    lines += [f"and {more:,} more" if more > 0 else ""] if more > 0 else []
    return Message(
        key=f"events-{messages[0].event}-{messages[-1].event}",
        topic="",
        event=messages[-1].event,
        at=end,
        title=f"{len(messages):,} messages since {begin:%Y-%m-%d %H:%M} UTC",
        why=listed,
        to_do="`calib status` says how it stands now",
        lines=tuple(lines),
        link=page_address(link, PEOPLE) if link else "",
        thread="digest",
    )


def _line(message: Message) -> str:
    """What has happened, where as far as the title does not tell, and the beginning of why."""
    where = "" if message.where.split(" · ")[0] in message.title else f" ({message.where})"
    why = message.why.partition("\n")[0] if message.topic not in ("published", "waiting_for_person") else ""
    return f"{message.title}{where}{f': {why[:OF_WHY]}' if why else ''}{'…' if len(why) > OF_WHY else ''}"


def trial(name: str, link: str = "") -> Message:
    """A message that tells of nothing but itself.

    :param name: what is tried.
    """
    now = datetime.now(UTC)
    why = "Somebody has tried whether messages arrive here. They do."
    return Message(f"trial-{now.isoformat()}", "", 0, now, f"A trial of {name}", why=why, link=link, thread="trial")
