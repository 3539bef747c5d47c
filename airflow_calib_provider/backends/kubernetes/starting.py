"""What a pod runs: the starter, and the list in which it finds the job of its index.

The starter is process 1 of its container. It runs one attempt of one job, enforces its time limit, and leaves two
records in the round's folder: that it has begun, and, last of all, how it ended. What it starts ends with it, as all of
a container ends with its first process.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from airflow_calib_provider.backends.scripts import (
    NOT_ENTERED,
    any_of,
    carried,
    folder_mode,
    half_of_character,
    shared_script,
)
from airflow_calib_provider.backends.wrapping import WRAPPER
from airflow_calib_provider.domain import lengths
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import SubmissionRefused

CHUNK = 50
"""Jobs in one file of the list: a pod reads no more than that to find its own."""

GRACE = 5
"""Seconds between SIGTERM and the end for a job over its time limit, or in a pod that is stopped."""

STOPPED, LATE = 143, 124
"""Exit codes of the starter: the pod was stopped, the time limit was reached."""

BEGUN, ENDED = "begun", "ended"
"""Endings of the names of records."""

START_SH = f"""\
#!/bin/sh
# Runs the job of one index of a Job. $1: the round's folder as the pod sees it; $2: which of its Jobs this is.
round=$1 part=$2 n=${{JOB_COMPLETION_INDEX:?}} node=$CALIB_NODE pod=$CALIB_POD
records=$round/$part/records
unset CALIB_NODE CALIB_POD
if [ -e "$round/removed/$part.$n" ]; then exit {STOPPED}; fi
line=$(sed -n "$((n % {CHUNK} + 1)){{p;q;}}" "$round/$part/items/$((n / {CHUNK}))") || exit {NOT_ENTERED}
[ -n "$line" ] || exit {NOT_ENTERED}
limit=${{line%% *}}
script=$(printf '%b' "${{line#* }}") || exit {NOT_ENTERED}
# A record is there as a whole, or not at all.
note() {{
    {{ printf '%s\\n' "$2" >"$records/.$1.$pod" && mv -f "$records/.$1.$pod" "$records/$1"; }} && return
    # The pod's log is the only place for this.
    echo "$records cannot be written: is the volume full, or not this user's?" >&2
    return 1
}}
begin=$(date +%s)
about="\\"pod\\":\\"$pod\\",\\"host\\":\\"$node\\",\\"start\\":$begin"
note "$n.$pod.{BEGUN}" "{{$about}}" || exit {NOT_ENTERED}
stopped= late= watchers=
end() {{
    # Of the children of process 1 everything there is; elsewhere it would be everything of the node.
    if [ $$ = 1 ]; then kill -TERM -1; else kill -TERM "$job" 2>/dev/null; fi
    (trap - TERM USR1 USR2; sleep {GRACE}; kill -USR2 $$) &
    watchers="$watchers $!"
}}
finish() {{
    if [ -n "$late" ]; then code={LATE}; elif [ -n "$stopped" ]; then code={STOPPED}; fi
    how="\\"code\\":$code"
    # A shell knows the end by a signal as a code that a program may end with too; seldom does one.
    if [ -z "$late$stopped" ] && [ "$code" -gt 128 ] && [ "$code" -le 192 ]; then how="\\"signal\\":$((code - 128))"; fi
    said="$how,\\"late\\":${{late:-false}},\\"stopped\\":${{stopped:-false}},\\"end\\":$(date +%s)"
    note "$n.{ENDED}" "{{$about,$said}}"
    [ -z "$watchers" ] || kill $watchers 2>/dev/null
    exit $code
}}
trap 'stopped=true; end' TERM INT HUP
trap 'late=true; end' USR1
trap finish USR2
wrapper={shlex.quote(WRAPPER)}
(trap - TERM INT HUP USR1 USR2; eval "$script") &
job=$!
if [ "$limit" != 0 ]; then (trap - TERM USR1 USR2; sleep "$limit"; kill -USR1 $$) & watchers=$!; fi
while :; do
    wait "$job"
    code=$?
    # It was a signal that ended the waiting, and not the job.
    kill -0 "$job" 2>/dev/null || break
done
finish
"""


def command(round_folder: str, part: int, program: str | None = None) -> list[str]:
    """What the container runs.

    :param round_folder: as the pod sees it. :param program: the static starter, likewise; ``None``: the shell's.
    """
    starter = ["/bin/sh", f"{round_folder}/start.sh"] if program is None else [program]
    return [*starter, round_folder, str(part)]


def items(jobs: Sequence[JobSubmission], *, shell: bool) -> Iterator[str]:
    """The files of the list, in order: a line for each job, with its time limit in seconds and its script.

    :param shell: whether a shell is to read it; else a line is JSON.
    :raises SubmissionRefused: a job is too long to be passed on.
    """
    line = _line if shell else _json
    for first in range(0, len(jobs), CHUNK):
        yield "".join([line(job) for job in jobs[first : first + CHUNK]])


def _line(job: JobSubmission) -> str:
    return f"{_limit(job)} {carried(job, shared_script(job))}\n"


def _json(job: JobSubmission) -> str:
    if said := lengths.too_long(job.command, job.environment):
        raise SubmissionRefused(f"{said} (job {job.index})", lengths.HINT)
    content = {
        "limit": _limit(job),
        "folder": str(job.folder),
        "mode": folder_mode(),
        "command": job.command,
        "environment": dict(job.environment),
        "lists": dict(job.lists),
        "products": job.products,
    }
    try:
        # The program would take something else for half of a character, and not say so.
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise half_of_character(job, error) from None
    return json.dumps(content) + "\n"


def _limit(job: JobSubmission) -> int:
    return math.ceil(job.timeout) if job.timeout else 0


def mapped(home: str, mount: str) -> Callable[[JobSubmission], JobSubmission]:
    """Makes of a job one whose paths are those of a pod, where that has this installation's folder at another place.

    :param home: the folder on this machine; :param mount: the same folder in the pods.
    """
    if home == mount:
        return lambda job: job
    known = any_of([home])

    def moved(text: str) -> str:
        return known.sub(lambda found: found[0].removesuffix(home) + mount, text)

    def of(job: JobSubmission) -> JobSubmission:
        environment = {name: moved(value) for name, value in job.environment.items()}
        lists = {name: moved(text) for name, text in job.lists.items()}
        name, file = "inputs.txt", job.environment.get("CALIB_INPUTS", "")
        if name not in lists and file and any(home in item for item in job.inputs):
            # The list that all jobs share names paths of this machine: here each has its own.
            lists[name] = "".join(f"{moved(item)}\n" for item in job.inputs)
            shared, own = moved(file), moved(f"{job.folder}/{name}")
            environment = {key: value.replace(shared, own) for key, value in environment.items()}
            job = replace(job, command=tuple(word.replace(file, f"{job.folder}/{name}") for word in job.command))
        return replace(
            job,
            command=tuple(moved(word) for word in job.command),
            environment=environment,
            folder=Path(moved(str(job.folder))),
            lists=lists,
        )

    return of
