"""The deferred half of MirrorOperator: carries events to an InfluxDB, all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_calib_provider.hooks.influxdb import trigger_target
from airflow_calib_provider.hooks.ledger import open_ledger, trigger_url
from airflow_calib_provider.settings import number
from airflow_calib_provider.triggers.xcom import push

if TYPE_CHECKING:
    from airflow_calib_provider.mirror.carrier import Carrier
    from airflow_calib_provider.mirror.target import InfluxTarget

LOOK_AGAIN = 30.0
"""Seconds between two looks at the connection."""


class MirrorTrigger(BaseTrigger):
    """Carries events to an InfluxDB until it is time for the next DAG run. Whatever happens, it goes on.

    :param connection_id: the Airflow connection.
    :param until: seconds since 1970.
    """

    def __init__(self, connection_id: str, until: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.connection_id = connection_id
        self.until = until
        self._said = ""

    def serialize(self) -> tuple[str, dict[str, object]]:
        """With these arguments a triggerer makes it again."""
        arguments = {"connection_id": self.connection_id, "until": self.until}
        return f"{type(self).__module__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Carry events until the time is up, as long as there is a target."""
        state = "ended"
        while time.time() < self.until:
            target = await self._first_target()
            if target is None:
                state = "no_connection" if time.time() < self.until else state
                break
            await self._carry(target)
        yield TriggerEvent({"state": state})  # type: ignore[no-untyped-call]

    async def _first_target(self) -> InfluxTarget | None:
        """The connection, waited for; ``None`` if nobody makes one, or corrects it in time."""
        end = min(time.time() + number("MIRROR_PATIENCE"), self.until)
        while True:
            target, trouble = await self._fetch()
            if target is not None:
                return target
            missing = not trouble
            await self._say(trouble or f"no connection {self.connection_id}: it is looked for again and again")
            if time.time() >= (end if missing else self.until):
                return None
            await asyncio.sleep(LOOK_AGAIN if missing else min(LOOK_AGAIN, 5.0))

    async def _fetch(self) -> tuple[InfluxTarget | None, str]:
        """What the connection says now, or what is wrong with it."""
        try:
            return await trigger_target(self.connection_id), ""
        except Exception as error:  # noqa: BLE001 - somebody may correct it, or Airflow may answer again
            return None, f"the connection {self.connection_id} cannot be used: {error}"

    async def _carry(self, target: InfluxTarget) -> None:
        """Carry to this target until it is time, or until the connection says something else."""
        url = await trigger_url()
        carrier: Carrier | None = None
        due, look_at = 0.0, time.monotonic() + LOOK_AGAIN
        try:
            while time.time() < self.until:
                clock = time.monotonic()
                if clock >= look_at:
                    look_at = clock + LOOK_AGAIN
                    if await self._has_changed(target):
                        return
                if clock >= due:
                    try:
                        if carrier is None:
                            carrier = await asyncio.to_thread(_carrier, url, target)
                        step = await asyncio.to_thread(carrier.step)
                        pause, trouble = step.pause, step.trouble
                    except Exception as error:  # noqa: BLE001 - such as a ledger that is down; the events wait there
                        self.log.warning("a step of the mirror failed: %s: %s", type(error).__name__, error)
                        pause, trouble = 5.0, f"{type(error).__name__}: {error}"
                    due = time.monotonic() + pause
                    await self._say(trouble or f"carries to {target.place}")
                # A target may ask for a pause that is longer than people wait for an edited connection.
                await asyncio.sleep(max(0.0, min(min(due, look_at) - time.monotonic(), self.until - time.time())))
        finally:
            if carrier is not None:
                await asyncio.shield(asyncio.to_thread(_end, carrier))

    async def _has_changed(self, target: InfluxTarget) -> bool:
        """Whether somebody edited or deleted the connection; not, if that cannot be seen now."""
        fetched, trouble = await self._fetch()
        return not trouble and fetched != target

    async def _say(self, text: str) -> None:
        """Tell people, if it is something new."""
        if text != self._said:
            self._said = text
            self.log.info("mirror: %s", text)
            await push(self, "reason", text)


def _carrier(url: str, target: InfluxTarget) -> Carrier:
    from airflow_calib_provider.mirror.carrier import Carrier
    from airflow_calib_provider.mirror.client import InfluxClient
    from airflow_calib_provider.mirror.sampling import sample

    return Carrier(open_ledger(url), InfluxClient(target), before_step=sample)


def _end(carrier: Carrier) -> None:
    carrier.release()
    carrier.client.close()
