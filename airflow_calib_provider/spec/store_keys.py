"""The keys of ``publish.stores`` and ``publish.set``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field
from pydantic_core import PydanticCustomError

from airflow_calib_provider.domain.keys import Keys, Where, Words
from airflow_calib_provider.domain.nodes import Scalar
from airflow_calib_provider.domain.scalars import (
    NAME_SCHEMA,
    WHAT,
    ConnectionName,
    Filled,
    Reads,
    Tag,
    Template,
    mistake,
    one_of,
    word,
)
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import CONDITIONS_STORES, PAYLOAD_STORES
from airflow_calib_provider.outside.writing import WritableStore, place_of
from airflow_calib_provider.spec.models import OutsideTarget


def _kind(value: object) -> str:
    known = tuple(name for name in CONDITIONS_STORES.names() if _is_written(name))
    stated = value.text if isinstance(value, Scalar) else ""
    # What is there and cannot be written is told as such.
    others = (stated,) if stated in CONDITIONS_STORES else ()
    found = word(value, (*known, *PAYLOAD_STORES.own, *others), one_of(known))
    if found in PAYLOAD_STORES.own:
        return found
    if not _is_written(found):
        raise mistake(f"{WHAT} {found!r} can only be read", one_of(known))
    return found


def _is_written(name: str) -> bool:
    try:
        found = CONDITIONS_STORES.member(name)
    except KindError:
        return False
    return isinstance(found, type) and issubclass(found, WritableStore)


StoreKind = Annotated[str, Reads(_kind, NAME_SCHEMA, "name")]


class StoreKeys(Keys):
    """An outside store that a payload is published to."""

    store: Annotated[
        StoreKind,
        Words(missing="the kind of a store", type="kind"),
        Field(
            description="`git`, `nopayloaddb`, `butler`, or a kind of an installed package; `embedded` is where it is "
            "kept anyway: [stores.md](stores.md)"
        ),
    ] = ""
    connection: Annotated[
        ConnectionName | None,
        Words(type="id of an Airflow connection", default=" "),
        Field(description="where it is, and how one is let in"),
    ] = None
    branch: Annotated[Filled | None, Words(default="`main`"), Field(description="of `git`")] = None
    global_tag: Annotated[Filled | None, Words(default=" "), Field(description="of `nopayloaddb`; required there")] = (
        None
    )
    collection: Annotated[
        Filled | None,
        Words(default=" "),
        Field(description="of `butler`: the calibration collection; required there"),
    ] = None
    place: Annotated[
        Filled | None, Words(default=" "), Field(description="of a kind of another package, where in the store")
    ] = None
    tag: Annotated[
        Tag | None, Words(default="as here"), Field(description="under which it is there; not with a `set`")
    ] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        """A store has a connection, and the key that says where in it, and no other."""
        if not self.store:
            return
        keys = ("branch", "global_tag", "collection", "place")
        if self.store in PAYLOAD_STORES.own:
            for key in ("connection", *keys, "tag"):
                if self.has(key):
                    said = f"{WHAT} does not belong to {self.store}, which is no outside store"
                    yield (key,), mistake(said, f"no {key}", at_key=True)
            return
        own = CONDITIONS_STORES.member(self.store)
        if not self.has("connection"):
            yield (), mistake(f"the key 'connection' is missing in {WHAT}", "the id of an Airflow connection")
        for key in keys:
            if key != own.place_key and self.has(key):
                yield (key,), mistake(f"{WHAT} does not belong to {self.store}", own.place_key, at_key=True)
        yield from self._of_place(own)

    def _of_place(self, own: type[WritableStore]) -> Iterator[tuple[Where, PydanticCustomError]]:
        """Where in the store."""
        if not self.has(own.place_key) and not own.place_default:
            yield (), mistake(f"the key {own.place_key!r} is missing in {WHAT}", f"{own.place_key}: …")
        elif self.connection and own.fault(place_of(self.connection, own.place_default or "x")):
            said = f"{WHAT} is {self.connection!r}"
            yield ("connection",), mistake(said, "the id of an Airflow connection, starting with a letter")
        elif self.connection and (fault := own.fault(self.inside())):
            example = f"a name such as {own.place_default}" if own.place_default else ""
            yield (own.place_key,), mistake(f"{WHAT} {getattr(self, own.place_key)!r} {fault}", example)

    def inside(self) -> str:
        """The place."""
        own = CONDITIONS_STORES.member(self.store)
        return place_of(self.connection or "", getattr(self, own.place_key, None) or own.place_default)

    def target(self) -> OutsideTarget | None:
        """What it means; ``None``: where it is kept anyway."""
        if self.store in PAYLOAD_STORES.own:
            return None
        return OutsideTarget(kind=self.store, place=self.inside(), tag=self.tag or "")


class SetKeys(Keys):
    """One tag of a set."""

    tag: Annotated[
        Tag | None,
        Words(missing="the tag to publish under"),
        Field(description="only one task of all workflows publishes under it"),
    ] = None
    file: Annotated[
        Template | None,
        Words(missing='a file, such as "{{ tasks.fit.products.constants }}"'),
        Field(description="one file"),
    ] = None
