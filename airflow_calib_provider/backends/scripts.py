"""From one attempt of one job to a shell script that is carried as one word: what batch systems that run jobs share.

A job's command and environment travel in octal escapes: no character of them means anything to a submit language, a
list of lines, or a shell. What restores and runs them needs nothing but a POSIX shell.
"""

from __future__ import annotations

import contextlib
import functools
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from airflow_calib_provider.backends.wrapping import wrapped
from airflow_calib_provider.checksums import SUMS
from airflow_calib_provider.domain import lengths
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import SubmissionRefused

NOT_ENTERED = 125
"""Exit code of a job that cannot begin: its folder is not there, or a file cannot be written."""

_LONGEST = 120_000
"""Bytes: Linux passes on no longer variable than 128 KiB."""

_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_./:,+=@%^-]+")
_ESCAPES = [f"\\0{byte:03o}" for byte in range(256)]


def encode(script: str) -> str:
    """Text in which no character means anything to a submit file, a shell or a ClassAd; ``printf %b`` restores it."""
    # Line by line, since most lines of a job are those of all jobs of its set.
    return _ESCAPES[ord("\n")].join(map(_encode_line, script.split("\n")))


@functools.lru_cache(maxsize=256)
def _encode_line(line: str) -> str:
    return _NOT_PLAIN.sub(_escape, line)


def _escape(found: re.Match[str]) -> str:
    return _escaped(found[0])


@functools.lru_cache(maxsize=1024)
def _escaped(text: str) -> str:
    return "".join([_ESCAPES[byte] for byte in text.encode()])


def carried(job: JobSubmission, script: str) -> str:
    """A job's script, encoded.

    :raises SubmissionRefused: no process could be started with it.
    """
    try:
        found = encode(script)
    except UnicodeEncodeError as error:
        raise half_of_character(job, error) from None
    if len(found) > _LONGEST:
        raise SubmissionRefused(
            f"command and environment of job {job.index} have {len(found):,} bytes, of which {_LONGEST:,} "
            f"may be passed on; the largest is {lengths.largest(job.command, job.environment)}",
            lengths.HINT,
        )
    return found


def half_of_character(job: JobSubmission, error: UnicodeEncodeError) -> SubmissionRefused:
    """What to say of text that no process could be given."""
    return SubmissionRefused(
        f"command or environment of job {job.index} holds half of a character: {error.object[error.start]!r}"
    )


Wrap = Callable[[JobSubmission, str], list[str]]
"""The last lines of a job's script, of a job and what becomes it."""


def shared_script(job: JobSubmission, first: Iterable[str] = (), wrap: Wrap = wrapped) -> str:
    """What a job executes that sees the same file system.

    :param first: lines that run before the command, in ``out``.
    :param wrap: what stands between the batch system and the job.

    It makes its folder itself, with the permissions that it would have from this process: one for each job, on a file
    system that many share, costs more than all else of a submission. A job that is started again after an eviction
    begins with empty folders, as at its first start.
    """
    folder = shlex.quote(str(job.folder))
    command = f"exec {shlex.join(job.command)} >../stdout 2>../stderr </dev/null"
    inner = "\n".join([*map(export, job.environment.items()), command])
    return "\n".join(
        [
            # Nothing above it: where the file system is not mounted, the job is to fail, and not to write elsewhere.
            f"d={folder}",
            f'{{ [ -d "$d" ] || mkdir -m {folder_mode():o} "$d"; }} && cd "$d" || exit {NOT_ENTERED}',
            f"rm -rf out report.jsonl {SUMS}",
            *[f"printf %s {shlex.quote(text)} >{name} || exit {NOT_ENTERED}" for name, text in job.lists.items()],
            f"mkdir out && cd out && : >../stdout && : >../stderr || exit {NOT_ENTERED}",
            *first,
            *wrap(job, inner),
        ]
    )


@functools.lru_cache(maxsize=1)
def folder_mode() -> int:
    """What :func:`os.mkdir` gives a folder in this process."""
    # Asked of the kernel, since os.umask would change it for all threads at once.
    with contextlib.suppress(OSError):
        found = re.search(r"^Umask:\s*([0-7]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
        if found is not None:
            return 0o777 & ~int(found[1], 8)
    return 0o755


@functools.lru_cache(maxsize=256)
def export(variable: tuple[str, str]) -> str:
    """The line that sets a variable, given with its name."""
    name, value = variable
    return f"export {name}={shlex.quote(value)}"


def any_of(paths: Iterable[str]) -> re.Pattern[str]:
    """One of these paths, and not a part of another one: ``/backup/data`` and ``/data2`` are not ``/data``."""
    longest_first = "|".join(re.escape(path) for path in sorted(paths, key=len, reverse=True))
    # After an option without a space, as in -I/data, and in a URL of a file it is itself.
    return re.compile(rf"(?:(?<=file://)|(?<![\w./~+%@-])(?:--?\w[\w-]*?)?)({longest_first})(?![\w.~+%@-])")


def with_moved_paths(text: str, moved: Mapping[str, str], paths: re.Pattern[str]) -> str:
    """A shell word in which every path that was moved is replaced, by one in the folder ``CALIB_SCRATCH``.

    Also at the begin of a longer path; the longest one that begins at a place counts.

    :param moved: path on this side → relative to that folder; empty: the folder itself.
    :param paths: :func:`any_of` them.
    """
    parts: list[str] = []
    done = 0
    for found in paths.finditer(text):
        if found.start(1) > done:
            parts.append(shlex.quote(text[done : found.start(1)]))
        name = moved[found[1]]
        parts.append('"$CALIB_SCRATCH"' + (f"/{shlex.quote(name)}" if name else ""))
        done = found.end(1)
    if done < len(text) or not parts:
        parts.append(shlex.quote(text[done:]))
    return "".join(parts)
