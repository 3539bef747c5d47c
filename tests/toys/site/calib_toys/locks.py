"""Locks: part of the statement for all that wait, one that answers by itself, and one that is asked outside."""

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


class BellKeys(Keys):
    """The block ``bell``."""

    file: Annotated[str, Field(description="where it hangs")]


class BellKind(LockKind):
    """Open when somebody has rung, which is asked outside of the ledger."""

    name = "bell"
    keys = BellKeys
    loader = "calib_toys.standing:BELL"
    example = "{bell: {file: /tmp/bell}}"
    of_runs = False

    def on(self, keys: BellKeys) -> str:
        return f"the bell {keys.file}"


RUN_KNOWN = RunKnownKind()
BELL = BellKind()
RUNS_COUNTED = RunsCountedKind()
