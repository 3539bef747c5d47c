"""The embedded payload store: files below this installation's own folder, named by their content.

A file is written, synced and renamed into place.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from airflow_calib_provider.errors import PayloadError, PayloadStoreDown
from airflow_calib_provider.payloads.base import PayloadStore
from airflow_calib_provider.settings import payloads_folder


class EmbeddedStore(PayloadStore):
    """A folder below ``CALIB_HOME``."""

    name = "embedded"

    def keep(self, file: Path) -> tuple[str, int]:
        """Copy a file into the store under the hash of its content.

        :returns: SHA-256 (hexadecimal) and size in bytes.
        :raises PayloadError: it is missing, empty, not a regular file, or the store cannot be written.
        """
        folder = payloads_folder()
        try:
            if not file.is_file() or not file.stat().st_size:
                raise PayloadError(f"nothing to publish: {file} is missing or empty", "look at the job that makes it")
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".new-", delete=False) as target:
                try:
                    with file.open("rb") as source:
                        shutil.copyfileobj(source, target)
                    target.flush()
                    os.fsync(target.fileno())
                    with Path(target.name).open("rb") as copy:
                        digest = hashlib.file_digest(copy, "sha256").hexdigest()
                    final = self.path(digest)
                    final.parent.mkdir(exist_ok=True)
                    Path(target.name).chmod(0o444)
                    Path(target.name).replace(final)
                except BaseException:
                    Path(target.name).unlink(missing_ok=True)
                    raise
            _sync_folder(final.parent)
            _sync_folder(folder)
        except OSError as error:
            raise PayloadStoreDown(
                f"cannot store {file} in {folder}: {error.strerror}", "nothing was published"
            ) from error
        return digest, final.stat().st_size

    def path(self, digest: str) -> Path:
        """Where the content of this digest lies, in a folder for the digest's first two letters."""
        return payloads_folder() / digest[:2] / digest


STORE = EmbeddedStore()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
