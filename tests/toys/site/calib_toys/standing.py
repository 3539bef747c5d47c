"""How the locks stand in the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, Select, exists, func, select

from airflow_calib_provider.errors import OutsideError
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.locks.base import SATISFIED, LedgerLock, LockRow, Standing, lock, parameter
from airflow_calib_provider.ledger.locks.outside import OutsideLock
from airflow_calib_provider.ledger.outside import OutsideAnswer, Question


class RunKnown(LedgerLock):
    """Part of the statement for all that wait."""

    kind = "run_known"
    texts: ClassVar = {"unheard": "nobody has heard of it"}

    def statement(self, group_ids: Sequence[int]) -> Select[Any]:
        known = exists().where(tables.run.c.number == lock.c.parameters["number"].as_integer())
        return self.as_a_whole(group_ids, parameter("number"), known, "unheard")


class RunsCounted(LedgerLock):
    """Answers by itself, for all such locks at once."""

    kind = "runs_counted"

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        n = connection.execute(select(func.count()).select_from(tables.run)).scalar_one()
        for one in locks:
            wanted = one.parameters["at_least"]
            status = SATISFIED if n >= wanted else f"there are {n}"
            yield Standing(one.group_id, one.task, one.position, self.kind, f"{wanted} runs", status, None)


class Bell(OutsideLock):
    """Asks a file."""

    kind = "bell"

    def questions(self, parameters: Mapping[str, Any], variables: Mapping[str, object]) -> Question:
        return Question(self.kind, {"file": parameters["file"]}, parameters["file"], timedelta(seconds=1))

    def place(self, asked: Mapping[str, Any]) -> str:
        return "bells"

    def ask(self, asked: Mapping[str, Any], before: OutsideAnswer | None, now: datetime) -> OutsideAnswer:
        try:
            said = Path(asked["file"]).read_text()
        except OSError as error:
            raise OutsideError(f"it does not hang there: {error.strerror}") from error
        return OutsideAnswer(said == "ring", "nobody has rung")


RUN_KNOWN = RunKnown()
BELL = Bell()
RUNS_COUNTED = RunsCounted()
