"""The deferred half of RunGroupSensor and LockSensor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_calib_provider.hooks.ledger import open_ledger, trigger_url
from airflow_calib_provider.hooks.links import AwaitedLink, awaited_page
from airflow_calib_provider.settings import number
from airflow_calib_provider.triggers.poller import LookFailed, Poller, shared
from airflow_calib_provider.triggers.xcom import push

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.asking import Asker
    from airflow_calib_provider.ledger.locks.base import Look
    from airflow_calib_provider.outside.connections import OutsideConnection

CONNECTION_TIMEOUT = 30.0
"""Seconds within which Airflow must say what a connection is."""


def look_all(
    url: str, loop: asyncio.AbstractEventLoop, keys: Sequence[tuple[int, str]]
) -> Mapping[tuple[int, str], Look]:
    """One look for all waits of this triggerer; what changed is recorded, and what is due is asked outside."""
    from airflow_calib_provider.ledger.waiting import look_and_record

    ledger = open_ledger(url)
    asker = _asker(url, loop)
    asker.record()
    looks = look_and_record(ledger, keys)
    asker.start([key for key, look in looks.items() if look.state == "waiting"])
    return looks


@cache
def _asker(url: str, loop: asyncio.AbstractEventLoop) -> Asker:
    """Who asks for all that waits in this triggerer: connections can be had in its event loop only."""
    from airflow_calib_provider.hooks.connections import trigger_connection
    from airflow_calib_provider.ledger.asking import Asker

    def connect(name: str) -> OutsideConnection | None:
        return asyncio.run_coroutine_threadsafe(trigger_connection(name), loop).result(CONNECTION_TIMEOUT)

    return Asker(open_ledger(url), connect)


class LedgerWaitTrigger(BaseTrigger):
    """Waits until a group is closed, or until all locks of one of its tasks are open, and ends the task itself.

    What can never open goes back to the worker: ``TaskFailedEvent`` is subject to the task's retries, and
    ``AirflowFailException`` is not.

    :param group_id: the group in the ledger.
    :param task: the task whose locks are waited for; empty: the group itself.
    :param back: go back to the worker when it is open, too: there is more to be done.
    """

    def __init__(self, group_id: int, task: str, back: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.group_id = group_id
        self.task_name = task
        self.back = back

    def serialize(self) -> tuple[str, dict[str, object]]:
        """With these arguments a triggerer makes it again."""
        return f"{type(self).__module__}.{type(self).__name__}", {
            "group_id": self.group_id,
            "task": self.task_name,
            **({"back": True} if self.back else {}),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the ledger says go; all that wait in one ledger share a poller."""
        from airflow_calib_provider.domain.failed_runs import left_out
        from airflow_calib_provider.domain.lock_words import gone_on
        from airflow_calib_provider.domain.reasons import render

        url = await trigger_url()
        loop = asyncio.get_running_loop()
        poller = shared(f"waits {url}", lambda: Poller(partial(look_all, url, loop), number("POLL_INTERVAL")))
        said = None
        async with poller.subscribe((self.group_id, self.task_name)) as queue:
            while True:
                news = await queue.get()
                text = news.message if isinstance(news, LookFailed) else render(news.reason)
                if text and text != said:
                    self.log.info("waits: %s", text)
                    await push(self, "reason", text)
                    await self._lead_on(url)
                    said = text
                if isinstance(news, LookFailed) or news.state == "waiting":
                    continue
                if news.state == "open" and not self.back:
                    self.log.info("open")
                    for line in (*left_out(news.without), *gone_on(news.gone_on)):
                        self.log.warning("%s", line)
                    yield TaskSuccessEvent()
                else:
                    if news.state != "open":
                        self.log.error("can never open: %s", text)
                    yield TriggerEvent({"state": news.state})  # type: ignore[no-untyped-call]
                return

    async def _lead_on(self, url: str) -> None:
        """Let the button of the task lead to what is waited for now: Airflow asked for it when the wait began."""
        instance = self.task_instance
        if instance is None or not self.task_name:
            return
        where = (instance.dag_id, instance.run_id, self.task_name)
        try:
            found = await asyncio.to_thread(lambda: awaited_page(open_ledger(url), *where))
        except Exception as error:  # noqa: BLE001 - whatever it is, the wait goes on, and the reason is in the log
            self.log.warning("the page of what is waited for cannot be found: %s", error)
            return
        await push(self, AwaitedLink().xcom_key, found)
