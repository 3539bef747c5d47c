"""Ends of tasks that are told to people: what is wrong and what to do, without a traceback of ours in the task's log.

Airflow logs every exception with its traceback. For errors that are meant for people (:class:`CalibError`, and what our
operators raise themselves) that says nothing and hides what does; whatever is not foreseen keeps its traceback.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Concatenate, ParamSpec, TypeVar

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from airflow_calib_provider.domain.escaping import escaped

P = ParamSpec("P")
R = TypeVar("R")
Operator = TypeVar("Operator", bound=BaseOperator)

LONGEST = 200
"""Lines of an error that are logged."""


class ToldFailure(AirflowFailException):
    """The task has failed, and is not tried again."""


class ToldTrouble(AirflowException):
    """The task could not do its work now, and is tried again."""


@contextmanager
def mistakes_are_final(correct: str = "") -> Iterator[None]:
    """What is wrong with what a person asks for is no reason to try again.

    A ledger that cannot be used now is one, and so are a service that does not answer, and somebody who was faster.

    :param correct: how to ask anew, told after the mistakes.
    :raises AirflowFailException: there is a mistake.
    """
    from airflow_calib_provider.errors import CalibError, IllegalTransition, LedgerDown, OutsideError

    try:
        yield
    except (IllegalTransition, LedgerDown, OutsideError):
        raise
    except CalibError as error:
        if isinstance(error.__cause__, OutsideError):  # what a run source says of its service
            raise
        raise AirflowFailException("\n".join([str(error), *([correct] if correct else [])])) from error


def told(method: Callable[Concatenate[Operator, P], R]) -> Callable[Concatenate[Operator, P], R]:
    """Let a method of an operator end without a traceback when it ends with an error for people."""

    @functools.wraps(method)
    def wrapper(self: Operator, /, *args: P.args, **kwargs: P.kwargs) -> R:
        from airflow_calib_provider.errors import CalibError

        try:
            return method(self, *args, **kwargs)
        except AirflowSkipException:
            raise
        except AirflowFailException as error:
            end: AirflowException = ToldFailure(str(error))
        except CalibError as error:
            end = ToldTrouble(str(error))
        _leave_out_tracebacks()
        lines = str(end).splitlines()
        for line in lines[:LONGEST] if len(lines) > 1 else ():
            self.log.error("%s", escaped(line))
        if len(lines) > LONGEST:
            self.log.error("... and %d more lines", len(lines) - LONGEST)
        raise end

    return wrapper


def _leave_out_tracebacks() -> None:
    """Airflow logs through structlog, whose configuration is the process's own: a worker runs one task in it.

    Where it is set up otherwise than in Airflow 3.3, the traceback is in the log as ever.
    """
    import structlog

    processors = structlog.get_config()["processors"]
    if isinstance(processors, list) and _without_traceback not in processors:
        processors.insert(0, _without_traceback)


def _without_traceback(_logger: object, _method: str, event: dict[str, object]) -> dict[str, object]:
    error = sys.exc_info()[1]
    if event.get("exc_info") and isinstance(error, ToldFailure | ToldTrouble):
        del event["exc_info"]
        first, *_ = str(error).splitlines() or [""]
        event["event"] = f"Task failed: {escaped(first)}"
    return event
