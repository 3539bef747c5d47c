"""Locks on what lies outside of the ledger: it is asked elsewhere, and the answer is a row (rule 60)."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import Connection, String, and_, cast, null, select

from airflow_calib_provider.domain.reasons import Reason
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.ledger.ids import IDS, one_of
from airflow_calib_provider.ledger.locks.base import (
    SATISFIED,
    SKIPPED,
    LedgerLock,
    LockedGroup,
    LockRow,
    Standing,
    group,
    membership,
    read_json,
    skip,
)
from airflow_calib_provider.ledger.outside import Answered, OutsideAnswer, Question, answers_to

FORMING = "is asked when the group is closed"
NOT_ASKED = "was not asked yet"


class _Member(NamedTuple):
    """A run of a group.

    :ivar record: as JSON, where a template uses more than its number.
    :ivar skipped: the tasks for which it is skipped; empty text: all of them.
    """

    run: int
    record: str | None
    skipped: frozenset[str]


class AskedLock(NamedTuple):
    """What a lock asks: a question, or why there is none.

    :ivar run: the run that it is about; ``None``: the group.
    :ivar question: ``None`` where there is only a status.
    """

    lock: LockRow
    run: int | None
    question: Question | None
    status: str = ""


class OutsideLock(LedgerLock):
    """A kind of lock whose answers come from outside."""

    answers = True
    keeps: bool = False
    """Whether how it stands is seen in what it keeps of answers, and not only in whether they open it."""

    def templates(self, parameters: Mapping[str, Any]) -> Iterable[str]:
        """What :meth:`questions` renders."""
        return ()

    def questions(self, parameters: Mapping[str, Any], variables: Mapping[str, object]) -> Question:
        """What a lock asks.

        :param variables: what its templates may use; with ``run`` if it asks for each run.
        :raises RenderError: a template cannot be rendered, or comes to something that cannot be asked.
        """
        raise NotImplementedError

    def ask(self, asked: Mapping[str, Any], before: OutsideAnswer | None, now: datetime) -> OutsideAnswer:
        """Ask, in a thread that may take long, and outside of any transaction.

        :param asked: of the question.
        :param before: the last answer.
        :raises OutsideError: there is no answer; its message tells why.
        """
        raise NotImplementedError

    def place(self, asked: Mapping[str, Any]) -> str:
        """Where a question is asked: not too many are asked there at the same time."""
        raise NotImplementedError

    def connection(self, asked: Mapping[str, Any]) -> str:
        """The Airflow connection that is used to ask it; empty: none."""
        return ""

    def told(self, data: Any) -> str:
        """What is kept of the last answer, in words; empty: nothing that people want to know.

        :param data: of an :class:`~airflow_calib_provider.ledger.outside.OutsideAnswer`.
        """
        return ""

    def asks_each_run(self, parameters: Mapping[str, Any]) -> bool:
        """Whether it asks for each run of the group, instead of once."""
        return bool(parameters.get("each_run"))

    def status(self, known: Answered, run: int | None) -> str:
        """How a lock stands by an answer."""
        return SATISFIED if known.answer.opens else known.answer.said

    def asked(self, connection: Connection, locks: Sequence[LockRow]) -> Iterator[AskedLock]:
        """What these locks ask."""
        members = self._members(connection, locks)
        for row in locks:
            if row.group.closed_at is None:
                yield AskedLock(row, None, None, FORMING)
            elif not self.asks_each_run(row.parameters):
                yield self._asked(row, None, None)
            else:
                for member in members.get(row.group_id, ()):
                    if "" in member.skipped or row.task in member.skipped:
                        yield AskedLock(row, member.run, None, SKIPPED)
                    else:
                        yield self._asked(row, member.run, member.record)

    def _asked(self, row: LockRow, run: int | None, record: str | None) -> AskedLock:
        found = _question(self, row.text, row.group, row.task, run, record)
        return AskedLock(row, run, None, found) if isinstance(found, str) else AskedLock(row, run, found)

    def _members(self, connection: Connection, locks: Sequence[LockRow]) -> Mapping[int, Sequence[_Member]]:
        """The runs of the closed groups that ask for each run."""
        asking = [row for row in locks if row.group.closed_at is not None and self.asks_each_run(row.parameters)]
        if not asking:
            return {}
        reads = any(map(self._reads_runs, {row.text for row in asking}))
        return _members(connection, {row.group_id for row in asking}, reads)

    def _reads_runs(self, text: str) -> bool:
        """Whether its templates use more of a run than its number."""
        return any(map(_reads_run, self.templates(read_json(text))))

    def look_up(self, connection: Connection, locks: Sequence[LockRow]) -> Iterable[Standing]:
        """By what was answered last."""
        asked = list(self.asked(connection, locks))
        wanted = {one.question.digest for one in asked if one.question is not None}
        known = answers_to(connection, wanted, kept=self.keeps)
        for one in asked:
            row = one.lock
            if one.question is None:
                status = one.status
            else:
                found = known.get(one.question.digest)
                answered = found is not None and found.answered_at is not None
                status = self.status(found, one.run) if found is not None and answered else NOT_ASKED
            yield Standing(row.group_id, row.task, row.position, self.kind, self.what(one), status, one.run)

    def what(self, one: AskedLock) -> str:
        """What a lock waits for, for people: the same for all of its runs."""
        return str(one.lock.parameters.get("what") or (one.question.what if one.question is not None else self.kind))

    def never(self, what: str, counts: Mapping[str, int], total: int) -> Reason | None:
        """It may always be answered otherwise; only where all runs are skipped nothing is asked."""
        return super().never(what, counts, total) if total and counts.get(SKIPPED) == total else None


@lru_cache(10_000)
def _question(
    kind: OutsideLock, text: str, of_group: LockedGroup, task: str, run: int | None, record: str | None
) -> Question | str:
    """What a lock asks, or why nothing; made once as long as nothing changes on which it depends.

    :param text: the lock's parameters. :param record: of the run.
    """
    parameters = read_json(text)
    variables = _variables(of_group, task, parameters)
    if run is not None:
        variables["run"] = {"number": run} if record is None else json.loads(record)
    try:
        return kind.questions(parameters, variables)
    except RenderError as error:
        return f"cannot be asked: {error.message}"


@lru_cache(1024)
def _reads_run(template: str) -> bool:
    """Whether a template uses more of a run than its number."""
    from airflow_calib_provider.spec.templates import uses_of

    try:
        return any(use.path[0] == "run" and use.path != ("run", "number") for use in uses_of(template))
    except RenderError:
        return False  # which is told when it is rendered


def _members(connection: Connection, group_ids: Iterable[int], reads: bool) -> Mapping[int, Sequence[_Member]]:
    """The runs of these groups, in their order.

    :param reads: with their records.
    """
    found: dict[int, dict[int, tuple[str | None, set[str]]]] = defaultdict(dict)
    query = _MEMBERS.add_columns(cast(membership.c.record, String) if reads else null())
    for group_id, run, task, record in connection.execute(query, {"ids": sorted(group_ids)}).all():
        _, skipped = found[group_id].setdefault(run, (record, set()))
        if task is not None:
            skipped.add(task)
    return {
        group_id: [_Member(run, record, frozenset(skipped)) for run, (record, skipped) in sorted(runs.items())]
        for group_id, runs in found.items()
    }


_MEMBERS = (
    select(membership.c.group_id, membership.c.run, skip.c.task)
    .join(group, group.c.id == membership.c.group_id)
    .outerjoin(
        skip,
        and_(
            skip.c.campaign == group.c.campaign,
            skip.c.workflow == group.c.workflow,
            skip.c.run == membership.c.run,
        ),
    )
    .where(one_of(membership.c.group_id, IDS), membership.c.state == "grouped")
)


def _variables(of_group: LockedGroup, task: str, parameters: Mapping[str, Any]) -> dict[str, object]:
    """What the templates of a lock may use."""
    return {
        "campaign": of_group.campaign,
        "workflow": of_group.workflow,
        "task": task,
        "group": {
            "name": of_group.name,
            "first_run": of_group.first_run,
            "last_run": of_group.last_run,
            "start": of_group.start.isoformat() if of_group.start else None,
            "end": of_group.end.isoformat() if of_group.end else None,
        },
        "params": parameters.get("params", {}),
    }
