"""A channel of Mattermost by an incoming webhook, as the language knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_calib_provider.spec.kinds import ChannelKind, ConnectionType, Integration, form_field

if TYPE_CHECKING:
    from airflow_calib_provider.messages.mattermost_keys import MattermostKeys

CONNECTION = ConnectionType(
    name="calib_mattermost",
    settings="airflow_calib_provider.hooks.mattermost:mattermost_webhook",
    hook="airflow_calib_provider.hooks.mattermost.MattermostHook",
    title="Mattermost (calibration messages)",
    integration=Integration("Mattermost", "https://docs.mattermost.com/", ("service",)),
    behaviour={
        "hidden-fields": ["extra", "host", "schema", "login", "port"],
        "relabeling": {"password": "Address of the incoming webhook"},
        "placeholders": {"password": "https://chat.example.org/hooks/xxxxxxxxxxxxxxxxxxxxxxxxxx"},
    },
    fields={
        "ca_file": form_field("CA file", "string", "Trusted certificates; a file on every Airflow machine."),
        "plain_http": form_field("Allow http", "boolean", "Whoever listens could post there, too.", False),
    },
)
"""Its fields are those of :class:`~airflow_calib_provider.messages.mattermost.Webhook`."""


class MattermostKind(ChannelKind):
    """Posts of an incoming webhook."""

    name = "mattermost"
    connection_type = CONNECTION
    loader = "airflow_calib_provider.messages.mattermost:Mattermost"

    @property
    def keys(self) -> type[MattermostKeys]:
        """The model of its block."""
        from airflow_calib_provider.messages.mattermost_keys import MattermostKeys

        return MattermostKeys

    def place(self, block: Mapping[str, object]) -> str:
        """The connection, and the channel where it is named."""
        channel = f", channel {block['channel']}" if block.get("channel") else ""
        return f"{super().place(block)}{channel}"


KIND = MattermostKind()
