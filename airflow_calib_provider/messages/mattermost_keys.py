"""The keys of the block ``mattermost``."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, Words
from airflow_calib_provider.domain.scalars import ConnectionName, Filled


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
