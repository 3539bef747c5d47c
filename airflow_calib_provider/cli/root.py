"""How every command ends: exit codes, errors for people and for programs, no tracebacks for what people can mend."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from airflow_calib_provider.cli.output import printable
from airflow_calib_provider.errors import CalibError, CommandLineError, SpecError, SpecErrors

INTERRUPTED = 130
WRONG_USAGE = 2

UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ReaderGone(Exception):
    """Nobody reads the output any more, such as behind ``head``: the reader has what it wanted."""


class RootGroup(TyperGroup):
    """The group of all commands."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Click itself would end with 1 where the reader goes away."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise ReaderGone from None

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command line and exit with its code; all modes are the same here."""
        given = list(sys.argv[1:] if args is None else args)
        as_json = "--json" in given
        try:
            _prepare_output()
            _check_encoding(given)
            code = super().main(given, prog_name, complete_var, standalone_mode=False, **extra)
            sys.stdout.flush()
        except (BrokenPipeError, ReaderGone):
            _close_stdout()
            sys.exit(0)
        except CalibError as error:
            _report(describe(error), as_json, _plain(error))
            sys.exit(error.exit_code)
        except UsageError as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                # Making the error has printed the help; with rich switched off the help is its text.
                if help_text := str(error).strip():
                    print(help_text)
                sys.exit(0)
            _report(_of_usage(error), as_json)
            sys.exit(WRONG_USAGE)
        except OSError as error:
            _report(_of_system(error), as_json)
            sys.exit(1)
        except (KeyboardInterrupt, typer.Abort):
            print("interrupted", file=sys.stderr)
            sys.exit(INTERRUPTED)
        sys.exit(code if isinstance(code, int) else 0)


def _prepare_output() -> None:
    """Make the output take whatever is written, with whatever streams the process was started.

    A stream that is closed takes everything and shows nothing; letters that an encoding has not are written as escapes.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            # Open for as long as the process runs.
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="backslashreplace")


def _check_encoding(arguments: Sequence[str]) -> None:
    """:raises CommandLineError: an argument is no text."""
    for argument in arguments:
        if any("\ud800" <= letter <= "\udfff" for letter in argument):
            raise CommandLineError(f"the argument {argument!a} is no text in UTF-8", "names and numbers are plain text")


def describe(error: CalibError) -> dict[str, object]:
    """An error as programs read it."""
    found: dict[str, object] = {"error": error.message, "hint": error.hint}
    mistakes = error.errors if isinstance(error, SpecErrors) else (error,) if isinstance(error, SpecError) else ()
    if mistakes:
        found["errors"] = [mistake(item) for item in mistakes]
    return found


def mistake(error: SpecError) -> dict[str, object]:
    """One mistake of a YAML file as programs read it."""
    return {
        "file": str(error.file) if error.file else None,
        "line": error.line,
        "column": error.column,
        "message": error.message,
        "expected": error.expected,
        "hint": error.suggestion,
    }


def _plain(error: CalibError) -> str | None:
    return str(error) if isinstance(error, SpecError | SpecErrors) else None


def _of_usage(error: Exception) -> dict[str, object]:
    """A wrong command line."""
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    hint = f"see `{context.command_path} --help`" if context is not None else "see `calib --help`"
    return {"error": message, "hint": hint}


def _of_system(error: OSError) -> dict[str, object]:
    """What the system refused; a folder that was deleted under a shell has no name any more."""
    try:
        Path.cwd()
    except OSError:
        return {"error": "the working directory does not exist any more", "hint": "change to one that does: cd"}
    return {"error": f"{error.filename or 'the system'}: {error.strerror or error}", "hint": ""}


def _report(found: dict[str, object], as_json: bool, plain: str | None = None) -> None:
    if as_json:
        # What cannot be written there is said on standard error.
        with contextlib.suppress(OSError):
            print(json.dumps(found, indent=2), flush=True)
    with contextlib.suppress(OSError):
        if plain is not None:
            print(printable(plain), file=sys.stderr)
            return
        print(f"error: {printable(str(found['error']))}", file=sys.stderr)
        if found["hint"]:
            print(f"hint: {printable(str(found['hint']))}", file=sys.stderr)


def _close_stdout() -> None:
    """The reader went away, such as ``head``; Python would complain once more when it flushes at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
