"""A payload store: a drawer below CALIB_HOME."""

from __future__ import annotations

import hashlib
import os
import uuid
from pathlib import Path

from airflow_calib_provider.errors import PayloadError, PayloadStoreDown
from airflow_calib_provider.payloads.base import PayloadStore
from airflow_calib_provider.settings import calib_home


class Drawer(PayloadStore):
    """Files by their content."""

    name = "drawer"

    def keep(self, file: Path) -> tuple[str, int]:
        if not file.is_file() or not (content := file.read_bytes()):
            raise PayloadError(f"nothing to publish: {file} is missing or empty")
        digest = hashlib.sha256(content).hexdigest()
        path = self.path(digest)
        part = path.with_name(f".{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(content)
            os.chmod(part, 0o444)
            os.replace(part, path)
        except OSError as error:
            raise PayloadStoreDown(f"the drawer is stuck: {error}") from error
        return digest, len(content)

    def path(self, digest: str) -> Path:
        return calib_home() / "drawer" / digest


STORE = Drawer()
