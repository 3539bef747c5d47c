"""The keys of ``publish``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Either, Keys, NotEmpty, Where, Words
from airflow_calib_provider.domain.locks.deadlines import GROUP_CLOSED, RUN_END
from airflow_calib_provider.domain.nodes import Scalar
from airflow_calib_provider.domain.quantities import DURATION, parse_duration
from airflow_calib_provider.domain.scalars import (
    NAME_SCHEMA,
    WHAT,
    Duration,
    Filled,
    Flag,
    Name,
    OneOf,
    Reads,
    Schema,
    Tag,
    Template,
    mistake,
    one_of,
    text,
    unlike,
    word,
)
from airflow_calib_provider.kinds import CONDITIONS_STORES, DEFAULT_STORE, PAYLOAD_STORES
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.store_keys import SetKeys, StoreKeys


def _store(value: object) -> str:
    stated = value.text if isinstance(value, Scalar) else ""
    outside = stated in CONDITIONS_STORES
    hint = f"an outside store goes into stores: [{{store: {stated}, …}}]" if outside else ""
    if not isinstance(value, Scalar):
        raise unlike(value, one_of(PAYLOAD_STORES.names()), "outside stores go into stores: [{store: …}, …]")
    return word(value, tuple(PAYLOAD_STORES.names()), hint=hint)


Store = Annotated[str, Reads(_store, NAME_SCHEMA, "name")]


AUTOMATIC = "automatic"


def _approve(value: object) -> str:
    is_person = isinstance(value, Scalar) and value.kind == "text" and value.text.isidentifier()
    who = value.text if isinstance(value, Scalar) and is_person else "a user, …"
    hint = nearest(who, (AUTOMATIC,)) if is_person else ""
    return word(value, (AUTOMATIC,), AUTOMATIC if hint else f"{AUTOMATIC}, or {{by: [{who}]}}", hint)


_FILE = 'a file, such as "{{ tasks.fit.products.constants }}"'


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
    if isinstance(value, tuple):
        raise unlike(value, expected, "who approves stands in approve: {by: […]}")
    found = text(value, expected)
    since, plus, lasts = found.partition("+")
    if since.strip() not in (RUN_END, GROUP_CLOSED) or not plus:
        raise unlike(value, expected)
    try:
        duration = parse_duration(lasts.strip())
    except ValueError as error:
        raise mistake(f"{WHAT}: {error}", DURATION) from error
    if not duration:
        raise mistake(f"{WHAT}: {lasts.strip()!r} is no time at all", DURATION)
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
        Words(default="required, without a `set`"),
        Field(description="only one task of all workflows publishes under a tag"),
    ] = None
    file: Annotated[Template | None, Words(default="required, without a `set`"), Field(description="one file")] = None
    together: Annotated[
        tuple[SetKeys, ...],
        NotEmpty("two tags or more"),
        Words(name="set", item="an element of set", type="list of [set](#publishset)", default=" "),
        Field(alias="set", description="several tags instead, that are published all at once or not at all"),
    ] = ()
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
        Either(scalar=Annotated[str, Reads(_approve, {"enum": [AUTOMATIC]}, AUTOMATIC)], mapping=ApproveKeys),
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
    stores: Annotated[
        tuple[StoreKeys, ...],
        Words(item="a store", type="list of [stores](#publishstores)", default="none"),
        Field(description="outside stores that get it, too, in this order; all of them, or none"),
    ] = ()
    after: Annotated[
        Annotated[Literal["hold", "default", "next"], OneOf()] | None,
        Words(type="`hold`, `default` or `next`", default="`next`"),
        Field(
            description="what holds there behind the last run of a group: the payload until the next one begins, "
            "`default`, or nothing until the next one comes. A store whose intervals have no ends holds on anyway"
        ),
    ] = None
    default: Annotated[
        Template | None,
        Words(default=" "),
        Field(description="the file that holds behind a group, with `after: default`"),
    ] = None
    protect: Annotated[
        Annotated[Literal["processed", "move"], OneOf()] | None,
        Words(type="`processed` or `move`", default="nothing is protected"),
        Field(
            description="what tasks with a lock on the tag began with is not changed in a store: that is refused, or "
            "the interval begins behind the last such run"
        ),
    ] = None
    gaps: Annotated[
        Annotated[Literal["report", "refuse"], OneOf()],
        Field(description="runs that no interval covers between this one and the one before it, in a store"),
    ] = "report"
    no_change: Annotated[
        Annotated[Literal["publish", "skip", "extend"], OneOf()] | None,
        Words(type="`publish`, `skip` or `extend`", default="`publish`, or `extend` after an iteration without change"),
        Field(
            description="what becomes of content that the payload before the group has, too: it is published as any "
            "other, nothing is published, or it is published and told as an extension of that one"
        ),
    ] = None
    fallback: Annotated[
        Annotated[Literal["previous"], OneOf()] | None,
        Words(type="`previous`", default="none"),
        Field(
            description="what holds for the group's runs from the deadline `by` on, until its own is published: the "
            "content of the payload before the group"
        ),
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """One tag or a set; what belongs to stores needs one."""
        yield from self._of_tags()
        yield from self._together()
        if self.after == "default" and not self.has("default"):
            yield ("after",), mistake(f"{WHAT} names no file", "default: <a file>")
        if self.has("default") and self.after != "default" and "after" not in self.unreadable():
            yield ("default",), mistake(f"{WHAT} belongs to after: default", "after: default", at_key=True)
        seen: list[str] = []
        for number, one in enumerate(self.stores):
            if one.tag and self.has_set():
                yield ("stores", number, "tag"), mistake(f"{WHAT} is of one tag, and a set has several", "no tag")
            if one.crossed() or one.unreadable() or not one.store:
                continue
            target = one.target()
            if target is not None and target.store in seen:
                yield ("stores", number), mistake(f"the store {target.store!r} is there twice", "each once")
            seen.append(target.store if target is not None else "")

    def _together(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """What belongs to other keys, or contradicts them."""
        for key in ("after", "default", "protect", "gaps"):
            if self.has(key) and not self.has("stores"):
                yield (key,), mistake(f"{WHAT} belongs to stores", "stores", at_key=True)
        if self.fallback is not None and not self.has("by"):
            yield ("fallback",), mistake(f"{WHAT} belongs to a deadline", "by: run_end + 36h", at_key=True)
        if self.no_change == "skip" and self.gaps == "refuse" and self.after in (None, "next"):
            yield ("no_change",), mistake(f"{WHAT} leaves gaps, which are refused", "after: hold, or no gaps: refuse")

    def has_set(self) -> bool:
        """Whether there is a set, readable or not."""
        return self.has("together") or self.has("set")

    def _of_tags(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        if not self.has_set():
            for key, expected in (("tag", "the tag to publish under"), ("file", _FILE)):
                if not self.has(key):
                    yield (), mistake(f"the key {key!r} is missing in {WHAT}", expected)
            return
        tags = [one.tag for one in self.together]
        if len(tags) == 1 and "set" not in self.unreadable():
            yield ("set",), mistake("set has one tag", "tag and file, or two tags or more", at_key=True)
            return
        for key in [key for key in ("tag", "file") if self.has(key)][:1]:
            yield (key,), mistake(f"{WHAT} stands in the set", "either tag and file, or a set", at_key=True)
        for number, tag in enumerate(tags):
            if tag is not None and tag in tags[:number]:
                yield ("set", number, "tag"), mistake(f"the tag {tag!r} is there twice", "each once")

    @classmethod
    def more_schema(cls) -> Schema:
        """What :meth:`check` says, as JSON Schema."""
        both = {"tag": False, "file": False}
        return {"oneOf": [{"required": ["tag", "file"]}, {"required": ["set"], "properties": both}]}
