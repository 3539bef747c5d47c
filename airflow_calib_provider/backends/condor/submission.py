"""From the jobs of a round to a submit description and its item data.

A job's command and environment travel as one shell script in octal escapes, in the item data: no character of it means
anything to HTCondor's submit language, which would expand ``$(name)`` and ``$$(name)``, split at white space and know
two ways to quote. ``job.sh``, which every proc executes, needs nothing but a POSIX shell.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from airflow_calib_provider.backends.condor.names import named
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.backends.scripts import NOT_ENTERED, any_of, carried, shared_script, with_moved_paths
from airflow_calib_provider.backends.wrapping import WRAPPER, wrapped
from airflow_calib_provider.checksums import SUMS
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import SubmissionRefused
from airflow_calib_provider.settings import installation_id, known_installation

MAX_IDLE = 1000
"""Jobs of a round that wait for a machine at once, unless the spec says otherwise; so many are in the schedd's queue
besides those that run, however many the round has."""

VACATE = 15
"""Seconds in which a job with a mailbox ends when it is asked to; then it is killed."""

INPUTS = "transferred_inputs.txt"

RUNS = "runs.txt"
"""What ``CALIB_RUNS_FILE`` names, in the folder of an attempt."""

_SEPARATOR = "\x1f"
"""Of the columns of an item: the one that HTCondor takes for nothing else."""

_MEBIBYTE, _KIBIBYTE = 1 << 20, 1 << 10
_STATED = ("container_image", "requirements", "accounting_group", "accounting_group_user", "priority")
_MACRO = re.compile(r"(?<!\$)\$\w*\(")
"""``$(name)``, ``$ENV(name)`` and the like; ``$$(name)``, filled in from the machine's ad, is the user's business."""

_NOT_IN_PATHS = re.compile("[\n\r\0\x1f$,\"']")
JOB_SH = f"""\
#!/bin/sh
# Runs one attempt of one job. What that is stands in CALIB_SCRIPT, in the octal escapes of printf %b.
: "${{CALIB_SCRIPT:?}}"
script=$(printf '%b' "$CALIB_SCRIPT") || exit {NOT_ENTERED}
unset CALIB_SCRIPT
wrapper={shlex.quote(WRAPPER)}
eval "$script"
"""


def transferred_script(job: JobSubmission, names: Mapping[str, str]) -> str:
    """What a job executes whose files HTCondor transfers: paths of this side become paths of its scratch folder.

    :param names: path on this side → path relative to the scratch folder.
    """
    moved = {**names, str(job.folder): ""}

    paths = any_of(moved)

    def quoted(text: str) -> str:
        return with_moved_paths(text, moved, paths)

    inner = "\n".join(
        [
            "CALIB_SCRATCH=$1",
            *(f"export {name}={quoted(value)}" for name, value in job.environment.items()),
            *(["export MAILBOX_BY=condor_chirp"] if job.mailbox else []),
            f"exec {' '.join(quoted(word) for word in job.command)} </dev/null",
        ]
    )
    return "\n".join(
        [
            "CALIB_SCRATCH=$PWD",
            'set -- "$CALIB_SCRATCH"',
            # A list of files that were transferred must name them where they are now.
            "while IFS= read -r line; do case $line in in/*) line=$CALIB_SCRATCH/$line;; esac; "
            f"printf '%s\\n' \"$line\"; done <{INPUTS} >inputs.txt",
            f"rm -rf out report.jsonl; mkdir out && : >report.jsonl && : >{SUMS} && cd out || exit {NOT_ENTERED}",
            *wrapped(job, inner),
        ]
    )


def transferred_inputs(job: JobSubmission) -> dict[str, str]:
    """Paths of this side → names in the scratch folder, for what has to be transferred; URLs are left to the job."""
    names: dict[str, str] = {}
    for number, path in enumerate([*job.files, *job.inputs]):
        if "://" not in path and path not in names:
            # Numbered, since products of several jobs have the same name, and HTCondor puts all into one folder.
            names[path] = f"in/{number:05d}-{Path(path).name}"
    return names


def gather_inputs(job: JobSubmission) -> None:
    """Put what has to be transferred into the folder ``in`` of an attempt, and write the list as the job will see it.

    :raises OSError: a link cannot be made.
    :raises SubmissionRefused: a file is not there.
    """
    names = transferred_inputs(job)
    for path, name in names.items():
        link = job.folder / name
        if not Path(path).exists():
            raise SubmissionRefused(f"{path}, which job {job.index} needs, is not there and cannot be transferred")
        link.parent.mkdir(exist_ok=True)
        with contextlib.suppress(FileExistsError):
            link.symlink_to(Path(path).resolve())
    lines = [names.get(path, path) for path in job.inputs]
    (job.folder / INPUTS).write_text("".join(f"{line}\n" for line in lines))


def description(
    key: RoundKey, spool: Path, round_folder: Path, settings: CondorSettings, options: Mapping[str, object]
) -> dict[str, str]:
    """The submit description of a round, without what differs from job to job.

    :param options: the task's block ``condor`` on top of the connection's defaults.
    :raises SubmissionRefused: an option has a value that would not be what it seems to HTCondor.
    """
    transfer = bool(options.get("transfer", settings.transfer))
    made = {
        "universe": "container" if options.get("container_image") else "vanilla",
        "executable": _path(str(round_folder / "job.sh")),
        "transfer_executable": "true",
        "arguments": "$(index)",
        "environment": '"CALIB_SCRIPT=$(script)"',
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        # Not $(folder) alone: before it is expanded that is no absolute path, and would be put below the current one.
        "initialdir": "/$(folder)",
        "output": "stdout" if transfer else "/dev/null",
        # What job.sh itself complains about, such as when it can write no file in the job's folder.
        "error": "stderr" if transfer else "$(name)/condor.err",
        # Without a list everything in the scratch folder would come back.
        "transfer_output_files": f"out,report.jsonl,{SUMS}" if transfer else '""',
        "notification": "never",
        "batch_name": f"{key.workflow}.{key.task}.{key.group}",
        "request_cpus": "$(cpus)",
        "request_memory": "$(memory)",
        "request_disk": "$(disk)",
        "max_idle": str(options.get("max_idle") or MAX_IDLE),
        **_attributes(key, spool),
    }
    if transfer:
        made["transfer_input_files"] = "$(inputs)"
    if settings.event_log:
        made["log"] = str(round_folder / "log")
    if options.get("max_materialize"):
        made["max_materialize"] = str(options["max_materialize"])
    stated = {name: str(options[name]) for name in _STATED if options.get(name) is not None}
    stated |= {str(name): str(value) for name, value in named(options, "commands").items()}
    stated |= {f"MY.{name}": _literal(value) for name, value in named(options, "attributes").items()}
    made |= stated
    _check(made)
    for name, value in stated.items():
        if _MACRO.search(value):
            raise SubmissionRefused(
                f"{name} is {value!r}: HTCondor would put something else in the place of the macro", "write it out"
            )
    return made


def _attributes(key: RoundKey, spool: Path) -> dict[str, str]:
    """What a job's ad says of where it belongs."""
    texts = {
        "CalibRound": str(key),
        "CalibSpool": str(spool),
        "CalibInstallation": installation_id(),
        "CalibCampaign": key.campaign,
        "CalibWorkflow": key.workflow,
        "CalibTask": key.task,
        "CalibGroup": key.group,
    }
    return {
        **{f"MY.{name}": _literal(text) for name, text in texts.items()},
        "MY.CalibGeneration": str(key.generation),
        "MY.CalibJob": "$(index)",
        "MY.CalibAttempt": "$(attempt)",
    }


