"""E-mail by Airflow's connection to a mail server, as the language knows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from airflow_calib_provider.spec.kinds import ChannelKind

if TYPE_CHECKING:
    from airflow_calib_provider.messages.email_keys import EmailKeys


class EmailKind(ChannelKind):
    """E-mail."""

    name = "email"
    loader = "airflow_calib_provider.messages.email:Email"

    @property
    def keys(self) -> type[EmailKeys]:
        """The model of its block."""
        from airflow_calib_provider.messages.email_keys import EmailKeys

        return EmailKeys

    def place(self, block: Mapping[str, object]) -> str:
        """The connection, and to how many."""
        to = block.get("to")
        many = len(to) if isinstance(to, list | tuple) else 0
        return f"{super().place(block)}, to {many} address{'es' if many != 1 else ''}"


KIND = EmailKind()
