"""The keys of the block ``email``."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, NotEmpty, Words
from airflow_calib_provider.domain.scalars import ConnectionName, Reads, text, unlike

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