def this_round(key: RoundKey, spool: Path) -> str:
    """A constraint that is true for the jobs of this round, of this installation, only."""
    return f"{this_key(key)} && {this_spool(spool)}"


def this_key(key: RoundKey) -> str:
    """A constraint that is true for jobs with this key only, of whatever installation."""
    return f"CalibRound == {_literal(str(key))}"


def this_spool(spool: Path) -> str:
    """A constraint that is true for all jobs of this installation on this connection."""
    constraint = f"CalibSpool == {_literal(str(spool))}"
    if known := known_installation():
        constraint += f" && CalibInstallation == {_literal(known)}"
    return constraint


def _literal(value: object) -> str:
    """A ClassAd literal that a submit file and a constraint read alike."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if "\\" in str(value):
        # A submit file takes it for itself, a constraint for the begin of an escape.
        raise SubmissionRefused(f"{value!r} holds a backslash, which HTCondor does not read alike everywhere")
    text = str(value).replace('"', '\\"')
    return f'"{text}"'


def _check(made: Mapping[str, str]) -> None:
    for name, value in made.items():
        if "\n" in value or "\r" in value or "\0" in value:
            raise SubmissionRefused(f"the submit command {name} holds a line break: {value!r}"[:300])
        if value.endswith("\\"):
            # The line that follows would be a part of it, whatever that was to say.
            raise SubmissionRefused(f"the submit command {name} ends with a backslash: {value!r}"[:300])


def items(jobs: Sequence[JobSubmission], *, transfer: bool) -> Iterator[dict[str, str]]:
    """What differs from job to job: one entry for each proc, in order.

    :raises SubmissionRefused: a job's command is too long, or a path cannot be named in a submit file.
    """
    gpus, limited = any(job.resources.gpus for job in jobs), any(job.timeout for job in jobs)
    for job in jobs:
        names = transferred_inputs(job) if transfer else {}
        script = carried(job, transferred_script(job, names) if transfer else shared_script(job))
        item = {
            "index": str(job.index),
            "attempt": str(job.attempt),
            **_places(job, transfer=transfer),
            "script": script,
            "cpus": str(job.resources.cpus),
            # Without a request the pool's own default holds.
            "memory": _units(job.resources.memory, _MEBIBYTE) or "$(JOB_DEFAULT_REQUESTMEMORY)",
            "disk": _units(job.resources.disk, _KIBIBYTE) or "$(JOB_DEFAULT_REQUESTDISK)",
        }
        if transfer:
            runs = [RUNS] if "CALIB_RUNS_FILE" in job.environment else []
            item["inputs"] = ",".join([INPUTS, *runs, *(["in"] if names else [])])
        if gpus:
            item["gpus"] = str(job.resources.gpus)
        if limited:
            item["seconds"] = str(math.ceil(job.timeout)) if job.timeout else "undefined"
        yield item


def _places(job: JobSubmission, *, transfer: bool) -> dict[str, str]:
    """Where HTCondor begins: in the attempt's folder, or where the job makes that."""
    if transfer:
        return {"folder": _path(str(job.folder)).removeprefix("/")}
    parent, _, name = str(job.folder).rpartition("/")
    return {"folder": _path(parent).removeprefix("/"), "name": _path(name)}


