"""The deferred half of RunGroupSensor and LockSensor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TaskSuccessEvent, TriggerEvent

from airflow_calib_provider.hooks.ledger import open_ledger, trigger_url
from airflow_calib_provider.settings import number
from airflow_calib_provider.triggers.poller import LookFailed, Poller, shared
from airflow_calib_provider.triggers.xcom import push

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.locks.base import Look


def look_all(url: str, keys: Sequence[tuple[int, str]]) -> Mapping[tuple[int, str], Look]:
    """One look for all waits of this triggerer; what changed is recorded."""
    from airflow_calib_provider.ledger.waiting import look_and_record

    return look_and_record(open_ledger(url), keys)


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
        from airflow_calib_provider.domain.reasons import render

        url = await trigger_url()
        poller = shared(f"waits {url}", lambda: Poller(partial(look_all, url), number("POLL_INTERVAL")))
        said = None
        async with poller.subscribe((self.group_id, self.task_name)) as queue:
            while True:
                news = await queue.get()
                text = news.message if isinstance(news, LookFailed) else render(news.reason)
                if text and text != said:
                    self.log.info("waits: %s", text)
                    await push(self, "reason", text)
                    said = text
                if isinstance(news, LookFailed) or news.state == "waiting":
                    continue
                if news.state == "open" and not self.back:
                    self.log.info("open")
                    yield TaskSuccessEvent()
                else:
                    if news.state != "open":
                        self.log.error("can never open: %s", text)
                    yield TriggerEvent({"state": news.state})  # type: ignore[no-untyped-call]
                return
