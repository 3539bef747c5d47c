"""What a reserved worker is given to run: a shell script, with what the worker is to know of it in front.

A worker that shares files with this side runs what any job there runs. For one that does not, the script names the
files that it fetches first; what they are in its own folder is known before, as each lies under its whole path there.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from airflow_calib_provider.backends.scripts import NOT_ENTERED, any_of, shared_script, with_moved_paths
from airflow_calib_provider.checksums import SUMS
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import SubmissionRefused
from airflow_calib_provider.jobsets.attempts import INPUTS

CONSTANTS, DIGEST = "CALIB_CONSTANTS", "CALIB_CONSTANTS_SHA256"
LARGE = 1 << 30
"""Bytes of a product that no worker is kept from its next order for."""

INPUTS_FILE, RUNS_FILE = "CALIB_INPUTS", "CALIB_RUNS_FILE"

_FETCH = f"""\
if [ -n "${{FETCHED_INPUTS:-}}" ]; then
while IFS= read -r input; do
case $input in /*)
here=$FETCHED_INPUTS$input
[ -f "$here" ] || [ ! -f "$input" ] ||
{{ mkdir -p "${{here%/*}}" && cp "$input" "$here.part" && mv "$here.part" "$here"; }}
[ ! -f "$here" ] || input=$here;;
esac
printf '%s\\n' "$input"
done <../{INPUTS} >../{INPUTS}.part && mv ../{INPUTS}.part ../{INPUTS}
fi"""
"""A worker that has a place of its own for it copies the files of its share once; URLs are the program's business."""


def shared_order(job: JobSubmission, there: JobSubmission) -> str:
    """The order of workers that see the files of this side.

    :param there: the same job with the paths that they have.
    """
    head = _head(job, there.environment.get(CONSTANTS))
    return "\n".join([*head, shared_script(there, [_FETCH] if INPUTS in there.lists else [], _summed), ""])


def carried_order(job: JobSubmission, step: int, generation: Path) -> str:
    """The order of workers that reach the files of this side through a mailbox alone.

    :param generation: its folder: what lies there is of one step, and all else is fetched once, until it changes.
    :raises SubmissionRefused: a file is not there, or is a folder.
    """
    files = _files(job)
    places = {path: _place(job, path, step, generation) for path in files}
    own = f"order/{INPUTS}"
    moved = {path: f"fetched/{place}{os.path.abspath(path)}" for path, (_, place) in places.items()}  # noqa: PTH100
    moved |= {job.environment[INPUTS_FILE]: own} if INPUTS_FILE in job.environment else {}
    moved[str(job.folder)] = "order"
    paths = any_of(moved)

    def quoted(text: str) -> str:
        return with_moved_paths(text, moved, paths)

    constants = job.environment.get(CONSTANTS)
    head = [f"# file {mode:o} {place} {os.path.abspath(path)}" for path, (mode, place) in places.items()]  # noqa: PTH100
    named = None if constants is None else moved[constants]
    inner = "\n".join(
        [
            "CALIB_SCRATCH=$1",
            *(f"export {name}={quoted(value)}" for name, value in job.environment.items()),
            f"exec {' '.join(quoted(word) for word in job.command)} </dev/null",
        ]
    )
    return "\n".join(
        [
            *_head(job, named, head),
            "CALIB_SCRATCH=$_CONDOR_SCRATCH_DIR",
            'set -- "$CALIB_SCRATCH"',
            f'cd "$CALIB_SCRATCH" && rm -rf order && mkdir -p order/out && cd order || exit {NOT_ENTERED}',
            f": >report.jsonl && : >{SUMS} && exec >stdout 2>stderr || exit {NOT_ENTERED}",
            f": >{INPUTS} || exit {NOT_ENTERED}",
            *(f"printf '%s\\n' {quoted(path)} >>{INPUTS}" for path in job.inputs),
            f"cd out || exit {NOT_ENTERED}",
            *_summed(job, inner),
            "",
        ]
    )


def _head(job: JobSubmission, constants: str | None, files: Iterable[str] = ()) -> list[str]:
    head = []
    if job.timeout:
        head.append(f"# timeout {max(1, round(job.timeout))}")
    if constants is not None and DIGEST in job.environment:
        head.append(f"# constants {job.environment[DIGEST]} {constants}")
    return [*head, *files]


def _summed(job: JobSubmission, inner: str) -> list[str]:
    """The last lines of an order: the job, and the checksums of its products.

    A worker sees to signals and time limits itself. A Python that is started for it in each step costs more than many a
    step does; large products, and all where there is no ``sha256sum``, get theirs later, elsewhere.
    """
    if not job.products:
        return [inner]
    return [
        f"inner={shlex.quote(inner)}",
        'sh -c "$inner" sh "$@"',
        "code=$?",
        '[ "$code" = 0 ] && command -v sha256sum >/dev/null || exit "$code"',
        f"for file in {shlex.join(job.products)}; do",
        f'[ -f "$file" ] && [ $(($(wc -c <"$file"))) -lt {LARGE} ] || continue',
        'digest=$(sha256sum <"$file") && printf "%s  %s\\n" "${digest%% *}" "$file"',
        f"done >../{SUMS} 2>/dev/null",
        "exit 0",
    ]


def _files(job: JobSubmission) -> list[str]:
    """All files of this side that a job needs; URLs are the program's business."""
    runs = [job.environment[RUNS_FILE]] if RUNS_FILE in job.environment else []
    return list(dict.fromkeys(path for path in (*job.files, *runs, *job.inputs) if "://" not in path))


def _place(job: JobSubmission, path: str, step: int, generation: Path) -> tuple[int, str]:
    """The mode of a file, and under what a worker keeps it."""
    try:
        about = os.stat(path)  # noqa: PTH116 - of very many paths
    except OSError as error:
        said = f"{path}, which job {job.index} needs, is not there and cannot be fetched"
        raise SubmissionRefused(f"{said}: {error.strerror}") from error
    if not stat.S_ISREG(about.st_mode):
        raise SubmissionRefused(
            f"{path}, which job {job.index} needs, is no file: a reserved worker fetches files alone",
            "name the files in it; or reserve: false",
        )
    if "\n" in path or "\r" in path:
        raise SubmissionRefused(f"{path!r}, which job {job.index} needs, holds a line break")
    within = Path(os.path.abspath(path)).is_relative_to(generation)  # noqa: PTH100
    place = f"s{step}" if within else f"v{about.st_mtime_ns:x}-{about.st_size:x}"
    return about.st_mode & 0o777, place


def with_own_lists(job: JobSubmission) -> JobSubmission:
    """A job whose lists lie in its own folder, as a batch system that carries files takes them along."""
    environment, command = dict(job.environment), job.command
    for variable, name in ((RUNS_FILE, "runs.txt"), (INPUTS_FILE, INPUTS)):
        old, new = environment.get(variable, ""), f"{job.folder}/{name}"
        if old in ("", new):
            continue
        Path(new).write_bytes(Path(old).read_bytes())
        environment = {key: value.replace(old, new) for key, value in environment.items()}
        command = tuple(word.replace(old, new) for word in command)
    return JobSubmission(**{**vars(job), "environment": environment, "command": command})
