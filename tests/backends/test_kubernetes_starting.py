"""What starts a job in a pod, without the pod: in three shells, and as the static program."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.kubernetes import classify, records, starting, static
from airflow_calib_provider.backends.kubernetes.folder import Part, Plan, RoundFolder
from airflow_calib_provider.backends.kubernetes.records import PodRecord
from airflow_calib_provider.checksums import read_sums
from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import SubmissionRefused
from tests.backends.kubernetes_kit import static_starter
from tests.cache import UnavailableError
from tests.cluster.building import runtime

KINDS = ("dash", "bash", "busybox", "static")


@dataclass
class Pod:
    """A round of one Job, and the command of its pods."""

    root: Path
    folder: RoundFolder
    command: list[str]
    static: bool

    def submit(self, *jobs: JobSubmission) -> None:
        part = Part(0, "calib-x-0", [(job.index, job.attempt, job.folder) for job in jobs])
        self.folder.prepare(Plan([part], [{}], "default", 600), [jobs], shell=not self.static)
        (self.root / "jobs").mkdir(exist_ok=True)

    def job(self, text: str, index: int = 0, **more: Any) -> JobSubmission:
        folder = self.root / "jobs" / f"job-{index}"
        environment = {"CALIB_OUT": str(folder / "out"), **more.pop("environment", {})}
        return JobSubmission(index, 1, ("sh", "-c", text), environment, folder, **more)

    def start(self, index: int = 0, pod: str = "uid") -> subprocess.Popen[str]:
        own = {"JOB_COMPLETION_INDEX": str(index), "CALIB_NODE": "node-1", "CALIB_POD": pod}
        return subprocess.Popen(
            self.command,
            env={"PATH": os.environ["PATH"], **own},
            text=True,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def run(self, text: str, **more: Any) -> tuple[int, PodRecord]:
        self.submit(self.job(text, **more))
        process = self.start()
        process.communicate(timeout=60)
        record = records.ended(self.folder.records(0), 0)
        assert record is not None
        return process.returncode, record

    def wait_for(self, name: str) -> None:
        until = time.monotonic() + 30
        while not (self.root / "jobs" / "job-0" / "out" / name).exists():
            assert time.monotonic() < until
            time.sleep(0.02)


@pytest.fixture(params=KINDS)
def pod(request: pytest.FixtureRequest, tmp_path: Path) -> Pod:
    folder = RoundFolder(tmp_path / "c.w.t.g.g1.s0.r1")
    shell = ["/bin/sh"]
    if request.param == "busybox":
        try:
            shell = [str(shutil.which("busybox", path=runtime()[1]["PATH"])), "sh"]
        except UnavailableError as error:
            pytest.skip(str(error))
    elif request.param != "static":
        shell = [shutil.which(request.param) or pytest.skip(f"there is no {request.param}")]
    program = str(static_starter(tmp_path.with_name(f"{tmp_path.name}-home"))) if request.param == "static" else None
    command = starting.command(str(folder.path), 0, program)
    return Pod(tmp_path, folder, command if program else [*shell, *command[1:]], program is not None)


def test_a_job_that_succeeds(pod: Pod) -> None:
    text = (
        'echo out; echo err >&2; printf 1 >"a b"; mkdir sub; printf 2 >sub/c; printf %s "$ODD"; env >env; read x || pwd'
    )
    odd = "a'b \\ $x `id`\nü"
    code, record = pod.run(
        text, environment={"ODD": odd}, products=("a b", "sub/c", "gone"), lists={"inputs.txt": "x\n"}
    )
    assert code == 0
    assert (record.code, record.signal, record.late, record.stopped) == (0, None, False, False)
    assert (record.pod, record.host) == ("uid", "node-1")
    assert record.end is not None
    assert record.start <= record.end
    folder = pod.root / "jobs" / "job-0"
    assert (folder / "stdout").read_text() == f"out\n{odd}{folder / 'out'}\n"
    assert (folder / "stderr").read_text() == "err\n"
    assert (folder / "inputs.txt").read_text() == "x\n"
    assert read_sums(folder) == {"a b": hashlib.sha256(b"1").hexdigest(), "sub/c": hashlib.sha256(b"2").hexdigest()}
    assert "CALIB_NODE" not in (folder / "out" / "env").read_text()
    ending = classify.by_record(record, folder)
    assert ending is not None
    assert ending.state is AttemptState.SUCCEEDED


@pytest.mark.parametrize("code", [1, 3, 126, 255])
def test_an_exit_code_is_the_jobs(pod: Pod, code: int) -> None:
    found, record = pod.run(f"exit {code}", products=("x",))
    assert (found, record.code) == (code, code)


def test_a_signal_is_told(pod: Pod) -> None:
    code, record = pod.run("kill -SEGV $$")
    assert code == 139
    assert (record.code, record.signal) == (None, 11)
    assert (record.memory is not None) == pod.static


def test_an_exit_code_that_a_shell_cannot_tell_from_a_signal(pod: Pod) -> None:
    code, record = pod.run("exit 139")
    assert code == 139
    assert (record.code, record.signal) == ((139, None) if pod.static else (None, 11))


@pytest.mark.parametrize("program", ["no-such-program", "/no/such/program"])
def test_a_command_that_is_not_there(pod: Pod, program: str) -> None:
    pod.submit(JobSubmission(0, 1, (program,), {}, pod.root / "jobs" / "job-0"))
    assert pod.start().wait(30) == 127
    record = records.ended(pod.folder.records(0), 0)
    assert record is not None
    ending = classify.by_record(record, pod.root / "jobs" / "job-0")
    assert ending is not None
    assert ending.failure is FailureClass.START
    assert program in (ending.reason or "")


@pytest.mark.parametrize("text", ["sleep 30", "trap '' TERM; while :; do sleep 1; done"])
def test_the_time_limit(pod: Pod, text: str) -> None:
    code, record = pod.run(text, timeout=1)
    assert (code, record.late) == (starting.LATE, True)
    ending = classify.by_record(record, pod.root, 1)
    assert ending is not None
    assert (ending.failure, ending.reason) == (FailureClass.TIMEOUT, "time-out after 1 s")


def test_a_pod_that_is_stopped_says_so_and_no_more(pod: Pod) -> None:
    pod.submit(pod.job("trap 'exit 0' TERM; : >ready; while :; do sleep 0.1; done"))
    process = pod.start()
    pod.wait_for("ready")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == starting.STOPPED
    record = records.ended(pod.folder.records(0), 0)
    assert record is not None
    assert record.stopped
    assert classify.by_record(record, pod.root) is None


def test_what_was_removed_never_runs(pod: Pod) -> None:
    pod.submit(pod.job("true"))
    pod.folder.decide(0, [0], {"state": "removed", "reason": "removed", "failure": None})
    assert pod.start().wait(30) == starting.STOPPED
    assert not (pod.root / "jobs" / "job-0").exists()
    assert not list(pod.folder.records(0).iterdir())


def test_each_index_finds_its_own_job(pod: Pod) -> None:
    pod.submit(*(pod.job(f"echo {n}", n) for n in range(starting.CHUNK + 2)))
    for n in (1, starting.CHUNK - 1, starting.CHUNK, starting.CHUNK + 1):
        assert pod.start(n).wait(30) == 0
        assert (pod.root / "jobs" / f"job-{n}" / "stdout").read_text() == f"{n}\n"


def test_a_job_that_is_started_again_begins_with_empty_folders(pod: Pod) -> None:
    pod.submit(pod.job("ls; echo x >file; echo y >../report.jsonl", products=("file",)))
    for uid in ("first", "second"):
        assert pod.start(pod=uid).wait(30) == 0
    assert (pod.root / "jobs" / "job-0" / "stdout").read_text() == ""
    begun = [file.name for file in pod.folder.records(0).iterdir() if file.name.endswith(".begun")]
    assert sorted(begun) == ["0.first.begun", "0.second.begun"]


def test_where_the_products_folder_is_not_there_nothing_runs(pod: Pod) -> None:
    pod.submit(pod.job("true"))
    shutil.rmtree(pod.root / "jobs")
    process = pod.start()
    said = process.communicate(timeout=30)[1]
    assert process.returncode == 125
    assert "job-0" in said
    record = records.ended(pod.folder.records(0), 0)
    assert record is not None
    assert record.code == 125
    assert classify.by_record(record, pod.root) is None
    ended = {"name": "job", "state": {"terminated": {"exitCode": 125, "reason": "Error"}}}
    ending = classify.by_pod({"status": {"containerStatuses": [ended]}}, record, said, begun=True)
    assert (ending.state, ending.failure) == (AttemptState.FAILED, FailureClass.START)


@pytest.mark.parametrize(
    ("before", "code", "failure"), [(True, 125, FailureClass.START), (False, 1, FailureClass.LOST)]
)
def test_a_full_volume_is_told(pod: Pod, before: bool, code: int, failure: FailureClass) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "calib", pod.root], check=False).returncode:
        pytest.skip("only root may mount a small volume")
    try:
        fill = f"head -c 9000000 /dev/zero >{pod.root}/fill"
        pod.submit(pod.job("true" if before else fill))
        if before:
            subprocess.run(["sh", "-c", fill], check=False, stderr=subprocess.DEVNULL)
        process = pod.start()
        said = process.communicate(timeout=30)[1]
        assert process.returncode == code
        assert records.ended(pod.folder.records(0), 0) is None
    finally:
        subprocess.run(["umount", "-l", pod.root], check=True)
    assert "is the volume full" in said
    ended = {"name": "job", "state": {"terminated": {"exitCode": code, "reason": "Error"}}}
    ending = classify.by_pod({"status": {"containerStatuses": [ended]}}, None, said, begun=not before)
    assert ending.failure is failure
    assert "is the volume full" in str(ending.reason)


def test_half_of_a_character_is_refused(pod: Pod) -> None:
    for more in ({"environment": {"A": "\ud800"}}, {"lists": {"inputs.txt": "\udcff"}}):
        with pytest.raises(SubmissionRefused, match="half of a character"):
            pod.submit(pod.job("true", **more))
    assert not pod.folder.path.exists()


def test_the_static_program_counts_as_the_shell_does() -> None:
    source = (static.SOURCE / "main.go").read_text()
    for name, value in {
        "notEntered": 125,
        "stopped": starting.STOPPED,
        "late": starting.LATE,
        "chunk": starting.CHUNK,
    }.items():
        assert f"{name} " in source
        assert f"= {value}\n" in source.partition(f"\t{name} ")[2][:40]
    assert f"= {starting.GRACE} * time.Second" in source


def test_without_the_static_program_it_is_said_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(SubmissionRefused, match="go build") as caught:
        static.check(tmp_path)
    assert str(static.program(tmp_path)) in str(caught.value)


MAPPED: Callable[[JobSubmission], JobSubmission] = starting.mapped("/data/calib", "/spool")


def test_paths_are_those_of_the_pods() -> None:
    job = JobSubmission(
        0,
        1,
        ("fit", "--in=/data/calib/x", "/data/calibration", "/old/data/calib", "file:///data/calib/y", "/data/calib"),
        {"CALIB_OUT": "/data/calib/p/out", "CALIB_INPUTS": "/data/calib/p/inputs-1.txt"},
        Path("/data/calib/p"),
        inputs=("/data/calib/in.root", "/other/in.root"),
    )
    moved = MAPPED(job)
    assert moved.command == (
        "fit",
        "--in=/spool/x",
        "/data/calibration",
        "/old/data/calib",
        "file:///spool/y",
        "/spool",
    )
    assert moved.environment == {"CALIB_OUT": "/spool/p/out", "CALIB_INPUTS": "/spool/p/inputs.txt"}
    assert moved.folder == Path("/spool/p")
    assert moved.lists == {"inputs.txt": "/spool/in.root\n/other/in.root\n"}
    assert starting.mapped("/a", "/a")(job) is job
