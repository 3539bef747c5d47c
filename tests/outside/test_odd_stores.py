"""What stores must not choke on: endings of files, addresses with passwords, servers that answer something else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.outside import conditions_git
from airflow_calib_provider.outside import nopayloaddb_client as client
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.outside.conditions_git import GitStore
from airflow_calib_provider.outside.conditions_git_files import LAYOUTS
from airflow_calib_provider.outside.conditions_nopayloaddb import NopayloaddbStore
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with

DIGEST = "0" * 64


@pytest.mark.parametrize("name", ["a.my file", "a.x#1", "a.lock", "a.v1~", "a.b:c", "a.b[", 'a.b"', "a.b^{}", "a.b\\n"])
def test_an_ending_that_means_something_to_a_store_is_left_out(name: str) -> None:
    """In a tag's file of first runs it would make a line that nobody can read any more; git takes no such name."""
    for layout in LAYOUTS.values():
        ref = GitStore("conditions/main").ref("Scale", DIGEST, name)
        placed = [PlacedPayload(1, 2 if layout.ends else None, ref.file, DIGEST)]
        assert layout.read(layout.write(placed)) == placed
    named = ["git", "check-ref-format", f"refs/calib-{ref.file}"]
    assert subprocess.run(named, check=False).returncode == 0
    assert NopayloaddbStore("npdb/PROMPT").ref("Scale", DIGEST, name).file == f"Scale/00/{DIGEST}"


def test_an_ending_that_means_nothing_stays() -> None:
    assert GitStore("conditions/main").ref("Scale", DIGEST, "a.tar.gz").file == f"payloads/Scale/{DIGEST}.gz"


@pytest.mark.parametrize("password", ["plain", "with@sign", "with/slash", "both@/"])
def test_the_password_of_a_remote_is_not_told(password: str) -> None:
    repository = conditions_git.Repository("c", Path("/r"), LAYOUTS["since"])
    said = f"fatal: unable to access 'https://me:{password}@host.example/x.git/': could not resolve"
    told = conditions_git._fault(repository, ["push"], said).message
    assert password not in told
    assert "***@host.example/x.git" in told


@pytest.mark.parametrize(
    "answer",
    [
        {"payload_lists": [{"id": 1}], "status": {"name": "unlocked"}},
        {"payload_lists": ["Scale"], "status": {"name": "unlocked"}},
        {"payload_lists": {}, "status": "unlocked"},
        [],
    ],
    ids=str,
)
def test_a_server_of_another_kind_is_told_as_such(answer: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _connected(tmp_path)
    monkeypatch.setattr(client, "found", lambda *_: answer)
    store = NopayloaddbStore("npdb/PROMPT")
    for asked in (lambda: store.listing("Scale"), lambda: store.ready(["Scale"])):
        with pytest.raises(OutsideError, match="does not answer as a nopayloaddb does"):
            asked()


def test_a_new_interval_without_a_number_is_told_as_such(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _connected(tmp_path)
    monkeypatch.setattr(client, "ask", lambda *_, **__: [])
    store = NopayloaddbStore("npdb/PROMPT")
    with pytest.raises(OutsideError, match="does not answer as a nopayloaddb does"):
        store._attach(store._server(), "Scale_1", PlacedPayload(1, 2, "x", DIGEST))


def _connected(folder: Path) -> None:
    made = OutsideConnection("npdb", "calib_nopayloaddb", host="https://db.example", extra={"files": str(folder)})
    look_up_with({"npdb": made}.get)
