"""Two locks: one that is part of the statement for all that wait, and one that answers by itself."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys
from airflow_calib_provider.domain.locks.base import LockKind


class RunKnownKeys(Keys):
    """The block ``run_known``."""

    number: Annotated[int, Field(ge=0, description="the run")]


class RunKnownKind(LockKind):
    """Open when the ledger knows a run."""

    name = "run_known"
    keys = RunKnownKeys
    loader = "calib_toys.standing:RUN_KNOWN"
    example = "{run_known: {number: 5}}"

    def on(self, keys: RunKnownKeys) -> str:
        return f"run {keys.number}"


class RunsCountedKeys(Keys):
    """The block ``runs_counted``."""

    at_least: Annotated[int, Field(ge=1, description="so many runs")]


class RunsCountedKind(LockKind):
    """Open when the ledger knows so many runs."""

    name = "runs_counted"
    keys = RunsCountedKeys
    loader = "calib_toys.standing:RUNS_COUNTED"
    example = "{runs_counted: {at_least: 5}}"

    def on(self, keys: RunsCountedKeys) -> str:
        return f"{keys.at_least} runs"


RUN_KNOWN = RunKnownKind()
RUNS_COUNTED = RunsCountedKind()
