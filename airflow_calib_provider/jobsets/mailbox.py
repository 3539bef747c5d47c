"""The mailbox of reserved workers: a folder that they and the watcher see. No file in it is ever seen in part.

::

    workers/mailbox/
        worker.sh                the program of the workers
        current                  what is wanted of whom; made of the ledger, and only after its commit
        rounds/<s3.r7>           the orders of a round; there when all of them are
        orders/<s3.j0.a1>        the script of an attempt
        given/<s3.j0.a1>         who is to do it: the first who says so has said it
        beats/<worker>           signs of life
        results/<s3.j0.a1.w0.e1> how it ended, put there by the worker, once
        outputs/                 what a result names, of workers that share no files with the watcher
        taken/, refused/         results that were looked at
        clock                    by which the age of a beat is told
"""

from __future__ import annotations

import errno
import json
import os
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from airflow_calib_provider.domain.iteration.reserving import Beat, HandedOver, Order, Worker, current_text
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.freshness import age_of
from airflow_calib_provider.jobsets.step_files import write_whole

_PARTS = ("rounds", "orders", "given", "beats", "results", "outputs", "taken", "refused")
_MOST = 1 << 16
"""Bytes that are read of what a worker wrote."""

_LONGEST = 240
"""Bytes of the name of a file, of the 255 that there may be."""

_NOBODY = Worker(-1, 0)
_NOTHING = Order(0, 0, 0)
"""That is given to nobody when a mailbox is made."""


@dataclass(frozen=True)
class AwaitedResults:
    """What the watcher of reserved workers waits for.

    :ivar folder: of the results that were not looked at yet.
    :ivar n: with so many of them there is something to do.
    """

    folder: str
    n: int

    def here(self) -> bool:
        """Whether they are there, as far as a list of the folder says, which may be old."""
        n = 0
        with suppress(OSError), os.scandir(self.folder) as found:
            for one in found:
                n += not one.name.startswith(".")
                if n >= self.n:
                    return True
        return False


@lru_cache(maxsize=1)
def _program() -> str:
    return Path(__file__).with_name("worker.sh").read_text(encoding="utf-8")


