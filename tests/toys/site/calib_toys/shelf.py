"""An outside store that is written: a folder with a file for each tag, and the payloads beside them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from airflow_calib_provider.errors import NoSuchTag, StoreUnavailable
from airflow_calib_provider.outside.conditions import PlacedPayload, checked
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.placing import Capabilities, Ref
from airflow_calib_provider.outside.writing import WritableStore


class Shelf(WritableStore):
    """``shelf:connection/board``; the connection's host is the folder."""

    name = "shelf"
    place_key = "place"
    place_default = "board"

    def capabilities(self):
        return Capabilities(ends=True, overlap="refuse", atomic_sets=False, snapshot=False, last_run=self.last_run)

    def listing(self, tag):
        try:
            rows = json.loads((self._board() / f"{tag}.json").read_text())
        except FileNotFoundError as error:
            raise NoSuchTag(f"the shelf has nothing of {tag}") from error
        return checked(tag, [PlacedPayload(*row) for row in rows])

    def ref(self, tag, digest, file_name):
        return Ref(f"payloads/{digest}", digest)

    def put(self, tag, content, ref, file_name):
        kept = self._board() / ref.file
        kept.parent.mkdir(exist_ok=True)
        shutil.copyfile(content, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)

    def change(self, changes, key):
        for tag, change in changes.items():
            rows = [(one.first_run, one.last_run, one.file, one.hash) for one in change.target]
            made = self._board() / f"{tag}.json"
            made.with_suffix(".new").write_text(json.dumps(rows))
            made.with_suffix(".new").replace(made)
        return ""

    def _board(self) -> Path:
        folder = Path(outside_connection(self.connection(self.place)).host) / self.inside
        if not folder.is_dir():
            raise StoreUnavailable(f"{folder} is not there", "see the connection")
        return folder


STORE = Shelf
