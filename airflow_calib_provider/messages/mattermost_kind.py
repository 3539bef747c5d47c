"""A channel of Mattermost by an incoming webhook, as the language knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.scalars import ConnectionName, Filled
from airflow_calib_provider.spec.kinds import ChannelKind


class MattermostKeys(Keys):
    """The block ``mattermost``."""

    says: ClassVar[str] = "by an incoming webhook"

    connection: Annotated[
        ConnectionName | None,
        Words(missing="the id of an Airflow connection"),
        Field(description="the Airflow connection, type `calib_mattermost`, whose password is the webhook's address"),
    ] = None
    channel: Annotated[
        Filled | None,
        Words(default="the webhook's"),
        Field(description="another channel than the webhook's, where the webhook is not locked to its own"),
    ] = None
    username: Annotated[
        Filled | None,
        Words(default="the webhook's"),
        Field(description="the name under which it posts, where the server allows that"),
    ] = None


class MattermostKind(ChannelKind):
    """Posts of an incoming webhook."""

    name = "mattermost"
    keys = MattermostKeys
    loader = "airflow_calib_provider.messages.mattermost:Mattermost"

    def place(self, block: Mapping[str, object]) -> str:
        """The connection, and the channel where it is named."""
        channel = f", channel {block['channel']}" if block.get("channel") else ""
        return f"{super().place(block)}{channel}"


KIND = MattermostKind()
