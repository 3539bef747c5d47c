"""One poller for everything of a kind that waits in this triggerer.

Deferred tasks that look at the same thing would each ask the ledger; instead they subscribe here, and one look serves
all of them. The look runs in a thread: nothing blocks the triggerer's event loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

import structlog

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
T = TypeVar("T")

GLANCE = 0.25
"""Seconds between two glances; longer where they take more than a tenth of the time."""


class LookFailed:
    """What subscribers get when a look failed: they go on waiting, and say why."""

    def __init__(self, message: str) -> None:
        self.message = message


class Poller(Generic[K, V]):
    """Looks at all subscribed keys, again and again, while there are any.

    :param look: called in a thread with the keys; returns what is known of each.
    :param interval: seconds between two looks.
    :param glance: called in a thread with the last news, again and again between two looks: which keys are worth a look
        at once, by what costs next to nothing.
    """

    def __init__(
        self,
        look: Callable[[Sequence[K]], Mapping[K, V]],
        interval: float,
        glance: Callable[[Mapping[K, V]], Sequence[K]] | None = None,
    ) -> None:
        self._look = look
        self._interval = interval
        self._glance = glance
        self._queues: dict[K, set[asyncio.Queue[V | LookFailed]]] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @asynccontextmanager
    async def subscribe(self, key: K) -> AsyncIterator[asyncio.Queue[V | LookFailed]]:
        """A queue that always holds the latest news of a key only."""
        queue: asyncio.Queue[V | LookFailed] = asyncio.Queue(maxsize=1)
        self._queues.setdefault(key, set()).add(queue)
        self._hurry.set()
        if self._task is None or self._task.done():
            # An empty context: log lines of the poller belong to no trigger's task log.
            self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())
        try:
            yield queue
        finally:
            self._queues[key].discard(queue)
            if not self._queues[key]:
                del self._queues[key]

    async def _run(self) -> None:
        failures = 0
        while self._queues:
            self._hurry.clear()
            known = await self._tell(list(self._queues))
            failures = failures + 1 if known is None else 0
            until = time.monotonic() + self._interval * min(30, 2**failures)
            while known and (early := await self._early(known, until)):
                news = await self._tell(early)
                if news is None:
                    break
                known = {**known, **news}
            await self._pause(max(0.0, until - time.monotonic()))

    async def _tell(self, keys: Sequence[K]) -> Mapping[K, V] | None:
        """Look at these, and let all that wait for them know; ``None``: it failed."""
        failed = False
        try:
            news: Mapping[K, V | LookFailed] = await asyncio.to_thread(self._look, keys)
        except Exception as error:  # noqa: BLE001 - whatever it is, all that wait must hear of it and go on
            failed = True
            await log.aexception("a look at what deferred tasks wait for failed")
            news = {key: LookFailed(f"{type(error).__name__}: {error}") for key in keys}
        for key, value in news.items():
            for queue in self._queues.get(key, ()):
                _replace(queue, value)
        return None if failed else {key: value for key, value in news.items() if not isinstance(value, LookFailed)}

    async def _early(self, known: Mapping[K, V], until: float) -> list[K]:
        """The keys that are worth a look before it is time for all; none, if it is, or somebody has come."""
        pause = GLANCE
        while self._glance is not None and not self._hurry.is_set() and time.monotonic() + pause < until:
            await asyncio.sleep(pause)
            began = time.monotonic()
            mine = {key: value for key, value in known.items() if key in self._queues}
            try:
                found = await asyncio.to_thread(self._glance, mine) if mine else ()
            except Exception:  # noqa: BLE001 - the look itself comes all the same, and says what is wrong
                await log.aexception("a glance at what deferred tasks wait for failed")
                return []
            if found:
                return list(found)
            pause = max(GLANCE, 10 * (time.monotonic() - began))
        return []

    async def _pause(self, seconds: float) -> None:
        # A newcomer is looked at soon, but a burst of newcomers together.
        try:
            await asyncio.wait_for(self._hurry.wait(), timeout=seconds)
            await asyncio.sleep(min(0.2, seconds))
        except TimeoutError:
            pass


def _replace(queue: asyncio.Queue[T], value: T) -> None:
    if queue.full():
        queue.get_nowait()
    queue.put_nowait(value)


_pollers: dict[str, tuple[asyncio.AbstractEventLoop, Poller[Any, Any]]] = {}


def shared(name: str, make: Callable[[], Poller[K, V]]) -> Poller[K, V]:
    """The poller of this name in the running event loop, made at its first use."""
    loop = asyncio.get_running_loop()
    # The loop itself is kept, not its id, which another one may have after it.
    if name not in _pollers or _pollers[name][0] is not loop:
        _pollers[name] = (loop, make())
    return _pollers[name][1]
