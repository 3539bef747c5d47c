"""Orders of workers that share no files with this side, and what arrives of them, with a condor_chirp of the tests.

The real one is used by the tests on a pool; this one copies within this machine, and fails where it is told to.
"""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.checksums import SUMS, checksum
from airflow_calib_provider.domain.iteration.reserving import HandedOver, Order, Worker, current_text
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import ProductError, SubmissionRefused
from airflow_calib_provider.jobsets.arrivals import unpack
from airflow_calib_provider.jobsets.mailbox import Mailbox
from airflow_calib_provider.jobsets.orders import carried_order, shared_order, with_own_lists

KEY = RoundKey("prompt", "w", "scale", "run-r1", 1, 1, 1)
ORDER, WORKER = Order(1, 0, 1), Worker(0, 1)
NAME = HandedOver(ORDER, WORKER)
CHIRP = """\
#!/bin/sh
# As condor_chirp: what it does, and how it fails; $ASKED gets a line for each file that is fetched.
what=$1; shift
while :; do case $1 in -mode | -perm) shift 2 ;; *) break ;; esac; done
case $what in
fetch) echo "$1" >>"$ASKED"; [ ! -e "$BROKEN" ] && cp "$1" "$2" ;;
put) [ ! -e "$BROKEN" ] && cat "$([ "$1" = - ] && echo /dev/stdin || echo "$1")" >"$2" ;;
link) ln "$1" "$2" ;;
access) [ -e "$1" ] ;;
remove) rm "$1" ;;
*) exit 255 ;;
esac
"""


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    made = Mailbox(tmp_path / "mailbox")
    made.prepare()
    return made


