"""What becomes of a group of which some runs have failed in a needed task (rule 49): pure functions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TYPE_CHECKING

from airflow_calib_provider.domain.model import Model
from airflow_calib_provider.domain.quantities import format_time

if TYPE_CHECKING:
    from airflow_calib_provider.domain.reasons import Reason


class FailedRuns(Model):
    """A group goes on without the runs that have failed in a task that it needs, if they are few.

    :ivar exclude: at most this fraction of the group's runs.
    :ivar after: this long after its failure a run is given up.
    """

    exclude: float = 1.0
    after: timedelta | None = None

    def most(self, n_runs: int) -> int:
        """How many of so many runs may be left out; never all of them.

        A fraction is taken as it is written, so that 0.3 of 10 runs are three.
        """
        return min(int(Fraction(str(self.exclude)) * n_runs), n_runs - 1)


@dataclass(frozen=True)
class Failure:
    """That a run has failed for good in a task that is needed.

    :ivar needs: what is needed, as ``workflow.task``.
    :ivar failed: the task that has failed: that one, or one before it in the same group.
    :ivar said: why, in words.
    """

    needs: str
    failed: str
    at: datetime
    said: str = ""
    lock: str = ""

    def reason(self) -> Reason:
        """Why its run is left out, as it is stored."""
        at = self.at.isoformat(timespec="seconds")
        return {"code": "failed_run", "needs": self.needs, "failed": self.failed, "at": at, "said": self.said}


@dataclass(frozen=True)
class Verdict:
    """What is decided about the runs of a group that have failed.

    :ivar excluded: those without which the group goes on.
    :ivar waits: what is said of each of the others.
    """

    excluded: Mapping[int, Failure]
    waits: Mapping[int, str]


def decided(
    policy: FailedRuns, n_runs: int, failures: Mapping[int, Failure], before: Collection[int], now: datetime
) -> Verdict:
    """Decide about a closed group. More failures than allowed exclude none.

    :param n_runs: all that the group has.
    :param failures: those that have failed, with the first failure of each.
    :param before: runs that the group went on without already, in whichever of its tasks: they count.
    """
    if not failures:
        return Verdict({}, {})
    most, n_failed = policy.most(n_runs), len({*failures, *before})
    if n_failed > most:
        said = f"failed; {n_failed} of {n_runs} runs have, and it goes on without {most} at most"
        return Verdict({}, dict.fromkeys(failures, said))
    due = {run: failure.at + (policy.after or timedelta()) for run, failure in failures.items()}
    waits = {run: f"failed; it goes on without it from {format_time(at)} on" for run, at in due.items() if now < at}
    return Verdict({run: failure for run, failure in failures.items() if run not in waits}, waits)


def left_out(runs: Mapping[int, Reason]) -> list[str]:
    """The runs without which a lock is open, each with why: for the log of who has waited for it."""
    from airflow_calib_provider.domain.reasons import render

    return [f"open without run {run}, {render(why)}" for run, why in sorted(runs.items())]
