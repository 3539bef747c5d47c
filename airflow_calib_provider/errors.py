"""The error tree.

::

    CalibError                 anything a user is to read; exit code 1
    ├── SpecError              one mistake in a YAML file, with its place; exit code 2
    ├── SpecErrors             all mistakes of a set of files at once; exit code 2
    ├── Mistakes               several of them at once, in what a person asks for
    ├── CommandLineError       an argument of the command line that cannot be meant; exit code 2
    ├── SettingError           an environment variable of ours cannot be meant
    ├── KindError              a backend, lock, ... of a name that nobody or two packages have
    ├── RunSourceError         a run source cannot be read or contradicts itself
    ├── OutsideError           a service that is asked over a network does not answer as it should
    │   ├── NoSuchTag          an outside store of payloads has nothing under a tag
    │   └── StoreError         an outside store of payloads cannot be written
    │       ├── StoreUnavailable   it does not answer now: try again
    │       ├── StoreBusy          somebody else writes it: try again
    │       ├── StoreUnknown       it may have done it or not: look what is there, then go on
    │       ├── StoreRefused       it will not have this: a person must look
    │       ├── StoreUnauthorised  nothing lets us in, or we may not
    │       └── StoreInvalid       it does not understand what it is asked: a bug
    ├── LedgerError            the ledger cannot be opened, read or written
    │   ├── LedgerDown         its database cannot be used now: try again
    │   ├── IllegalTransition  a state change that the state machine does not know
    │   └── NotFound           a run, group, campaign, payload that the ledger does not have
    ├── NotOpen                a task was started although what it waits for is missing
    ├── RenderError            a template cannot be rendered with a group's values
    ├── BackendError           jobs cannot be submitted, seen or removed
    │   └── SubmissionRefused  the batch system will not have these jobs as they are
    ├── ProductError           a product is missing, empty, or outside its folder
    ├── PayloadError           constants cannot be published
    │   └── PayloadStoreDown   the store's disk cannot be written now: try again
    ├── MirrorError            the mirror's target cannot be used, or its connection is not what it should be
    └── AirflowUnreachable     Airflow's REST API does not answer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.secret_addresses import without_secret_addresses

_LONGEST = 500
"""Characters of one part of an error's text."""


class CalibError(Exception):
    """An error meant for people: what is wrong, and what to do about it.

    :param message: what is wrong, and where.
    :param hint: what to do; empty when the message says it already.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Place:
    """Where something stands in a file. ``line`` and ``column`` count from 1; 0 is unknown."""

    file: Path | None = None
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file or '<text>'}:{self.line}:{self.column}"


class SpecError(CalibError):
    """One mistake in a YAML file.

    No part of it repeats the path of an address that stands in the file: it may be a secret one.

    The attributes carry the names of Airflow's ``DagImportError``, so that a DAG importer can pass them on.

    :param message: what is wrong.
    :param place: where.
    :param expected: what would be right.
    :param suggestion: what to do, such as the nearest spelling.
    :param context: the line of the file, for display.
    :param told_in: a file beside, whose mistakes are all that is wrong.
    """

    exit_code = 2

    def __init__(
        self,
        message: str,
        place: Place | None = None,
        *,
        expected: str = "",
        suggestion: str = "",
        context: str = "",
        told_in: str = "",
    ) -> None:
        place = place or Place()
        # Where connections are named, whatever looks like an address was to be kept in one.
        every = "connection" in context or (place.file is not None and place.file.name == "messages.yaml")
        message, suggestion, context = (
            _cut(without_secret_addresses(text, every=every)) for text in (message, suggestion, context)
        )
        expected = _cut(expected)
        super().__init__(message, suggestion)
        self.args = (message, place, expected, suggestion, context, told_in)
        self.place = place
        self.expected = expected
        self.suggestion = suggestion
        self.context = context
        self.told_in = told_in

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_spec_error, self.args

    @property
    def file(self) -> Path | None:
        """Where it is wrong; ``None`` for a text of no file."""
        return self.place.file

    @property
    def line(self) -> int:
        """From 1; 0 where the file as a whole is meant."""
        return self.place.line

    @property
    def column(self) -> int:
        """From 1; 0 where the file as a whole is meant."""
        return self.place.column

    def __str__(self) -> str:
        return "; ".join(part for part in (f"{self.place}: {self.message}", self.expected, self.suggestion) if part)


def _cut(text: str) -> str:
    """A text that a person can read, though a whole file may stand in it: its beginning and its end."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:300]} … ({len(text) - 400:,} more characters) … {text[-100:]}"


