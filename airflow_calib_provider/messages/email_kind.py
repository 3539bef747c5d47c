"""E-mail by Airflow's connection to a mail server, as the language knows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, NotEmpty, Words
from airflow_calib_provider.domain.scalars import ConnectionName, Reads, text, unlike
from airflow_calib_provider.spec.kinds import ChannelKind

_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*", re.ASCII)


def _address(value: object) -> str:
    found = text(value, "an e-mail address")
    if not _ADDRESS.fullmatch(found) or len(found) > 254:
        raise unlike(value, "an e-mail address such as shift@example.org")
    return found


MailAddress = Annotated[
    str, Reads(_address, {"type": "string", "pattern": f"^{_ADDRESS.pattern}$", "maxLength": 254}, "e-mail address")
]


class EmailKeys(Keys):
    """The block ``email``."""

    says: ClassVar[str] = "e-mail"

    connection: Annotated[
        ConnectionName, Field(description="the Airflow connection to the mail server, type `smtp`")
    ] = "smtp_default"
    to: Annotated[
        tuple[MailAddress, ...],
        NotEmpty("an e-mail address"),
        Words(item="an address", type="list of e-mail addresses", missing="[shift@example.org]"),
        Field(description="who gets it"),
    ] = ()
    sender: Annotated[
        MailAddress | None,
        Words(name="{key}", default="the connection's"),
        Field(alias="from", description="whom it is from; in the connection `from_email`"),
    ] = None


class EmailKind(ChannelKind):
    """E-mail."""

    name = "email"
    keys = EmailKeys
    loader = "airflow_calib_provider.messages.email:Email"

    def place(self, block: Mapping[str, object]) -> str:
        """The connection, and to how many."""
        to = block.get("to")
        many = len(to) if isinstance(to, list | tuple) else 0
        return f"{super().place(block)}, to {many} address{'es' if many != 1 else ''}"


KIND = EmailKind()
