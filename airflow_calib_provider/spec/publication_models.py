"""What is published where, and what must hold before."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from airflow_calib_provider.domain.model import Model
from airflow_calib_provider.kinds import DEFAULT_STORE


class Approval(Model):
    """Who must approve a payload before it is published (rule 66).

    :ivar users: ids of Airflow's users, :ivar listed: or the name of a list of them in ``sources.yaml``; neither: the
        rule itself approves.
    :ivar remind: how often they are reminded, :ivar expires: and for how long they may answer.
    """

    users: tuple[str, ...] = ()
    listed: str = ""
    four_eyes: bool = False
    remind: timedelta | None = None
    expires: timedelta | None = None

    @property
    def is_automatic(self) -> bool:
        """Whether nobody is asked."""
        return not self.users and not self.listed


class PublishBy(Model):
    """Until when it is to be published.

    :ivar since: from when on it counts: ``run_end`` or ``group_closed``.
    :ivar warn_before: so long before, people are told that it is near.
    :ivar then: what happens when it has passed: people are told, or the payload before the group takes its place, too.
    """

    at_most: timedelta
    since: str
    warn_before: timedelta
    then: Literal["alarm", "fallback"] = "alarm"


class OutsideTarget(Model):
    """An outside store that is published to.

    :ivar kind: one of :data:`airflow_calib_provider.kinds.CONDITIONS_STORES`.
    :ivar place: where it is, as the kind reads it.
    :ivar tag: under which the payload is there; empty: its own.
    """

    kind: str
    place: str
    tag: str = ""

    @property
    def store(self) -> str:
        """As rows of the ledger name it."""
        return f"{self.kind}:{self.place}"


class Publish(Model):
    """What is published under which tag; the interval of validity is the group's (rule 25).

    :ivar tag: the first tag, :ivar file: and a template of its file; :ivar more: those that are published with it.
    :ivar store: one of :data:`airflow_calib_provider.kinds.PAYLOAD_STORES`.
    :ivar validated_by: the task whose verdict must be good.
    :ivar stores: the outside stores, in the order in which they get it.
    :ivar after: what holds there behind the last run of a group.
    :ivar default_file: a template of the file that does, with ``default``.
    :ivar protect: whether runs that were processed with what is there keep it: refuse what would change them, or begin
        behind them.
    :ivar refuse_gaps: an interval must join the one before it.
    :ivar no_change: what becomes of content that the payload before the group has, too; ``None``: what an iteration
        made that ended ``no_change`` extends, all else is published as any other.
    """

    tag: str
    file: str
    more: tuple[tuple[str, str], ...] = ()
    iov: Literal["group"] = "group"
    store: str = DEFAULT_STORE
    validated_by: str | None = None
    approve: Approval | None = None
    by: PublishBy | None = None
    stores: tuple[OutsideTarget, ...] = ()
    after: Literal["hold", "default", "next"] = "next"
    default_file: str = ""
    protect: Literal["", "refuse", "move"] = ""
    refuse_gaps: bool = False
    no_change: Literal["publish", "skip", "extend"] | None = None

    @property
    def files(self) -> tuple[tuple[str, str], ...]:
        """All tags, each with the template of its file."""
        return ((self.tag, self.file), *self.more)

    @property
    def tags(self) -> tuple[str, ...]:
        """All tags, in the order of the spec."""
        return tuple(tag for tag, _ in self.files)

    @property
    def asks_persons(self) -> bool:
        """Whether a person must approve it."""
        return self.approve is not None and not self.approve.is_automatic