def _rebuild_spec_error(
    message: str, place: Place, expected: str, suggestion: str, context: str, told_in: str = ""
) -> SpecError:
    return SpecError(message, place, expected=expected, suggestion=suggestion, context=context, told_in=told_in)


def told_once(errors: Sequence[SpecError]) -> list[SpecError]:
    """Mistakes without those that only say that another file has some, where these are among them."""
    told = {error.file for error in errors if not error.told_in}
    return [
        error
        for error in errors
        if not error.told_in or error.file is None or error.file.with_name(error.told_in) not in told
    ]


class SpecErrors(CalibError):
    """All mistakes of one or more YAML files, in the order of the files."""

    exit_code = 2

    def __init__(self, errors: Sequence[SpecError]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.args = (tuple(errors),)
        self.errors = tuple(errors)


class Mistakes(CalibError):
    """Several things that are wrong with what a person asks for, told at once.

    :param what: what they are wrong with.
    """

    def __init__(self, what: str, errors: Sequence[CalibError]) -> None:
        lines = [f"- {error.message}{f' ({error.hint})' if error.hint else ''}" for error in errors]
        super().__init__("\n".join([f"{len(errors)} mistakes in {what}: nothing was done", *lines]))
        self.args = (what, tuple(errors))
        self.errors = tuple(errors)


class CommandLineError(CalibError):
    """An argument of the command line that cannot be meant."""

    exit_code = 2


class SettingError(CalibError):
    """An environment variable of ours has a value that cannot be meant."""


class KindError(CalibError):
    """A kind has no member of this name, has two, or the member cannot be loaded."""


class RunSourceError(CalibError):
    """A run source cannot be read, or contradicts itself."""


class OutsideError(CalibError):
    """A service that is asked over a network does not answer as it should, or nothing says where it is."""


class NoSuchTag(OutsideError):
    """An outside store of payloads has nothing under a tag."""


class StoreError(OutsideError):
    """An outside store of payloads cannot be written."""


class StoreUnavailable(StoreError):
    """It does not answer now, and has done nothing: try again."""


class StoreBusy(StoreError):
    """Somebody else writes what is to be written: try again."""


class StoreUnknown(StoreError):
    """It was asked, and has not answered: it may have done it or not. Look what is there, then go on."""


class StoreRefused(StoreError):
    """It will not have this, whoever asks: a person must look."""


class StoreUnauthorised(StoreError):
    """Nothing lets us in, or we may not do this: a person must look, at all that is published there."""


class StoreInvalid(StoreError):
    """It does not understand what it is asked: a bug, of ours or of the store's."""


class LedgerError(CalibError):
    """The ledger cannot be opened, read or written."""


class LedgerDown(LedgerError):
    """The ledger's database cannot be used now, as it is locked or away."""


class IllegalTransition(LedgerError):
    """A state change that the state machine does not know."""


class NotFound(LedgerError):
    """A run, group, campaign or payload that the ledger does not have."""


class NotOpen(CalibError):
    """A task was started although what it waits for is missing, as after a person's mark success in Airflow.

    :param reason: what it waits for, structured.
    """

    def __init__(self, message: str, hint: str, reason: Mapping[str, object]) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, reason)
        self.reason = reason


class RenderError(CalibError):
    """A template cannot be rendered with the values of a group."""


class BackendError(CalibError):
    """Jobs cannot be submitted, seen or removed."""


class SubmissionRefused(BackendError):
    """The batch system will not have these jobs as they are: to try again would change nothing."""


class ProductError(CalibError):
    """A product is missing, empty, or lies outside its folder."""


class PayloadError(CalibError):
    """Constants cannot be published."""


class NotPublished(PayloadError):
    """A payload goes no further than a candidate: what must hold before does not.

    :param reason: why, structured.
    """

    def __init__(self, message: str, hint: str, reason: Mapping[str, object]) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, reason)
        self.reason = reason


class NotWithdrawn(PayloadError):
    """A payload was not taken back: an outside store does not give it back, and it holds as before."""


class PayloadStoreDown(PayloadError):
    """The payload store cannot be written now, such as a full disk: nothing is wrong with the payload."""


class OutsideStoreDown(PayloadStoreDown):
    """An outside store does not answer, or has something of the payload on its way: it is taken further later."""


class MirrorError(CalibError):
    """The mirror's target cannot be used as it is, or does not answer. Nothing is lost: the ledger has it all."""


class AirflowUnreachable(CalibError):
    """Airflow's REST API does not answer."""
