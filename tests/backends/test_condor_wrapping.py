"""What stands between HTCondor and a job that declares products changes nothing but that their checksums are there."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends import scripts
from airflow_calib_provider.backends.condor import submission
from airflow_calib_provider.checksums import SUMS, read_sums
from airflow_calib_provider.domain.submission import JobSubmission


def script_of(tmp_path: Path, command: str, **options: Any) -> str:
    environment = {"CALIB_OUT": str(tmp_path / "job" / "out"), "ODD": "a'b \\ $x\nü", **options.pop("environment", {})}
    options.setdefault("products", ("a b.txt", "sub/c"))
    job = JobSubmission(0, 1, ("sh", "-c", command), environment, tmp_path / "job", **options)
    return scripts.encode(scripts.shared_script(job))


def start(script: str, **how: Any) -> subprocess.Popen[str]:
    environment = {"PATH": how.pop("path", os.environ["PATH"]), "CALIB_SCRIPT": script}
    run = ["/bin/sh", "-c", submission.JOB_SH]
    return subprocess.Popen(run, env=environment, text=True, stderr=subprocess.PIPE, **how)


def run(script: str, **how: Any) -> tuple[int, str]:
    process = start(script, **how)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


GOOD = 'mkdir sub; printf 1 > "a b.txt"; printf 2 > sub/c; printf "$ODD"; echo oops >&2; read line || echo end'


def test_a_job_leaves_its_checksums(tmp_path: Path) -> None:
    assert run(script_of(tmp_path, GOOD)) == (0, "")
    assert read_sums(tmp_path / "job") == {"a b.txt": sha("1"), "sub/c": sha("2")}
    assert (tmp_path / "job" / "stdout").read_text() == "a'b \\ $x\nüend\n"
    assert (tmp_path / "job" / "stderr").read_text() == "oops\n"


def test_in_a_scratch_folder_too(tmp_path: Path) -> None:
    environment = {"CALIB_OUT": str(tmp_path / "job" / "out"), "CALIB_REPORT": str(tmp_path / "job" / "report.jsonl")}
    command = ("sh", "-c", f"echo $CALIB_OUT > c; cat {tmp_path}/x.txt >> c")
    job = JobSubmission(0, 1, command, environment, tmp_path / "job", products=("c",))
    scratch = tmp_path / "scratch"
    (scratch / "in").mkdir(parents=True)
    (scratch / "in" / "00000-x.txt").write_text("text")
    (scratch / submission.INPUTS).touch()
    names = {str(tmp_path / "x.txt"): "in/00000-x.txt"}
    script = scripts.encode(submission.transferred_script(job, names))
    code, said = run(script, cwd=scratch)
    assert (code, said) == (0, "")
    content = (scratch / "out" / "c").read_text()
    assert content == f"{scratch}/out\ntext"
    assert read_sums(scratch) == {"c": sha(content)}


@pytest.mark.parametrize("code", [1, 3, 125, 126, 137, 139, 255])
def test_an_exit_code_is_the_jobs(tmp_path: Path, code: int) -> None:
    assert run(script_of(tmp_path, f"{GOOD}; exit {code}"))[0] == code
    assert read_sums(tmp_path / "job") == {}


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGTERM, signal.SIGABRT, signal.SIGPIPE])
def test_a_signal_is_the_jobs(tmp_path: Path, number: signal.Signals) -> None:
    assert run(script_of(tmp_path, f"{GOOD}; kill -{number.name[3:]} $$; sleep 5"))[0] == -number
    assert read_sums(tmp_path / "job") == {}


def test_a_command_that_is_not_there(tmp_path: Path) -> None:
    job = JobSubmission(0, 1, ("/no/such",), {}, tmp_path / "job", products=("c",))
    assert run(scripts.encode(scripts.shared_script(job)))[0] == 127


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_reaches_the_job(tmp_path: Path, number: signal.Signals) -> None:
    name = number.name[3:]
    process = start(
        script_of(tmp_path, f"trap 'echo got > \"a b.txt\"; exit 7' {name}; : > ready; while :; do sleep 0.1; done")
    )
    until = time.monotonic() + 30
    while not (tmp_path / "job" / "out" / "ready").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    process.send_signal(number)
    assert process.wait(30) == 7
    assert (tmp_path / "job" / "out" / "a b.txt").read_text() == "got\n"


@pytest.mark.parametrize("broken", ["nothing", "one that fails"])
def test_without_a_python_the_job_runs(tmp_path: Path, broken: str) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "mkdir", "rm", "cat", "sleep"):
        (programs / name).symlink_to(f"/bin/{name}")
    if broken != "nothing":
        (programs / "python3").write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
        (programs / "python3").chmod(0o755)
    assert run(script_of(tmp_path, GOOD), path=str(programs)) == (0, "")
    assert not (tmp_path / "job" / SUMS).exists()
    assert (tmp_path / "job" / "out" / "sub" / "c").read_text() == "2"


def test_the_environment_of_a_job_is_not_that_of_the_wrapper(tmp_path: Path) -> None:
    odd = {"PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/nowhere"}
    (tmp_path / "hashlib.py").write_text("raise SystemExit(9)")
    assert run(script_of(tmp_path, GOOD, environment=odd)) == (0, "")
    assert read_sums(tmp_path / "job").keys() == {"a b.txt", "sub/c"}


def test_what_is_not_there_or_no_file_has_none(tmp_path: Path) -> None:
    assert run(script_of(tmp_path, "mkfifo sub; mkdir 'a b.txt'", products=("sub", "a b.txt", "gone")))[0] == 0
    assert read_sums(tmp_path / "job") == {}


def test_there_is_no_time_after_the_limit(tmp_path: Path) -> None:
    assert run(script_of(tmp_path, GOOD, timeout=1.5))[0] == 0
    assert read_sums(tmp_path / "job") == {}


def test_without_products_nothing_stands_between(tmp_path: Path) -> None:
    script = script_of(tmp_path, "echo $PPID", products=())
    process = start(script)
    assert process.wait(30) == 0
    assert (tmp_path / "job" / "stdout").read_text() == f"{os.getpid()}\n"


def test_a_pipe_that_nobody_reads_ends_the_job_as_ever(tmp_path: Path) -> None:
    assert run(script_of(tmp_path, "yes | head -n 1 >/dev/null; printf 1 > 'a b.txt'"))[0] == 0
    assert (tmp_path / "job" / "stderr").read_text() == ""