class Mailbox:
    """The mailbox of one generation.

    :param folder: of the mailbox.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """Make what workers find; doing it again changes nothing.

        :raises BackendError: its file system knows no hard links, without which nothing is handed over once.
        :raises OSError: it cannot be written.
        """
        for part in _PARTS:
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        try:
            self.give(_NOTHING, _NOBODY)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            said = (
                f"workers cannot be reserved: {self.folder} is on a file system without hard links ({error.strerror})"
            )
            raise BackendError(said, "reserve: false; or let CALIB_HOME lie elsewhere") from error
        if _text(self.folder / "worker.sh") != _program():
            write_whole(self.folder / "worker.sh", _program())

    @property
    def prepared(self) -> bool:
        """Whether workers find something."""
        return (self.folder / "rounds").is_dir()

    # what is asked for

    def put(self, key: RoundKey, scripts: Iterable[tuple[Order, str]]) -> None:
        """Put the orders of a round here."""
        orders = []
        for order, script in scripts:
            write_whole(self.folder / "orders" / str(order), script)
            orders.append(str(order))
        write_whole(self._round(key), "\n".join([*orders, ""]))

    def orders_of(self, key: RoundKey) -> list[Order] | None:
        """The orders of a round; ``None``: it is not here."""
        text = _text(self._round(key))
        return None if text is None else [Order.parse(line) for line in text.split()]

    def _round(self, key: RoundKey) -> Path:
        return self.folder / "rounds" / f"s{key.step}.r{key.round}"

    def give(self, order: Order, worker: Worker) -> None:
        """Say who is to do it, unless somebody has said so."""
        place = self.folder / "given" / str(order)
        part = place.with_name(f".{order}.{os.getpid()}-{threading.get_ident()}")
        part.write_text(f"{worker.number} {worker.epoch}\n", encoding="utf-8")
        try:
            with suppress(FileExistsError):
                os.link(part, place)
        finally:
            part.unlink()

    def given(self, order: Order) -> Worker | None:
        """Who is to do it; nobody that there is, if the file is damaged as after a power cut: it is asked for anew."""
        text = _text(self.folder / "given" / str(order))
        if text is None:
            return None
        try:
            number, epoch = map(int, text.split())
        except ValueError:
            return _NOBODY
        return Worker(number, epoch)

    def say(self, text: str) -> bool:
        """Let all workers know; whether that is new."""
        if _text(self.folder / "current") == text:
            return False
        write_whole(self.folder / "current", text)
        return True

    def open(self) -> None:
        """Workers may come, also where others were told to stop."""
        if (_text(self.folder / "current") or "state stop").startswith("state stop"):
            self.say(current_text(0, {}, {}))

    # what workers say

    def beats(self, numbers: Iterable[int]) -> dict[int, Beat]:
        """The last sign of life of each of these workers."""
        wanted = list(numbers)
        if not wanted:
            return {}
        clock = self.folder / "clock"
        clock.touch()  # by the clock of whoever keeps the files
        here = clock.stat().st_mtime
        found = {}
        for number in wanted:
            with suppress(OSError, ValueError):
                file = self.folder / "beats" / str(number)
                text, changed = _said(file)
                epoch, order, state, host = text.split()
                age = age_of(str(file), (text, changed), here - changed)
                found[number] = Beat(Worker(number, int(epoch)), order, state, host, age)
        return found

    def result(self, name: HandedOver) -> object:
        """What a worker handed over; ``None``: nothing yet. Text that is no JSON is told as it is."""
        for part in ("results", "taken"):
            with suppress(FileNotFoundError):
                text, _ = _said(self.folder / part / str(name))
                try:
                    found = json.loads(text)
                except (ValueError, RecursionError):
                    return text[:200]
                # It has come, and would be waited for for ever.
                return text[:200] if found is None else found
        return None

    def handed_over(self) -> list[str]:
        """The names of all results that were not looked at yet."""
        with suppress(FileNotFoundError):
            found = (file.name for file in (self.folder / "results").iterdir())
            return sorted(name for name in found if not name.startswith("."))
        return []

    def came_again(self, name: HandedOver) -> bool:
        """Whether a result lies here, and one of this name was used before."""
        # In this order: another watcher may be putting it away.
        return (self.folder / "taken" / str(name)).exists() and (self.folder / "results" / str(name)).exists()

    def put_away(self, name: str, *, refused: bool) -> None:
        """A result was looked at."""
        part = self.folder / ("refused" if refused else "taken")
        target = part / name
        if refused:
            self._discard(name)
            short = os.fsdecode(os.fsencode(name)[:_LONGEST])
            numbers = (part / f"{short}.{n}" for n in range(1, 1000))
            target = next((one for one in (target, *numbers) if not one.exists()), target)
        with suppress(FileNotFoundError):  # by another watcher
            (self.folder / "results" / name).rename(target)

    def _discard(self, name: str) -> None:
        """What a result names that is not used is for nobody."""
        with suppress(ValueError, FileNotFoundError):
            for one in (self.folder / "outputs").glob(f"{HandedOver.parse(name)}.*.tar"):
                one.unlink(missing_ok=True)


def _text(file: Path) -> str | None:
    """What stands in a file, which is opened by its name: a list of a folder may be old. ``None``: it is not there."""
    try:
        with file.open("rb") as stream:
            return stream.read().decode("utf-8", "replace")
    except (FileNotFoundError, IsADirectoryError):
        return None


def _said(file: Path) -> tuple[str, float]:
    """What a worker wrote, and when; no more than it may be, and nothing of what is no file, or leads elsewhere.

    :raises OSError: it is not there, or cannot be read.
    """
    try:
        number = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            return "", 0.0
        raise
    status = os.fstat(number)
    if not stat.S_ISREG(status.st_mode):
        os.close(number)
        return "", status.st_mtime
    with os.fdopen(number, "rb") as stream:
        return stream.read(_MOST).decode("utf-8", "replace"), status.st_mtime


def named(names: Sequence[str]) -> list[tuple[str, HandedOver | None]]:
    """Names of results as what they say; ``None``: nothing."""
    found: list[tuple[str, HandedOver | None]] = []
    for name in names:
        try:
            found.append((name, HandedOver.parse(name)))
        except ValueError:
            found.append((name, None))
    return found
