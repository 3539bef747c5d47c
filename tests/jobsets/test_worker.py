"""The program of a reserved worker, and what it is given, without a ledger."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.backends.scripts import NOT_ENTERED
from airflow_calib_provider.checksums import checksum
from airflow_calib_provider.domain.iteration.reserving import HandedOver, Order, Worker, current_text
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.attempts import INPUTS
from airflow_calib_provider.jobsets.mailbox import Mailbox
from airflow_calib_provider.jobsets.reserved import Crew, Reserved

KEY = RoundKey("prompt", "w", "scale", "run-r1", 1, 1, 1)


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    made = Mailbox(tmp_path / "mailbox")
    made.prepare()
    return made


Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start(mailbox: Mailbox) -> Iterator[Start]:
    """Start a worker."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(
        number: int = 0, epoch: int = 1, *, every: int = 1, give_up: int = 60, wall: int = 0, path: str = ""
    ) -> subprocess.Popen[bytes]:
        environment = {"PATH": path or os.environ["PATH"], "CALIB_JOB": str(number), "CALIB_ATTEMPT": str(epoch)}
        words = ["sh", str(mailbox.folder / "worker.sh"), str(mailbox.folder), str(every), str(give_up), str(wall)]
        started.append(subprocess.Popen(words, env=environment))
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.wait()


def order(mailbox: Mailbox, script: str, n: int = 1, epoch: int = 1) -> HandedOver:
    """Ask worker 0 for something."""
    wanted = Order(1, 0, n)
    mailbox.put(KEY, [(wanted, script)])
    mailbox.say(current_text(n, {0: epoch}, {0: wanted}))
    return HandedOver(wanted, Worker(0, epoch))