@pytest.fixture
def start(mailbox: Mailbox, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start worker 0 in a scratch folder of its own."""
    started: list[subprocess.Popen[bytes]] = []
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "condor_chirp").write_text(CHIRP)
    (tmp_path / "bin" / "condor_chirp").chmod(0o755)
    (tmp_path / "scratch").mkdir()
    environment = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "CALIB_JOB": "0",
        "CALIB_ATTEMPT": "1",
        "MAILBOX_BY": "condor_chirp",
        "_CONDOR_SCRATCH_DIR": str(tmp_path / "scratch"),
        "ASKED": str(tmp_path / "asked"),
        "BROKEN": str(tmp_path / "broken"),
    }

    def begin() -> subprocess.Popen[bytes]:
        words = ["sh", str(mailbox.folder / "worker.sh"), str(mailbox.folder), "1", "60", "0"]
        started.append(subprocess.Popen(words, env=environment))
        return started[-1]

    yield begin
    for one in started:
        one.kill()
        one.wait()


def submission(folder: Path, **more: object) -> JobSubmission:
    known = {"index": 0, "attempt": 1, "environment": {}, "folder": folder, "command": ("true",)}
    return JobSubmission(**{**known, **more})  # type: ignore[arg-type]


def ask(mailbox: Mailbox, order: Order, script: str) -> HandedOver:
    mailbox.put(KEY, [(order, script)])
    mailbox.say(current_text(order.step * 10 + order.attempt, {0: 1}, {0: order}))
    return HandedOver(order, WORKER)


def result(mailbox: Mailbox, name: HandedOver) -> dict[str, object]:
    end = time.monotonic() + 60
    while not isinstance(found := mailbox.result(name), dict):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_files_are_fetched_once_and_what_is_left_comes_back(
    mailbox: Mailbox, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Also while the access point does not answer for a time; what has changed is fetched anew."""
    generation = tmp_path / "g1"
    (generation / "step-001").mkdir(parents=True)
    constants, data, program = generation / "step-001" / "c.txt", tmp_path / "a 'b'.root", tmp_path / "measure.sh"
    constants.write_text("1.5\n")
    data.write_text("events")
    program.write_text(
        '#!/bin/sh\nread -r file <"$CALIB_INPUTS"; cat "$CALIB_CONSTANTS" "$file" >h.txt; mkdir d; echo >d/e\n'
    )
    program.chmod(0o755)
    worker = start()
    for n in (1, 2, 3):
        step = 2 if n == 3 else 1
        folder = generation / f"step-00{step}" / "attempts" / f"job-00000-a{n}"
        environment = {
            "CALIB_CONSTANTS": str(constants),
            "CALIB_CONSTANTS_SHA256": checksum(constants),
            "CALIB_INPUTS": str(folder / "inputs.txt"),
            "CALIB_OUT": str(folder / "out"),
        }
        inputs, files = (str(data), "root://x//y.root"), (str(constants), str(program))
        job = submission(
            folder, attempt=n, environment=environment, inputs=inputs, files=files, command=(str(program),)
        )
        (tmp_path / "broken").touch()
        name = ask(mailbox, Order(step, 0, n), carried_order(job, step, generation))
        time.sleep(0.5)
        (tmp_path / "broken").unlink()
        said = result(mailbox, name)
        assert said["exit_code"] == 0, said
        unpack(mailbox.folder / "outputs", name, said, folder)
        unpack(mailbox.folder / "outputs", name, said, folder)
        assert (folder / "out" / "h.txt").read_text() == "1.5\n" + ("other events" if n == 3 else "events")
        assert (folder / "out" / "d" / "e").exists()
        assert (folder / "stderr").read_text() == ""
        lines = (folder / "inputs.txt").read_text().splitlines()
        assert lines[0].startswith(str(tmp_path / "scratch"))
        assert lines[1:] == ["root://x//y.root"]
        if n == 2:
            data.write_text("other events")
    asked = (tmp_path / "asked").read_text().splitlines()
    assert [asked.count(str(one)) for one in (program, data, constants)] == [1, 2, 2]
    assert not (tmp_path / "scratch" / "fetched" / "s1").exists(), "what is of another step goes"
    assert list((mailbox.folder / "outputs").iterdir()) == []
    mailbox.say(current_text(99, {}, {}, stop=True))
    assert worker.wait(60) == 0


def test_constants_that_are_not_what_they_should_be(
    mailbox: Mailbox, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    constants = tmp_path / "c.txt"
    constants.write_text("1\n")
    environment = {"CALIB_CONSTANTS": str(constants), "CALIB_CONSTANTS_SHA256": "0" * 64}
    job = submission(tmp_path / "a", environment=environment, files=(str(constants),))
    script = carried_order(job, 1, tmp_path / "g1")
    worker = start()
    ask(mailbox, ORDER, script)
    assert worker.wait(60) == 71


def test_what_cannot_be_packed_is_for_another_worker(
    mailbox: Mailbox, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """As on a machine whose disk is full."""
    worker = start()
    (tmp_path / "bin" / "tar").write_text("#!/bin/sh\nexit 2\n")
    (tmp_path / "bin" / "tar").chmod(0o755)
    name = ask(mailbox, ORDER, carried_order(submission(tmp_path / "a"), 1, tmp_path / "g1"))
    assert worker.wait(60) == 72
    assert mailbox.result(name) is None


def test_what_changes_while_it_is_packed_is_packed_again(
    mailbox: Mailbox, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """And a program that removes all that is in its folder is no reason for its worker to go."""
    worker = start()
    (tmp_path / "bin" / "tar").write_text(
        '#!/bin/sh\n[ -e "$0.tried" ] || { touch "$0.tried"; exit 1; }\nexec /bin/tar "$@"\n'
    )
    (tmp_path / "bin" / "tar").chmod(0o755)
    job = submission(tmp_path / "a", command=("sh", "-c", "rm -rf ../*"))
    name = ask(mailbox, ORDER, carried_order(job, 1, tmp_path / "g1"))
    said = result(mailbox, name)
    unpack(mailbox.folder / "outputs", name, said, tmp_path / "attempt")
    assert [one.name for one in (tmp_path / "attempt").iterdir()] == ["stdout"]
    assert worker.poll() is None


def test_a_file_that_cannot_be_fetched_is_no_fault_of_the_program(
    mailbox: Mailbox, start: Callable[[], subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.touch()
    script = carried_order(submission(tmp_path / "a", inputs=(str(data),)), 1, tmp_path / "g1")
    data.unlink()
    start()
    said = result(mailbox, ask(mailbox, ORDER, script))
    assert said["exit_code"] == 125
    assert "files" not in said


def test_what_cannot_be_fetched_is_refused(tmp_path: Path) -> None:
    for path, why in ((tmp_path, "is no file"), (tmp_path / "absent", "is not there")):
        with pytest.raises(SubmissionRefused, match=why):
            carried_order(submission(tmp_path / "a", inputs=(str(path),)), 1, tmp_path / "g1")


def bundle(outputs: Path, *members: tarfile.TarInfo, file: str = f"{NAME}.1-2.tar") -> dict[str, object]:
    outputs.mkdir(exist_ok=True)
    with tarfile.open(outputs / file, "w") as made:
        for one in members:
            one.size = 1 if one.isreg() else 0
            made.addfile(one, io.BytesIO(b"x"))
    return {"files": file, "bytes": (outputs / file).stat().st_size}


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, target
    return made


@pytest.mark.parametrize(
    ("members", "changed", "said"),
    [
        ([member("../escaped")], {}, "outside the destination"),
        ([member("d/../../escaped")], {}, "outside the destination"),
        ([member("out", tarfile.SYMTYPE, "/etc"), member("out/passwd")], {}, "absolute|outside"),
        ([member("pipe", tarfile.FIFOTYPE)], {}, "special file"),
        ([member("stdout")], {"bytes": 5}, "bytes, and not 5"),
        ([member("stdout")], {"bytes": None}, "bytes, and not None"),
        ([member("stdout")], {"files": "../../c.tar"}, "no name of what"),
        ([member("stdout")], {"files": "s1.j0.a1.w1.e1.1-2.tar"}, "no name of what"),
        ([member("stdout")], {"files": f"{NAME}.1-3.tar"}, "has not arrived"),
        ([member("stdout")], {"files": 3}, "no name of what"),
    ],
)
def test_what_does_not_arrive_as_it_should(
    tmp_path: Path, members: list[tarfile.TarInfo], changed: dict[str, object], said: str
) -> None:
    """Nothing is written outside of the folder of the attempt, and nothing is left in part."""
    result = bundle(tmp_path / "outputs", *members) | changed
    with pytest.raises(ProductError, match=said):
        unpack(tmp_path / "outputs", NAME, result, tmp_path / "attempts" / "job")
    place = tmp_path / "attempts"
    assert not place.exists() or [one.name for one in place.rglob("*")] in ([], ["job"])
    assert not (tmp_path / "escaped").exists()


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    result = bundle(tmp_path / "outputs")
    (tmp_path / "outputs" / f"{NAME}.1-2.tar").write_bytes(b"x" * 5000)
    with pytest.raises(ProductError, match="cannot be unpacked"):
        unpack(tmp_path / "outputs", NAME, {**result, "bytes": 5000}, tmp_path / "attempts" / "job")


def test_unpacked_in_part_before_a_death(tmp_path: Path) -> None:
    """Whoever comes after it goes on."""
    result = bundle(tmp_path / "outputs", member("out", tarfile.DIRTYPE), member("out/h.txt"), member("stdout"))
    place = tmp_path / "attempts" / "job"
    (place / "out").mkdir(parents=True)
    (place / "out" / "h.txt").write_text("x")
    (place / "inputs.txt").write_text("")
    unpack(tmp_path / "outputs", NAME, result, place)
    assert sorted(one.name for one in place.rglob("*")) == ["h.txt", "inputs.txt", "out", "stdout"]
    assert [one.name for one in place.parent.iterdir()] == ["job"]


def test_lists_of_its_own(tmp_path: Path) -> None:
    """A job that goes to the batch system after all takes its lists along."""
    (tmp_path / "a").mkdir()
    (tmp_path / "runs.txt").write_text("1\n")
    (tmp_path / "inputs-1.txt").write_text("x\n")
    shared = str(tmp_path / "inputs-1.txt")
    environment = {"CALIB_RUNS_FILE": str(tmp_path / "runs.txt"), "CALIB_INPUTS": shared}
    made = with_own_lists(submission(tmp_path / "a", environment=environment, command=("m", shared)))
    assert made.command == ("m", str(tmp_path / "a" / "inputs.txt"))
    assert {name: Path(file).read_text() for name, file in made.environment.items()} == {
        "CALIB_RUNS_FILE": "1\n",
        "CALIB_INPUTS": "x\n",
    }


def test_what_a_refused_result_names_goes(mailbox: Mailbox) -> None:
    """And nothing of another one."""
    other = HandedOver(ORDER, Worker(0, 12))
    for name in (NAME, other):
        (mailbox.folder / "results" / str(name)).write_text("{}")
        (mailbox.folder / "outputs" / f"{name}.1-2.tar").touch()
    mailbox.put_away(str(NAME), refused=True)
    assert [one.name for one in (mailbox.folder / "outputs").iterdir()] == [f"{other}.1-2.tar"]


@pytest.mark.parametrize("carried", [False, True], ids=["shared", "carried"])
@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137)])
def test_checksums_of_products(tmp_path: Path, script: str, code: int, *, carried: bool) -> None:
    """Of those that are files, of a job that ended well; its end is its own."""
    folder = tmp_path / "a"
    write = "echo x >'a \\b'; mkdir d; echo y >d/e; mkfifo pipe; "
    products = ("a \\b", "d/e", "pipe", "absent", "d")
    job = submission(folder, command=("sh", "-c", write + script), products=products)
    text = carried_order(job, 1, tmp_path / "g1") if carried else shared_order(job, job)
    (tmp_path / "order.sh").write_text(text)
    environment = {**os.environ, "_CONDOR_SCRATCH_DIR": str(tmp_path)}
    assert subprocess.run(["sh", tmp_path / "order.sh"], env=environment, timeout=60).returncode == code
    place = tmp_path / "order" if carried else folder
    sums = place / SUMS
    lines = sums.read_text().splitlines() if sums.exists() else []
    out = place / "out"
    assert lines == ([f"{checksum(out / name)}  {name}" for name in products[:2]] if code == 0 else [])
