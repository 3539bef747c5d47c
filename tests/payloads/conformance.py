"""What every payload store must do. Its tests subclass :class:`PayloadStoreConformance` and override fixtures only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_calib_provider.errors import PayloadError, PayloadStoreDown
from airflow_calib_provider.kinds import PAYLOAD_STORES
from airflow_calib_provider.payloads.base import PayloadStore, payload_store


class PayloadStoreConformance:
    """A store, and how to make it fail."""

    @pytest.fixture
    def name(self) -> str:
        """In specs."""
        raise NotImplementedError

    @pytest.fixture
    def breaks(self) -> Callable[[], None]:
        """Lets the store be out of order from now on."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, name: str) -> PayloadStore:
        return payload_store(name)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "constants.bin"
        path.write_bytes(os.urandom(100_000))
        return path

    def test_it_is_in_the_table(self, store, name):
        assert name in PAYLOAD_STORES
        assert store.name == name

    def test_what_is_kept_is_found_by_its_content(self, store, file):
        content = file.read_bytes()
        digest, size = store.keep(file)
        assert (digest, size) == (hashlib.sha256(content).hexdigest(), len(content))
        file.write_bytes(b"changed afterwards")
        assert store.path(digest).read_bytes() == content
        assert not store.path(digest).stat().st_mode & 0o222, "nobody may change it"

    def test_keeping_twice_changes_nothing(self, store, file, tmp_path):
        again = tmp_path / "again"
        again.write_bytes(file.read_bytes())
        assert store.keep(file) == store.keep(file) == store.keep(again)

    def test_different_contents_are_apart(self, store, file, tmp_path):
        other = tmp_path / "other"
        other.write_bytes(b"x")
        first, second = store.keep(file)[0], store.keep(other)[0]
        assert first != second
        assert store.path(first).read_bytes() == file.read_bytes()
        assert store.path(second).read_bytes() == b"x"

    def test_many_at_once(self, store, file):
        with ThreadPoolExecutor(8) as pool:
            found = set(pool.map(store.keep, [file] * 16))
        assert len(found) == 1
        assert store.path(found.pop()[0]).read_bytes() == file.read_bytes()

    @pytest.mark.parametrize("made", ["missing", "empty", "folder"])
    def test_nothing_to_keep(self, store, tmp_path, made):
        path = tmp_path / "it"
        if made == "empty":
            path.touch()
        elif made == "folder":
            path.mkdir()
        with pytest.raises(PayloadError) as caught:
            store.keep(path)
        assert str(path) in caught.value.message

    def test_out_of_order_is_said(self, store, file, breaks):
        breaks()
        with pytest.raises(PayloadStoreDown) as caught:
            store.keep(file)
        assert caught.value.message
