"""Backends by name, with what their connections say."""

from __future__ import annotations

import traceback

import pytest

from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.hooks import backends


def test_what_is_wrong_with_a_connection_is_told_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every two seconds, for days: nothing may be kept of it."""
    monkeypatch.setitem(backends._fetched, "condor:far", BackendError("no connection", "make one"))
    lengths = set()
    for _ in range(3):
        with pytest.raises(BackendError, match="no connection") as caught:
            backends.backend_of("condor:far")
        assert caught.value.hint == "make one"
        lengths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(lengths) == 1
