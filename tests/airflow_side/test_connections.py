"""Connections of Airflow reach run sources: in tasks, and on the command line, which imports Airflow only then."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.hooks.connections import JsonServiceHook
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.http import HttpService
from tests.outside.server import JsonServer, json_server

PASSWORD = "wvgqz-not-to-be-seen"
SPECS = {
    "sources.yaml": "apiVersion: calib/v1\nsources: {registry: {http: {connection: registry, path: all}}}\n",
    "web.yaml": (
        "apiVersion: calib/v1\nworkflow: web\nruns: {source: registry, since: 1}\n"
        "tasks:\n  fit: {group_by: run, jobs: {command: ['true']}}\n"
    ),
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[JsonServer]:
    with json_server() as server:
        said = {"conn_type": "calib_http", "host": server.url, "login": "calib", "password": PASSWORD}
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps(said))
        server.answer = lambda asked: asked.reply([{"number": 7, "end": "2026-01-01T00:00:00Z"}])
        yield server


def test_in_a_process_of_airflow(server: JsonServer) -> None:
    service = HttpService.of(outside_connection("registry"))
    assert (service.name, service.url, service.auth) == ("registry", server.url, "basic")
    assert PASSWORD not in repr(service) + repr(outside_connection("registry"))
    with pytest.raises(OutsideError, match="there is no connection 'nothing'"):
        outside_connection("nothing")


def test_the_button_of_a_connection(server: JsonServer) -> None:
    hook = JsonServiceHook("registry")
    assert hook.test_connection() == (True, f"{server.url} answers with JSON")
    server.answer = lambda asked: asked.reply(b"<html>", Content_Type="text/html")
    works, said = hook.test_connection()
    assert not works
    assert "a page of HTML" in said


def calib(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", "from airflow_calib_provider.cli import main; main()", *arguments]
    environment = {**os.environ, "CALIB_HOME": str(folder / "calib")}
    return subprocess.run(
        program, cwd=folder, env=environment, text=True, capture_output=True, check=False, timeout=120
    )


def test_on_the_command_line(server: JsonServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "workflow_specs").mkdir()
    for name, text in SPECS.items():
        (tmp_path / "workflow_specs" / name).write_text(text)
    plan = ("spec", "plan", "--runs-from", "source", "--json")
    done = calib(tmp_path, *plan)
    assert done.returncode == 0, done.stderr
    assert "run-r7" in done.stdout
    ((path, headers),) = server.asked
    assert (path, headers["Authorization"]) == ("/all", "Basic Y2FsaWI6d3ZncXotbm90LXRvLWJlLXNlZW4=")

    server.answer = lambda asked: asked.reply({"password": PASSWORD}, 403)
    done = calib(tmp_path, *plan)
    assert done.returncode == 1
    assert "HTTP 403" in done.stdout + done.stderr
    assert PASSWORD not in done.stdout + done.stderr

    monkeypatch.delenv("AIRFLOW_CONN_REGISTRY")
    done = calib(tmp_path, *plan)
    assert "there is no connection 'registry' (asked were AIRFLOW_CONN_REGISTRY" in done.stdout + done.stderr
