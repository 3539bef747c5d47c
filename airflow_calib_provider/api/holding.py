"""The payload that holds for a run, and its content."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.api.reading import PROMPT, check_names
from airflow_calib_provider.errors import NotFound, PayloadError
from airflow_calib_provider.ledger import names
from airflow_calib_provider.ledger.engine import Ledger

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.rows import Payload


def payload_for(ledger: Ledger, tag: str, run: int, *, campaign: str = PROMPT) -> Payload:
    """The published payload that holds for a run: the campaign's own, else its base campaign's.

    :raises NotFound: there is no such campaign or tag, or none of its intervals has the run.
    """
    from airflow_calib_provider.payloads import store

    with ledger.read() as connection:
        check_names(connection, campaign)
        try:
            return store.find(connection, campaign, tag, run)
        except NotFound:
            names.check_tag(connection, tag)
            raise


def payload_content(payload: Payload) -> Path:
    """Where the content of a payload lies, compared with its hash.

    :raises PayloadError: the store does not have the file any more, or its content is not what was published.
    """
    from airflow_calib_provider.payloads import store

    path = store.content_path(payload)
    if not path.is_file():
        raise PayloadError(f"the payload's file {path} is gone", "is CALIB_HOME that of the installation?")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != payload.content_hash:
            raise PayloadError(f"the payload's file {path} is damaged", "restore it from a backup")
    return path
