"""The keys of ``publish``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Either, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.locks.deadlines import GROUP_CLOSED, RUN_END
from airflow_calib_provider.domain.quantities import parse_duration
from airflow_calib_provider.domain.scalars import (
    NAME_SCHEMA,
    WHAT,
    Duration,
    Filled,
    Flag,
    Name,
    OneOf,
    Reads,
    Tag,
    Template,
    mistake,
    one_of,
    text,
    unlike,
)
from airflow_calib_provider.kinds import DEFAULT_STORE, PAYLOAD_STORES


def _store(value: object) -> str:
    known = PAYLOAD_STORES.names()
    found = text(value, one_of(known))
    if found not in known:
        raise unlike(value, one_of(known), word=found, options=known)
    return found


Store = Annotated[str, Reads(_store, NAME_SCHEMA, "name")]


AUTOMATIC = "automatic"


class ApproveKeys(Keys):
    """``publish.approve`` as a mapping: persons approve."""

    called: ClassVar[str] = "{above}.{key}"

    by: Annotated[
        str | tuple[str, ...],
        Either(scalar=Name, sequence=Annotated[tuple[Filled, ...], NotEmpty("at least one user")]),
        Words(
            missing="a list of `approvers` in sources.yaml, or user ids of Airflow", type="name, or list of user ids"
        ),
        Field(description="who may answer: a list of `approvers` in `sources.yaml`, or user ids of Airflow"),
    ] = ""
    four_eyes: Annotated[
        Flag,
        Field(description="the author, who has triggered the DAG run or created the campaign, does not count"),
    ] = False
    remind: Annotated[
        Duration | None,
        Words(default="never"),
        Field(description="whoever may answer is reminded this often, as long as nobody has"),
    ] = None
    expires: Annotated[
        Duration | None, Words(default="never"), Field(description="without an answer for so long, `then` happens")
    ] = None
    then: Annotated[
        Annotated[Literal["reject"], OneOf()],
        Field(description="what happens then: the payload expires, and its task fails"),
    ] = "reject"

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A reminder that comes when it is too late reminds nobody."""
        if self.remind is not None and self.expires is not None and self.remind >= self.expires:
            yield ("remind",), mistake(f"{WHAT} comes when the approval has expired", "less than expires")


def _by(value: object) -> str:
    expected = "from when on and how long, such as run_end + 36h"
    found = text(value, expected)
    since, plus, lasts = found.partition("+")
    try:
        is_fine = since.strip() in (RUN_END, GROUP_CLOSED) and bool(plus) and bool(parse_duration(lasts.strip()))
    except ValueError:
        is_fine = False
    if not is_fine:
        raise unlike(value, expected)
    return found


_SINCE = Annotated[Literal["run_end", "group_closed"], OneOf()]


class ByKeys(Keys):
    """``publish.by`` as a mapping."""

    called: ClassVar[str] = "{above}.{key}"

    at_most: Annotated[
        Duration | None,
        Words(missing="a duration such as 36h"),
        Field(description="how long it may take, at most"),
    ] = None
    since: Annotated[
        _SINCE,
        Words(name="{above}.{key}"),
        Field(
            alias="from",
            description="from when on that counts: the end of the group's last run, or when the group was closed",
        ),
    ] = "run_end"
    near: Annotated[
        Duration | None,
        Words(default="a fifth of `at_most`"),
        Field(description="so long before it is over, it is near, and told: [messages](messages.md#deadlines)"),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What is near from its begin on is never told as such."""
        if self.near is not None and self.at_most is not None and self.near >= self.at_most:
            yield ("near",), mistake(f"{WHAT} is as long as at_most", "less than at_most")


class PublishKeys(Keys):
    """``publish``."""

    tag: Annotated[
        Tag | None,
        Words(missing="the tag to publish under"),
        Field(description="only one task of all workflows publishes under a tag"),
    ] = None
    file: Annotated[
        Template | None,
        Words(missing='a file, such as "{{ tasks.fit.products.constants }}"'),
        Field(description="one file"),
    ] = None
    iov: Annotated[
        Annotated[Literal["group"], OneOf()],
        Field(description="the interval of validity: first to last run of the group, both included"),
    ] = "group"
    store: Annotated[
        Store,
        Words(type="name of a payload store"),
        Field(description="where the file is kept; further stores come with packages that are installed"),
    ] = DEFAULT_STORE
    validated_by: Annotated[
        Name | None,
        Words(default="nothing is validated"),
        Field(
            description="a task among `needs` whose [verdict](#verdict) on the very file must be good; else it "
            "stays a candidate"
        ),
    ] = None
    approve: Annotated[
        str | ApproveKeys | None,
        Either(scalar=Annotated[Literal["automatic"], OneOf()], mapping=ApproveKeys),
        Words(type="`automatic`, or [approve](#approve)", default="none is needed"),
        Field(description="who must approve it: this rule, which is recorded, or a person"),
    ] = None
    by: Annotated[
        str | ByKeys | None,
        Either(
            scalar=Annotated[
                str, Reads(_by, {"type": "string", "pattern": r"^(run_end|group_closed) *\+ *\S"}, "text")
            ],
            mapping=ByKeys,
        ),
        Words(type="`run_end + 36h`, or [by](#by)", default="no deadline"),
        Field(
            description="until when it is to be published: people are told when that is near, and when it has passed"
        ),
    ] = None
