"""From job definitions to attempts that a backend can be given, with what they read."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from airflow_calib_provider import credentials
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.jobsets.context import SPEC_FOLDER
from airflow_calib_provider.jobsets.folders import attempt_name, attempts_folder
from airflow_calib_provider.jobsets.render import ATTEMPT, INPUTS_FILE, MAILBOX, OUT, REPORT, filled
from airflow_calib_provider.ledger.rows import Definition, Generation

MAX_RUNS_TEXT = 16_000
"""Characters of ``CALIB_RUNS``; with more there is only ``CALIB_RUNS_FILE``. Linux passes on 128 KiB at most."""

MAX_LIST_TEXT = 8_000
"""Characters of a list of inputs that a job writes itself: of a longer one there is a file before it runs."""

INPUTS, RUNS = "inputs.txt", "runs.txt"


class Attempts:
    """Makes attempts of the jobs of a generation.

    A file or a folder costs more than all else that an attempt is made of, so there are few before a job runs: lists
    that all jobs share are written once, and where jobs make their folders themselves there are none of their own.

    :param row: the generation with its group's campaign, workflow and name.
    :param folders: whether to make the folder of each attempt, with ``out`` and its lists.
    """

    def __init__(self, row: Generation, *, folders: bool = True) -> None:
        self._row = row
        self._folders = folders
        place = attempts_folder(row.folder)
        place.mkdir(parents=True, exist_ok=True)
        self._place = str(place)
        self._where = {SPEC_FOLDER: row.spec_folder or "", MAILBOX: str(place.parent / "mailbox")}
        self._inputs, self._products = tuple(row.inputs), tuple(row.products.values())
        self._inputs_file, self._runs_file = _shared_lists(place.parent, row)
        runs = ",".join(map(str, row.runs))
        self._contract = {
            "CALIB_CAMPAIGN": row.campaign,
            "CALIB_WORKFLOW": row.workflow,
            "CALIB_TASK": row.task,
            "CALIB_GROUP": row.group_name,
            **({"CALIB_RUNS": runs} if len(runs) <= MAX_RUNS_TEXT else {}),
        }

    def of(self, index: int, attempt: int, definition: Definition, memory: int | None = None) -> JobSubmission:
        """One attempt of a job.

        :param memory: bytes that it asks for instead of what the definition says.
        """
        folder = f"{self._place}/{attempt_name(index, attempt)}"
        own = definition["inputs"]
        inputs = self._inputs if own is None else tuple([filled(item, self._where) for item in own])
        lists = {} if own is None else {INPUTS: _lines(inputs)}
        made = self._folders or any(len(text) > MAX_LIST_TEXT for text in lists.values())
        if made:
            self._make_folder(folder, lists)
        known = {
            **self._where,
            OUT: f"{folder}/out",
            REPORT: f"{folder}/report.jsonl",
            INPUTS_FILE: f"{folder}/{INPUTS}" if made or lists else self._inputs_file,
            ATTEMPT: str(attempt),
        }
        contract = {
            **self._contract,
            "CALIB_RUNS_FILE": f"{folder}/{RUNS}" if made else self._runs_file,
            "CALIB_JOB": str(index),
            "CALIB_ATTEMPT": known[ATTEMPT],
            "CALIB_OUT": known[OUT],
            "CALIB_REPORT": known[REPORT],
            "CALIB_INPUTS": known[INPUTS_FILE],
        }
        environment = {name: filled(value, known) for name, value in definition["environment"].items()}
        return JobSubmission(
            index=index,
            attempt=attempt,
            command=tuple([filled(argument, known) for argument in definition["command"]]),
            environment={**environment, **contract},
            folder=Path(folder),
            resources=Resources(
                definition["cpus"], memory or definition["memory"], definition["disk"], definition.get("gpus", 0)
            ),
            timeout=definition["timeout"],
            inputs=inputs,
            files=(
                *(filled(file, self._where) for file in definition.get("files", ())),
                *credentials.told(definition.get("credentials", {}), environment),
            ),
            products=self._products,
            lists={} if made else lists,
            mailbox=filled(definition.get("mailbox", ""), self._where),
        )

    def _make_folder(self, folder: str, lists: Mapping[str, str]) -> None:
        for path in (folder, f"{folder}/out"):
            with suppress(FileExistsError):
                os.mkdir(path)  # noqa: PTH102 - of very many paths
        if INPUTS in lists:
            _write_once(Path(folder, INPUTS), lists[INPUTS])
        else:
            _link(self._inputs_file, f"{folder}/{INPUTS}")
        _link(self._runs_file, f"{folder}/{RUNS}")


def _shared_lists(place: Path, row: Generation) -> tuple[str, str]:
    """The files of the inputs and of the runs that all attempts share.

    What a generation reads is named anew when the code that it is continued with lies elsewhere: jobs of before may
    read the old list still.
    """
    text = _lines(row.inputs)
    inputs = place / f"inputs-{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:12]}.txt"
    runs = place / RUNS
    _write_once(inputs, text)
    _write_once(runs, _lines(row.runs))
    return str(inputs), str(runs)


def _lines(items: Sequence[object]) -> str:
    return "".join([f"{item}\n" for item in items])


def _link(common: str, link: str) -> None:
    """Give an attempt a list that others have, too."""
    try:
        os.link(common, link)
    except FileExistsError:
        return  # by another watcher, or before
    except OSError:  # a file system without hard links
        _write_once(Path(link), Path(common).read_text(encoding="utf-8"))


def _write_once(file: Path, text: str) -> None:
    """Write a file as a whole; one that is there is left alone, since a job may be reading it."""
    if file.exists():
        return
    part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
