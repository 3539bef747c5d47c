"""Processes that begin at once: forked from one that has imported what they need, and has done nothing else.

A fresh Python imports for half a second, and tests start dozens. What is about how a process begins, what it imports
or what it does with a terminal starts a Python of its own instead.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRELOADED = [
    "alembic.command",
    "pytest",
    "rich.table",
    "airflow_calib_provider.cli.app",
    "airflow_calib_provider.rest.facts",
    "airflow_calib_provider.spec.checks.spec_warnings",
    "airflow_calib_provider.injection.inject",
    "airflow_calib_provider.jobsets.kill",
    "airflow_calib_provider.jobsets.publish",
    "airflow_calib_provider.ledger.explain",
    "airflow_calib_provider.ledger.queries",
    "airflow_calib_provider.spec.loader",
    "tests.jobsets.world",
]


def context() -> ForkServerContext:
    """For queues and barriers of the processes."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    with chdir(ROOT):  # from where it imports
        forkserver.ensure_running()
    return made


def process(target: Callable[..., object], *arguments: Any) -> BaseProcess:
    """One that calls this, with the variables and in the folder of the present moment; not started yet."""
    return context().Process(target=_inside, args=(dict(os.environ), os.getcwd(), target, arguments), daemon=True)


def run(
    target: Callable[..., object], *arguments: Any, patience: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call this in a process of its own, with more variables, until it ends; what it printed."""
    with tempfile.TemporaryDirectory() as name:
        out, error = Path(name, "out"), Path(name, "error")
        whole = {**os.environ, **environment}
        started = context().Process(target=_printing, args=(out, error, whole, os.getcwd(), target, arguments))
        started.start()
        started.join(patience)
        if started.exitcode is None:
            started.kill()
            raise subprocess.TimeoutExpired(repr(target), patience)
        texts = (file.read_text() if file.exists() else "" for file in (out, error))
        return subprocess.CompletedProcess(repr(target), started.exitcode, *texts)


def calib(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Give a command to ``calib``."""
    return run(_calib, *arguments)


def _printing(out: Path, error: Path, *rest: Any) -> None:
    for number, file in ((1, out), (2, error)):
        with file.open("w") as stream:
            os.dup2(stream.fileno(), number)
    _inside(*rest)


def _inside(environment: Mapping[str, str], folder: str, target: Callable[..., object], arguments: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    target(*arguments)


def _calib(*arguments: str) -> None:
    import sys

    from airflow_calib_provider.cli import main

    sys.argv = ["calib", *arguments]
    main()
