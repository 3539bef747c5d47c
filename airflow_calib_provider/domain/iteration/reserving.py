"""Reserved workers: jobs that stay, and do what a mailbox asks of them. What of that is a matter of thinking alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# Of each number one way to write it, and none that a ledger cannot keep.
_N = "(0|[1-9][0-9]{0,8})"
_NAME = re.compile(rf"s{_N}\.j{_N}\.a{_N}")
_HANDED_OVER = re.compile(rf"(s[0-9]+\.j[0-9]+\.a[0-9]+)\.w{_N}\.e{_N}")
_HOST = re.compile(r"[A-Za-z0-9._-]{1,200}")
_SHOWN = 40
"""Characters of what a result says that are told."""


class Order(NamedTuple):
    """One attempt of one job of a step, as the mailbox knows it."""

    step: int
    job: int
    attempt: int

    def __str__(self) -> str:
        return f"s{self.step}.j{self.job}.a{self.attempt}"

    @classmethod
    def parse(cls, text: str) -> Order:
        """The inverse of ``str(order)``.

        :raises ValueError: the text is no name of an order.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise ValueError(f"no order: {text!r}")
        return cls(*map(int, found.groups()))


class Worker(NamedTuple):
    """A worker in one of its lives: each replacement is the same worker in the next epoch."""

    number: int
    epoch: int

    def __str__(self) -> str:
        return f"worker {self.number}" + (f" ({self.epoch})" if self.epoch > 1 else "")


class HandedOver(NamedTuple):
    """The name of a result: what it says it is, and whose."""

    order: Order
    worker: Worker

    def __str__(self) -> str:
        return f"{self.order}.w{self.worker.number}.e{self.worker.epoch}"

    @classmethod
    def parse(cls, text: str) -> HandedOver:
        """The inverse of ``str(name)``.

        :raises ValueError: the text is no such name.
        """
        found = _HANDED_OVER.fullmatch(text)
        if found is None:
            raise ValueError(f"no result: {text!r}")
        return cls(Order.parse(found[1]), Worker(int(found[2]), int(found[3])))


@dataclass(frozen=True)
class Beat:
    """The sign of life of a worker.

    :ivar order: the name of what it does; ``-``: nothing.
    :ivar state: ``idle``, ``running`` or ``leaving``.
    :ivar age: seconds, by the clock of the mailbox: that of the worker is nobody's business.
    """

    worker: Worker
    order: str
    state: str
    host: str
    age: float


def share_out(orders: Iterable[Order], idle: Collection[int], alive: Collection[int]) -> dict[Order, int]:
    """Who is to do what: a job is its own worker's, whose inputs are there; another takes it where that one is not.

    :param orders: that nobody has yet.
    :param idle: workers with nothing to do, among those that are alive.
    :returns: some of the orders, each with its worker; no worker has two.
    """
    free = set(idle)
    given: dict[Order, int] = {}
    others: list[Order] = []
    for order in sorted(orders):
        if order.job in free:
            given[order] = order.job
            free.remove(order.job)
        elif order.job not in alive:
            others.append(order)
    for order, number in zip(others, sorted(free), strict=False):
        given[order] = number
    return given


def current_text(serial: int, epochs: Mapping[int, int], orders: Mapping[int, Order], *, stop: bool = False) -> str:
    """What the mailbox says to all workers.

    :param serial: grows with all that can change it, so that a worker knows an older one.
    :param epochs: of each worker that there is to be; one that is not named has nothing to do.
    :param orders: by worker.
    """
    lines = [f"state {'stop' if stop else 'go'}", f"serial {serial}"]
    lines += [f"worker {number} {epoch} {orders.get(number, '-')}" for number, epoch in sorted(epochs.items())]
    return "\n".join([*lines, "end", ""])


def serial_of(step: int, epochs: Iterable[int], attempts: Iterable[int], n_assigned: int) -> int:
    """Grows whenever a step, a worker, an attempt or an assignment is added.

    :param attempts: of the jobs of the step; :param n_assigned: how many of its orders somebody has.
    """
    return step * 10**9 + sum(epochs) * 2 + sum(attempts) + n_assigned


def lost(beats: Mapping[int, Beat], running: Mapping[Worker, float], lost_after: float) -> list[Worker]:
    """Workers that the batch system takes for running, and that give no sign of life.

    :param running: each with the seconds for which it has been running.
    """
    found = []
    for worker, seconds in running.items():
        beat = beats.get(worker.number)
        age = beat.age if beat is not None and beat.worker == worker else seconds
        # Where it is said to have begun well after now, the clock of one of the watchers is wrong.
        if (min(age, seconds) if seconds > -lost_after else age) > lost_after:
            found.append(worker)
    return sorted(found)


def leaving(beats: Mapping[int, Beat], running: Iterable[Worker], busy: Collection[int]) -> list[Worker]:
    """Workers whose wall time is nearly over, and that have nothing to do just now.

    :param busy: workers with an order.
    """
    found = []
    for worker in running:
        beat = beats.get(worker.number)
        if beat is not None and beat.worker == worker and beat.state == "leaving" and worker.number not in busy:
            found.append(worker)
    return sorted(found)


def why_refused(
    name: HandedOver, assigned: Worker | None, present: Mapping[int, int], state: str | None, *, again: bool
) -> str | None:
    """Why a result that lies in the mailbox is not used; ``None``: it is, or will be.

    :param assigned: who was asked for it; ``None``: nobody.
    :param present: the epoch in which each worker is now.
    :param state: of the attempt; ``None``: there is none.
    :param again: that attempt was handed over before.
    """
    if state is None:
        return f"there is no attempt {name.order.attempt} of job {name.order.job} of step {name.order.step}"
    if again:
        return "it was handed over before"
    if assigned is None:
        return "nobody was asked for it"
    if assigned.number != name.worker.number:
        return f"{assigned} was asked for it"
    if assigned.epoch != name.worker.epoch:
        return f"it is of epoch {name.worker.epoch}, and epoch {assigned.epoch} was asked for it"
    if state == "removed":
        return f"it came after step {name.order.step} was frozen"
    if state == "lost":
        epoch = present.get(name.worker.number, 0)
        return "it came after its worker was taken for lost" + (f", and replaced by {epoch}" if epoch else "")
    return None


def host_name(said: object) -> str | None:
    """The name of a machine, if what a worker says of its own is one."""
    return said if isinstance(said, str) and _HOST.fullmatch(said) else None


def check_content(said: object, name: HandedOver) -> str:
    """What is wrong with the content of a result; empty if nothing is."""
    if not isinstance(said, dict):
        return "it is no JSON object"
    stated = (said.get("order"), said.get("worker"), said.get("epoch"))
    wanted: Sequence[object] = (str(name.order), name.worker.number, name.worker.epoch)
    if stated != tuple(wanted):
        order, worker, epoch = (str(one)[:_SHOWN] for one in stated)
        return f"it says that it is {order} of worker {worker} ({epoch}), and lies as {name}"
    code = said.get("exit_code")
    if type(code) is not int or not 0 <= code <= 255 or type(said.get("timeout")) is not bool:
        return "it does not say how the program ended"
    return ""
