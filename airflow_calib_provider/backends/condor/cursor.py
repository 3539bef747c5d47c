"""How far the news of a round have been told: text that is stored with what was made of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping


class Numbers:
    """A set of small whole numbers, written as ranges: ``0-41,43``."""

    def __init__(self, numbers: Iterable[int] = ()) -> None:
        self._numbers = set(numbers)

    @classmethod
    def parse(cls, text: str) -> Numbers:
        """:raises ValueError: the text is not one of ``str()``."""
        made = cls()
        for part in text.split(",") if text else ():
            first, _, last = part.partition("-")
            made._numbers.update(range(int(first), int(last or first) + 1))
        return made

    def __str__(self) -> str:
        return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in self._ranges())

    def _ranges(self) -> Iterator[tuple[int, int]]:
        first = last = None
        for number in sorted(self._numbers):
            if last is not None and number == last + 1:
                last = number
                continue
            if first is not None and last is not None:
                yield first, last
            first = last = number
        if first is not None and last is not None:
            yield first, last

    def __contains__(self, number: object) -> bool:
        return number in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[int]:
        return iter(sorted(self._numbers))

    def add(self, number: int) -> None:
        """Note the end of a proc."""
        self._numbers.add(number)


class Cursor:
    """How far the news of a round were told.

    :ivar offset: how many bytes of the event log were read.
    :ivar inode: of that file; another one is another log.
    :ivar ended: the procs whose end was told.
    :ivar vacated: procs that left their machines, and why: what follows tells whether they are held, or were evicted.
    """

    def __init__(
        self, offset: int = 0, inode: int = 0, ended: Numbers | None = None, vacated: Mapping[int, str] | None = None
    ) -> None:
        self.offset = offset
        self.inode = inode
        self.ended = ended or Numbers()
        self.vacated = dict(vacated or {})

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """A cursor from its text; from one that cannot be read a fresh one: to tell everything again does no harm."""
        try:
            made = json.loads(text) if text else {}
            vacated = {int(proc): str(why) for proc, why in made.get("vacated", {}).items()}
            return cls(
                int(made.get("offset", 0)), int(made.get("inode", 0)), Numbers.parse(made.get("ended", "")), vacated
            )
        except (ValueError, TypeError, AttributeError):
            return cls()

    def __str__(self) -> str:
        vacated = {"vacated": self.vacated} if self.vacated else {}
        return json.dumps({"offset": self.offset, "inode": self.inode, "ended": str(self.ended), **vacated})
