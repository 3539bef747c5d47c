"""``calib backend check``: the local backend, one that answers, one that does not."""

from __future__ import annotations

import pytest

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.hooks import backends as hook
from tests.cli.conftest import Calib


class Far(LocalBackend):
    """A backend that says whether it can be reached."""

    closed = 0

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def check(self) -> str:
        if not self.said:
            raise BackendError("may not create jobs", "ask for it")
        return self.said

    def close(self) -> None:
        type(self).closed += 1


def test_what_runs_here_needs_no_airflow(calib: Calib) -> None:
    assert calib.plain("backend", "check", "local", "local") == "local: its jobs run on this machine\n"
    failed = calib("backend", "check", "lokal")
    assert failed.exit_code == 1
    assert "there is no backend 'lokal'" in failed.stderr


def test_each_is_told_and_one_that_cannot_be_used_is_an_error(calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook, "backend_of", lambda name: Far("answers as me" if name == "condor:good" else ""))
    monkeypatch.setenv("AIRFLOW_CONN_CALIB_CONDOR", "calib-condor://")
    told = calib("backend", "check", "condor:good", "condor")
    assert told.exit_code == 1
    assert told.stdout == "condor:good: answers as me\n"
    assert told.stderr == "error: condor: may not create jobs\nhint: ask for it\n"
    assert Far.closed == 2
    assert calib.json("backend", "check", "condor:good") == {
        "backends": [{"backend": "condor:good", "said": "answers as me", "error": "", "hint": ""}]
    }


def test_where_a_connection_was_looked_for(calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default connection of a backend is not always called as its type."""
    monkeypatch.setattr(hook, "backend_of", lambda _: Far(""))
    monkeypatch.delenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", raising=False)
    assert "(asked were AIRFLOW_CONN_KUBERNETES_DEFAULT, " in calib("backend", "check", "kubernetes").stderr
