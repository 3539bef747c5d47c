"""Messages in a bottle: lines of a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.scalars import Filled
from airflow_calib_provider.messages.base import ChannelTrouble, Message
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.kinds import ChannelKind


class BottleKeys(Keys):
    """The block ``bottle``."""

    sea: Annotated[Filled, Field(description="the file")] = "/tmp/sea"


class Bottle:
    """The sea."""

    def __init__(self, block: Mapping[str, Any], connection: OutsideConnection | None) -> None:
        self._sea = Path(block["sea"])

    def send(self, message: Message, *, plain: bool = False) -> None:
        """One more bottle."""
        parts = [message.title] if plain else [message.title, message.where, message.why, message.to_do, *message.lines]
        text = "".join(one for one in "\n".join([*parts, message.link]) if one.isprintable() or one == "\n")
        try:
            with self._sea.open("a") as stream:
                stream.write(json.dumps(text) + "\n")
        except OSError as error:
            raise ChannelTrouble(f"the sea is dry: {error}") from error

    def close(self) -> None:
        """Go home."""


class BottleKind(ChannelKind):
    """Messages in a bottle."""

    name = "bottle"
    keys = BottleKeys  # type: ignore[assignment]
    loader = "calib_toys.channel:Bottle"

    def place(self, block: Mapping[str, object]) -> str:
        """The sea."""
        return str(block["sea"])


KIND = BottleKind()
