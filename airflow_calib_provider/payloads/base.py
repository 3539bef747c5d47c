"""What every payload store does: it keeps files by their content, and gives them back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import PAYLOAD_STORES


class PayloadStore(ABC):
    """A place for published files. Which file holds for which runs stands in the ledger, whatever the store.

    :ivar name: in specs.
    """

    name: str

    @abstractmethod
    def keep(self, file: Path) -> tuple[str, int]:
        """Copy a file into the store under the hash of its content, or find that it is there: safe on its return.

        :returns: SHA-256 (hexadecimal) and size in bytes.
        :raises PayloadError: it is missing, empty or not a regular file.
        :raises PayloadStoreDown: the store cannot be written now; nothing was.
        """

    @abstractmethod
    def path(self, digest: str) -> Path:
        """A file with the content of this hash, on this machine, which nobody may change.

        :raises PayloadStoreDown: the store does not answer now.
        """


def payload_store(name: str) -> PayloadStore:
    """A payload store by its name.

    :raises KindError: there is none of this name, or it cannot be loaded.
    """
    found = PAYLOAD_STORES.member(name)
    if not isinstance(found, PayloadStore):
        raise KindError(
            f"the payload store {name!r} is a {type(found).__name__}", "its author is to make it a PayloadStore"
        )
    return found