def wait_for(what: Callable[[], object], patience: float = 60) -> None:
    end = time.monotonic() + patience
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def runs(number: int) -> bool:
    """Whether a process does; whoever inherits one that has ended may not have looked yet."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_one_order_after_the_other(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    worker = start()
    first = order(mailbox, f"echo once >>{tmp_path}/done")
    wait_for(lambda: mailbox.result(first))
    second = order(mailbox, "exit 3", 2)
    wait_for(lambda: mailbox.result(second))
    said = [mailbox.result(name) for name in (first, second)]
    assert [(one["exit_code"], one["timeout"], one["order"]) for one in said if isinstance(one, dict)] == [
        (0, False, "s1.j0.a1"),
        (3, False, "s1.j0.a2"),
    ]
    third = order(mailbox, "# timeout 1\nsleep 100", 3)
    wait_for(lambda: mailbox.result(third))
    said_last = mailbox.result(third)
    assert isinstance(said_last, dict)
    assert (said_last["timeout"], said_last["exit_code"]) == (True, 124)
    # An older text, of somebody who had slept, changes nothing.
    mailbox.say(current_text(1, {0: 1}, {0: first.order}))
    time.sleep(0.5)
    assert (tmp_path / "done").read_text() == "once\n"
    mailbox.say(current_text(9, {}, {}, stop=True))
    assert worker.wait(60) == 0
    assert not list(mailbox.folder.glob("*/.*")), "nothing is left in part"


def test_another_in_its_place(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    """It stops what it does, hands nothing over, and leaves."""
    worker = start()
    name = order(mailbox, f"sleep 300 & echo $! >{tmp_path}/child; wait")
    wait_for((tmp_path / "child").exists)
    mailbox.say(current_text(5, {0: 2}, {}))
    assert worker.wait(60) == 0
    assert mailbox.result(name) is None
    wait_for(lambda: not runs(int((tmp_path / "child").read_text())))


def test_what_cannot_be_handed_over_waits(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    """It is alive all the time, and the program is not run again; what it has left running ends with it."""
    start()
    (mailbox.folder / "results").rename(tmp_path / "away")
    name = order(mailbox, f"sleep 300 & echo $! >>{tmp_path}/left; exit 4")
    wait_for((tmp_path / "left").exists)
    first = (mailbox.folder / "beats" / "0").stat().st_mtime
    wait_for(lambda: (mailbox.folder / "beats" / "0").stat().st_mtime > first + 2)
    assert [one.state for one in mailbox.beats([0]).values()] == ["running"]
    (tmp_path / "away").rename(mailbox.folder / "results")
    wait_for(lambda: mailbox.result(name))
    said = mailbox.result(name)
    assert isinstance(said, dict)
    assert said["exit_code"] == 4
    (left,) = (tmp_path / "left").read_text().splitlines()
    wait_for(lambda: not runs(int(left)))


def test_an_order_that_is_seen_later_or_never(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    """As on a file system that many share: that is no failure of the program."""
    start()
    mailbox.say(current_text(1, {0: 1}, {0: Order(1, 0, 1)}))
    wait_for(lambda: mailbox.beats([0]))
    time.sleep(0.5)
    first = order(mailbox, "exit 3")
    wait_for(lambda: mailbox.result(first))
    mailbox.say(current_text(2, {0: 1}, {0: Order(1, 0, 2)}))
    never = HandedOver(Order(1, 0, 2), Worker(0, 1))
    wait_for(lambda: mailbox.result(never), 60)
    said = [mailbox.result(name) for name in (first, never)]
    assert [one["exit_code"] for one in said if isinstance(one, dict)] == [3, NOT_ENTERED]


def test_nobody_waits_for_what_cannot_be_handed_over(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    worker = start()
    (mailbox.folder / "results").rename(tmp_path / "away")
    order(mailbox, f"touch {tmp_path}/done")
    wait_for((tmp_path / "done").exists)
    mailbox.say(current_text(9, {0: 2}, {}))
    assert worker.wait(60) == 0


def test_exit_codes(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    silent = start(1, give_up=1)
    worker = start()
    for n in range(1, 4):
        name = order(mailbox, "exit 1", n)
        wait_for(lambda name=name: mailbox.result(name))
    assert worker.wait(60) == 70
    constants = tmp_path / "a \\ 'b'.txt "
    constants.write_text("1\n")
    fourth = order(mailbox, f"# constants {checksum(constants)} {constants}\nexit 0", 4)
    another = start()
    wait_for(lambda: mailbox.result(fourth))
    another.kill()
    order(mailbox, f"# constants {'0' * 64} {constants}\nexit 0", 5)
    other = start()
    (mailbox.folder / "current").rename(tmp_path / "away")
    assert silent.wait(60) == 75
    (tmp_path / "away").rename(mailbox.folder / "current")
    assert other.wait(120) == 71


def test_it_leaves_before_its_time_is_over(mailbox: Mailbox, start: Start) -> None:
    start(wall=2)
    mailbox.say(current_text(1, {0: 1}, {}))
    wait_for(lambda: [one.state for one in mailbox.beats([0]).values()] == ["leaving"])


def test_what_was_handed_over_is_not_done_again(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    """By a worker that the batch system has started once more, in the same epoch."""
    (mailbox.folder / "results" / "s1.j0.a1.w0.e1").write_text("before")
    name = order(mailbox, f"touch {tmp_path}/again")
    start()
    wait_for(lambda: mailbox.beats([0]))
    time.sleep(0.5)
    second = order(mailbox, "exit 0", 2)
    wait_for(lambda: mailbox.result(second))
    assert mailbox.result(name) == "before"
    assert not (tmp_path / "again").exists()


def test_a_terminated_worker_takes_its_program_along(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    worker = start()
    order(mailbox, f"echo $$ >{tmp_path}/child; exec sleep 300")
    wait_for((tmp_path / "child").exists)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(60) == 143
    wait_for(lambda: not runs(int((tmp_path / "child").read_text())))


def submission(folder: Path, **more: object) -> JobSubmission:
    known = {"index": 0, "attempt": 1, "environment": {"CALIB_INPUTS": f"{folder}/{INPUTS}"}, "folder": folder}
    return JobSubmission(**{**known, **more})  # type: ignore[arg-type]


def reserved(mailbox: Mailbox, tmp_path: Path) -> Reserved:
    crew = Crew(frozenset(), {}, Resources(cpus=1, memory=1000), {})
    return Reserved(LocalBackend(tmp_path / "spool"), mailbox, crew, "")


def test_inputs_are_fetched_once(mailbox: Mailbox, tmp_path: Path) -> None:
    source, scratch = tmp_path / "a file.root", tmp_path / "scratch"
    source.write_text("first")
    backend = reserved(mailbox, tmp_path)
    command = ("sh", "-c", 'while IFS= read -r f; do cat "$f" || true; echo " $f"; done <"$CALIB_INPUTS"')
    lists = {INPUTS: f"{source}\nroot://x//y.root\n{tmp_path}/absent\n"}
    for attempt in (1, 2):
        job = submission(tmp_path / f"a{attempt}", attempt=attempt, command=command, lists=lists)
        backend.submit(RoundKey("prompt", "w", "scale", "run-r1", 1, 1, attempt), [job])
        script = mailbox.folder / "orders" / f"s1.j0.a{attempt}"
        subprocess.run(["sh", str(script)], env={**os.environ, "FETCHED_INPUTS": str(scratch)}, check=True)
        source.write_text("second")
        lines = (job.folder / "stdout").read_text().splitlines()
        assert lines == [f"first {scratch}{source}", " root://x//y.root", f" {tmp_path}/absent"]


def test_what_asks_for_more_than_the_workers_have_goes_elsewhere(mailbox: Mailbox, tmp_path: Path) -> None:
    backend = reserved(mailbox, tmp_path)
    job = submission(tmp_path / "a1", command=("true",), resources=Resources(cpus=1, memory=1 << 30))
    backend.submit(KEY, [job])
    assert mailbox.orders_of(KEY) is None
    wait_for(lambda: backend.poll({KEY: ""})[KEY].finished)
    backend.remove(KEY)


def test_a_result_without_sense_is_no_result(mailbox: Mailbox, tmp_path: Path) -> None:
    backend = reserved(mailbox, tmp_path)
    backend.submit(KEY, [submission(tmp_path / "a1", command=("true",))])
    mailbox.give(Order(1, 0, 1), Worker(0, 1))
    mailbox.give(Order(1, 0, 1), Worker(1, 1))
    assert mailbox.given(Order(1, 0, 1)) == Worker(0, 1), "the first who says so has said it"
    (mailbox.folder / "results" / "s1.j0.a1.w0.e1").write_text(
        json.dumps({"order": "s1.j0.a1", "worker": 0, "epoch": 1})
    )
    (seen,) = backend.poll({KEY: ""})[KEY].observations
    assert (seen.state, seen.reason) == (
        "lost",
        "the result of worker 0 is refused: it does not say how the program ended",
    )


GOOD = {"order": "s1.j0.a1", "worker": 0, "epoch": 1, "exit_code": 0, "timeout": False}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 60_000, "it is no JSON object"),
        (json.dumps({**GOOD, "more": "x" * (1 << 17)}), "it is no JSON object"),
        (json.dumps({**GOOD, "exit_code": 10**30}), "it does not say how the program ended"),
        (json.dumps({**GOOD, "exit_code": -5}), "it does not say how the program ended"),
        (
            json.dumps({**GOOD, "order": "s" * 1000}),
            f"it says that it is {'s' * 40} of worker 0 (1), and lies as s1.j0.a1.w0.e1",
        ),
    ],
    ids=["deep", "huge", "exit code", "negative", "long"],
)
def test_a_result_that_would_be_in_the_way(mailbox: Mailbox, tmp_path: Path, text: str, said: str) -> None:
    """Whatever a worker writes, its attempt is lost, and the next one follows."""
    (mailbox.folder / "results" / "s1.j0.a1.w0.e1").write_text(text)
    assert observed(mailbox, tmp_path) == ("lost", f"the result of worker 0 is refused: {said}", None)


@pytest.mark.parametrize("what", ["link", "nowhere", "pipe", "folder"])
def test_a_result_that_is_no_file(mailbox: Mailbox, tmp_path: Path, what: str) -> None:
    place = mailbox.folder / "results" / "s1.j0.a1.w0.e1"
    (tmp_path / "good").write_text(json.dumps(GOOD))
    make: dict[str, Callable[[], None]] = {
        "link": lambda: place.symlink_to(tmp_path / "good"),
        "nowhere": lambda: place.symlink_to(tmp_path / "absent"),
        "pipe": lambda: os.mkfifo(place),
        "folder": place.mkdir,
    }
    make[what]()
    assert observed(mailbox, tmp_path)[:2] == ("lost", "the result of worker 0 is refused: it is no JSON object")
    mailbox.put_away(place.name, refused=True)
    assert mailbox.handed_over() == []


def test_who_is_to_do_it_is_damaged(mailbox: Mailbox, tmp_path: Path) -> None:
    """As after a power cut: it is asked for anew."""
    (mailbox.folder / "given" / "s1.j0.a1").touch()
    assert observed(mailbox, tmp_path)[0] == "lost"


def test_a_host_that_is_none(mailbox: Mailbox, tmp_path: Path) -> None:
    (mailbox.folder / "results" / "s1.j0.a1.w0.e1").write_text(json.dumps({**GOOD, "host": "a\0\ud800"}))
    assert observed(mailbox, tmp_path) == ("succeeded", "", None)


def observed(mailbox: Mailbox, tmp_path: Path) -> tuple[str, str, str | None]:
    """What is said of job 0, which worker 0 was asked for."""
    backend = reserved(mailbox, tmp_path)
    backend.submit(KEY, [submission(tmp_path / "a1", command=("true",))])
    mailbox.give(Order(1, 0, 1), Worker(0, 1))
    (seen,) = backend.poll({KEY: ""})[KEY].observations
    return seen.state, seen.reason or "", seen.host


def test_it_never_asks_for_the_time_of_day(mailbox: Mailbox, start: Start, tmp_path: Path) -> None:
    """So that a clock that is wrong by a day changes nothing: how old a beat is, its file says."""
    (tmp_path / "bin").mkdir()
    for name in ("date", "hwclock", "perl", "stat"):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/asked; exit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    start(path=f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    name = order(mailbox, "exit 0")
    wait_for(lambda: mailbox.result(name))
    said = mailbox.result(name)
    assert isinstance(said, dict)
    assert said["hundredths"] < 6000
    assert mailbox.beats([0])[0].age < 60
    assert not (tmp_path / "asked").exists()


def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said at once, and by its name; nothing is left in part. No such file system can be had in a test."""

    def link(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(BackendError, match="without hard links") as caught:
        Mailbox(tmp_path / "mailbox").prepare()
    assert "reserve: false" in str(caught.value)
    assert not list((tmp_path / "mailbox" / "given").iterdir())


def test_one_that_takes_long_to_go_is_not_waited_for(mailbox: Mailbox, tmp_path: Path) -> None:
    """As one that is frozen: it goes later."""
    backend = reserved(mailbox, tmp_path)
    command = ("sh", "-c", f"trap '' TERM; touch {tmp_path}/begun; while :; do sleep 0.1; done")
    backend.submit(KEY, [submission(tmp_path / "a1", command=command, resources=Resources(cpus=1, memory=1 << 40))])
    wait_for((tmp_path / "begun").exists)
    began = time.monotonic()
    backend.dismiss(KEY, None, 0.0)
    assert time.monotonic() - began < 4, "the grace is 5 s"
    assert not backend.poll({KEY: ""})[KEY].finished
    wait_for(lambda: backend.poll({KEY: ""})[KEY].finished)
