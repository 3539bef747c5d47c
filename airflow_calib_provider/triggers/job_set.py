"""The deferred half of JobsOperator: watches a job set until it ends."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_calib_provider.hooks.backends import backend_of, prepare
from airflow_calib_provider.hooks.ledger import open_ledger, trigger_url
from airflow_calib_provider.kinds import DEFAULT_BACKEND
from airflow_calib_provider.settings import number
from airflow_calib_provider.triggers.poller import LookFailed, Poller, shared
from airflow_calib_provider.triggers.xcom import push

if TYPE_CHECKING:
    from airflow_calib_provider.jobsets.advance import GenerationStanding

log = structlog.get_logger(__name__)

KILL_PATIENCE = 1800.0
"""Seconds for which a kill that a backend does not carry out is tried again; then housekeeping has its turn."""

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0
"""Seconds between two tries of a kill."""

_settling: set[asyncio.Task[None]] = set()
"""Kills on their way: the event loop alone would let them be forgotten."""

PREPARE_AGAIN = 30.0
"""Seconds after which a backend in trouble is prepared again: somebody may have corrected its connection."""

_prepared: dict[str, float] = {}
"""When each backend was prepared last, by the monotonic clock."""


def advance_all(url: str, generation_ids: Sequence[int]) -> Mapping[int, GenerationStanding]:
    """One step for all job sets of a backend in this triggerer."""
    from airflow_calib_provider.jobsets.advance import advance

    return advance(open_ledger(url), backend_of, generation_ids, datetime.now(UTC))


def worth_a_look(standings: Mapping[int, GenerationStanding]) -> list[int]:
    """Those for which reserved workers have handed over what their next step waits for.

    Of one in trouble that may lie there for long: it is looked at with all others.
    """
    return [
        number
        for number, standing in standings.items()
        if standing.awaited is not None and not standing.trouble and standing.awaited.here()
    ]


class JobSetTrigger(BaseTrigger):
    """Submits, watches and resubmits the jobs of a generation.

    It never removes anything when it ends, is handed over, or dies. It removes jobs only when Airflow itself says that
    its task has ended and the ledger still has its own generation running (rule 19).

    :param generation_id: the generation in the ledger.
    :param backend: the name of its backend. Job sets are watched together by backend, so that one that does not answer
        delays nobody else.
    """

    def __init__(self, generation_id: int, backend: str = DEFAULT_BACKEND) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.generation_id = generation_id
        self.backend = backend

    def serialize(self) -> tuple[str, dict[str, object]]:
        """With these arguments a triggerer makes it again."""
        arguments = {"generation_id": self.generation_id, "backend": self.backend}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the job set has ended; all of one backend and ledger share a poller."""
        url = await trigger_url()
        await self._prepare(at_once=True)
        name = f"job sets of {self.backend} in {url}"
        poller = shared(name, lambda: Poller(partial(advance_all, url), number("WATCH_INTERVAL"), worth_a_look))
        said = None
        async with poller.subscribe(self.generation_id) as queue:
            while True:
                news = await queue.get()
                if isinstance(news, LookFailed) or news.trouble:
                    await self._prepare()
                if isinstance(news, LookFailed):
                    text = news.message
                else:
                    text = ", ".join(f"{n} {state}" for state, n in sorted(news.counts.items()))
                    text = "; ".join(part for part in (text, news.said, news.trouble) if part)
                if text != said:
                    self.log.info("jobs: %s", text)
                    await push(self, "reason", text)
                    said = text
                if not isinstance(news, LookFailed) and news.state != "running":
                    payload = {"generation_id": self.generation_id, "state": news.state}
                    yield TriggerEvent(payload)  # type: ignore[no-untyped-call]
                    return

    async def _prepare(self, *, at_once: bool = False) -> None:
        """Let the backend's settings be fetched; of many triggers of a backend in trouble one does it for all."""
        clock = time.monotonic()
        if not at_once and clock - _prepared.get(self.backend, float("-inf")) < PREPARE_AGAIN:
            return
        _prepared[self.backend] = clock
        try:
            await prepare(self.backend)
        except Exception as error:  # noqa: BLE001 - the watch goes on: the next step says what is missing
            self.log.warning("the backend %s cannot be prepared: %s", self.backend, error)

    async def on_kill(self) -> None:
        """Called for a kill, but also when a trigger was handed to another triggerer: so ask Airflow what is true.

        Airflow waits for half a minute only, and a backend may be silent for longer: the removal goes on after that.
        """
        task = asyncio.get_running_loop().create_task(self._settle(), context=contextvars.Context())
        _settling.add(task)
        task.add_done_callback(_settling.discard)
        await asyncio.shield(task)

    async def _settle(self) -> None:
        """Bring the jobs in line with Airflow, again and again while that fails, for :data:`KILL_PATIENCE`.

        The state is asked for each time: a clear in the meantime lets the same generation go on.
        """
        until, pause = time.monotonic() + KILL_PATIENCE, FIRST_PAUSE
        where = {"generation": self.generation_id, "backend": self.backend}
        while True:
            try:
                url = await trigger_url()
                # Before Airflow is asked: a clear that comes after its answer is then seen as one.
                tries = await asyncio.to_thread(_max_tries, url, self.generation_id)
                state = await self._airflow_state()
                await self._prepare(at_once=True)
                done = await asyncio.to_thread(_settle, url, self.generation_id, state, tries)
            except Exception as error:  # noqa: BLE001 - whatever it is, a person wants these jobs gone
                if time.monotonic() + pause > until:
                    await log.aerror("a kill could not be carried out; housekeeping will", **where, error=str(error))
                    return
                await log.awarning("a kill is tried again", **where, seconds=pause, error=str(error))
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE, 2 * pause)
                continue
            await log.ainfo("Airflow's task has ended", **where, state=state, done=done)
            return

    async def _airflow_state(self) -> str | None:
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetTaskStates, TaskStatesResult

        instance = self.task_instance
        if instance is None:
            return None
        message = GetTaskStates(dag_id=instance.dag_id, task_ids=[instance.task_id], run_ids=[instance.run_id])
        answer = await task_runner.SUPERVISOR_COMMS.asend(message)
        if not isinstance(answer, TaskStatesResult):
            return None
        state = (answer.task_states.get(instance.run_id) or {}).get(instance.task_id)
        return None if state is None else str(state)


def _max_tries(url: str, generation_id: int) -> int:
    from airflow_calib_provider.ledger import generations

    with open_ledger(url).read() as connection:
        return int(generations.by_id(connection, generation_id).max_tries)


def _settle(url: str, generation_id: int, state: str | None, max_tries: int) -> str:
    from airflow_calib_provider.jobsets.kill import settle

    return settle(open_ledger(url), backend_of, generation_id, state, datetime.now(UTC), max_tries)