def table(items: Iterable[Mapping[str, str]]) -> tuple[list[str], str]:
    """Names of the columns, and one line for each item, in the form of a submit file's ``queue ... from FILE``.

    :raises SubmissionRefused: a value would end its column or its line.
    """
    names: list[str] = []
    lines = []
    for item in items:
        names = names or list(item)
        line = _SEPARATOR.join(item.values())
        if "\n" in line or "\r" in line or "\0" in line or line.count(_SEPARATOR) != len(names) - 1:
            raise SubmissionRefused(f"a value of the item {item['index']} holds a line break or a separator")
        lines.append(line)
    return names, "".join(f"{line}\n" for line in lines)


def extra_commands(jobs: Sequence[JobSubmission], *, transfer: bool) -> dict[str, str]:
    """Submit commands that only some rounds need."""
    made = {}
    if any(job.mailbox for job in jobs):
        # One that is frozen takes no notice of SIGTERM, and would keep its place for as long as the machine lets it.
        made["job_max_vacate_time"] = str(VACATE)
        if transfer:
            made["want_io_proxy"] = "true"
    if any(job.resources.gpus for job in jobs):
        made["request_gpus"] = "$(gpus)"
    if any(job.timeout for job in jobs):
        # Time of execution alone: transfers and suspensions are not the payload's.
        made["allowed_execute_duration"] = "$(seconds)"
    return made


def _units(size: int | None, unit: int) -> str:
    return "" if size is None else str(max(1, math.ceil(size / unit)))


@functools.lru_cache(maxsize=16)
def _path(path: str) -> str:
    # The item data know no quoting: a path with such a character would become another one.
    if _NOT_IN_PATHS.search(path) or path != path.strip():
        raise SubmissionRefused(
            f"the path {path!r} cannot be named in a submit file",
            "choose a products folder (CALIB_HOME) with a plain name",
        )
    return path
