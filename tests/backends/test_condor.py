"""What every backend does, on a real HTCondor pool: with event logs, and by queries alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.condor.backend import CondorBackend
from tests.backends.conformance import BackendConformance

pytestmark = [pytest.mark.condor]


class TestCondor(BackendConformance):
    @pytest.fixture
    def root(self, condor_root: Path) -> Path:
        return condor_root / "jobs"

    @pytest.fixture
    def make_backend(self, make_condor: Callable[..., CondorBackend]) -> Callable[[], Backend]:
        return make_condor
