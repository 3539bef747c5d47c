"""The pool itself: what the tests of the HTCondor backend rely on."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.guard import alive
from tests.pool import cgroups
from tests.pool.layout import control_group, remove_leftovers
from tests.pool.pool import Pool, ScheddName

pytestmark = [pytest.mark.condor, pytest.mark.timeout(180)]

BOTH: tuple[ScheddName, ...] = ("main", "other")
START = """
import os, sys
import classad2, htcondor2
if address := os.environ.get("SCHEDD_ADDRESS"):
    ad = classad2.ClassAd({"MyAddress": address, "CondorVersion": htcondor2.version()})
else:
    ad = htcondor2.Collector().locate(htcondor2.DaemonType.Schedd, os.environ["_CONDOR_SCHEDD_HOST"])
schedd = htcondor2.Schedd(ad)
"""
SUBMIT = """
folder, *more = sys.argv[1:]
settings = {
    "executable": "/bin/sh", "arguments": f"{folder}/job.sh", "initialdir": folder, "should_transfer_files": "NO",
    "log": "log", "output": "out", "error": "err", "request_cpus": "1", "request_memory": "100", "request_disk": "1MB",
}
settings |= dict(one.split("=", 1) for one in more)
print(schedd.submit(htcondor2.Submit(settings)).cluster())
"""


def client_environment(pool: Pool, schedd: ScheddName = "main", **more: str) -> dict[str, str]:
    """The environment of a client."""
    pytest.importorskip("htcondor2", reason="the Python bindings of HTCondor are not installed")
    return os.environ | pool.client_environment(schedd) | more


def client(pool: Pool, code: str, *arguments: str, schedd: ScheddName = "main", **more: str) -> str:
    """Run code with the bindings outside the pool, in a process of its own, which can be killed when it hangs."""
    done = subprocess.run(
        [sys.executable, "-c", START + code, *arguments],
        env=client_environment(pool, schedd, **more),
        capture_output=True,
        text=True,
        timeout=10,
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout.strip()


def submit(pool: Pool, folder: Path, script: str, schedd: ScheddName = "main", **commands: str) -> int:
    """Submit one job, and return the number of its cluster."""
    (folder / "job.sh").write_text(script)
    return int(client(pool, SUBMIT, str(folder), *(f"{key}={value}" for key, value in commands.items()), schedd=schedd))


def ads(pool: Pool, tool: str, cluster: int, *attributes: str, schedd: ScheddName = "main") -> list[str]:
    """Attributes of the jobs of a cluster, from ``condor_q`` or ``condor_history``."""
    return pool.tool(tool, "-name", pool.connection(schedd)["schedd"], str(cluster), "-af", *attributes).split()


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.1)


@pytest.fixture
def folder(pool: Pool, tmp_path: Path) -> Path:
    """A folder of the test's own, that jobs may write in."""
    assert pool.shared is not None
    made = pool.shared / tmp_path.name
    made.mkdir()
    made.chmod(0o777)
    return made


def test_only_this_machine_is_served(pool: Pool) -> None:
    own = set()
    for number in pool.processes():
        own |= {os.readlink(path) for path in Path(f"/proc/{number}/fd").glob("*") if path.is_symlink()}
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    listening = {line[1] for line in lines if line[3] == "0A" and f"socket:[{line[9]}]" in own}
    assert listening
    assert all(address.startswith("0100007F:") for address in listening)


@pytest.mark.parametrize("schedd", BOTH)
def test_a_job_runs_as_its_user(pool: Pool, folder: Path, schedd: ScheddName) -> None:
    cluster = submit(pool, folder, "id -un; echo $CALIB", schedd, environment="CALIB=7")
    within(15, lambda: not ads(pool, "condor_q", cluster, "ClusterId", schedd=schedd))
    assert (folder / "out").read_text().split() == ["calib", "7"]
    assert (folder / "out").stat().st_uid == int(pool.tool("id", "-u", "calib"))
    assert ads(pool, "condor_history", cluster, "ExitCode", "Owner", schedd=schedd) == ["0", "calib"]


@pytest.mark.parametrize("kind", ["forged", "expired", "stranger", "none"])
def test_a_wrong_token_is_refused(pool: Pool, kind: str) -> None:
    if kind == "expired":
        text = pool.token(lifetime=1)
        time.sleep(2.1)
    elif kind == "stranger":
        text = pool.token("calib@elsewhere.test")
    else:
        text = pool.token(forged=True) if kind == "forged" else ""
    wrong = str(pool.token_file(text, kind).parent)
    address = client(pool, 'print(ad["MyAddress"])')
    for call in ("query()", 'submit(htcondor2.Submit({"executable": "/bin/true"}))'):
        with pytest.raises(RuntimeError, match=r"Failed to authenticate|DENIED"):
            client(pool, f"schedd.{call}", SCHEDD_ADDRESS=address, _CONDOR_SEC_TOKEN_DIRECTORY=wrong)
    with pytest.raises(RuntimeError, match="Failed communication with collector"):
        client(pool, "", _CONDOR_SEC_TOKEN_DIRECTORY=wrong)


@pytest.mark.parametrize("method", ["CLAIMTOBE", "FS", "ANONYMOUS", "PASSWORD"])
def test_no_other_way_in(pool: Pool, method: str) -> None:
    address = client(pool, 'print(ad["MyAddress"])')
    with pytest.raises(RuntimeError, match="No auth methods"):
        client(pool, "schedd.query()", SCHEDD_ADDRESS=address, _CONDOR_SEC_CLIENT_AUTHENTICATION_METHODS=method)


def test_too_much_memory_is_held(pool: Pool, folder: Path) -> None:
    cluster = submit(pool, folder, """python3 -c 'import time; more = bytearray(400_000_000); time.sleep(60)'""")
    within(20, lambda: ads(pool, "condor_q", cluster, "JobStatus") == ["5"])
    code = ads(pool, "condor_q", cluster, "HoldReasonCode", "HoldReasonSubCode")
    assert tuple(map(int, code)) == pool.memory_hold
    pool.tool("condor_rm", str(cluster))


def test_memory_used_is_reported(pool: Pool, folder: Path) -> None:
    cluster = submit(pool, folder, """python3 -c 'import time; more = bytearray(60_000_000); time.sleep(3)'""")
    within(20, lambda: not ads(pool, "condor_q", cluster, "ClusterId"))
    memory = ads(pool, "condor_history", cluster, "MemoryUsage")
    assert 60 <= int(memory[0]) <= 90


def test_a_silent_schedd_disturbs_no_other(pool: Pool, folder: Path) -> None:
    ask = [sys.executable, "-c", START + "schedd.query()"]
    pool.stop_silently("schedd")
    try:
        environment = client_environment(pool)
        silent = [subprocess.Popen(ask, env=environment, stderr=subprocess.DEVNULL) for _ in range(4)]
        for _ in range(4):
            asked = time.monotonic()
            client(pool, "schedd.query()", schedd="other")
            assert time.monotonic() - asked < 10, "a silent one lets clients wait for 20 s"
        cluster = submit(pool, folder, "true", "other")
        within(15, lambda: not ads(pool, "condor_q", cluster, "ClusterId", schedd="other"))
        assert all(one.poll() is None for one in silent)
    finally:
        pool.resume("schedd")
    assert [one.wait(20) for one in silent] == [0] * len(silent)
    client(pool, "schedd.query()")


@pytest.mark.parametrize("schedd", BOTH)
def test_a_killed_schedd_comes_back_with_its_queue(pool: Pool, folder: Path, schedd: ScheddName) -> None:
    cluster = submit(pool, folder, "true", schedd, hold="true")
    pool.restart("schedd" if schedd == "main" else "schedd:other")
    assert ads(pool, "condor_q", cluster, "JobStatus", schedd=schedd) == ["5"]
    name = pool.connection(schedd)["schedd"]
    pool.tool("condor_release", "-name", name, str(cluster))
    within(20, lambda: not ads(pool, "condor_q", cluster, "ClusterId", schedd=schedd))
    assert ads(pool, "condor_history", cluster, "ExitCode", schedd=schedd) == ["0"]


def test_a_killed_collector_comes_back(pool: Pool) -> None:
    pool.restart("collector")
    client(pool, "schedd.query()")


def traces(pool: Pool) -> list[str]:
    """What is left of a pool."""
    left = [f"process {number}: {command}" for number, command in pool.processes().items()]
    left += [line for line in Path("/proc/mounts").read_text().splitlines() if str(pool.folder) in line]
    left += [str(path) for path in cgroups.MOUNTED.glob(f"*/{control_group(pool.folder)}")]
    return left + ([str(pool.folder)] if pool.folder.exists() else [])


def test_nothing_is_left(pool: Pool) -> None:
    with Pool() as second:
        assert second.processes().keys().isdisjoint(pool.processes())
        init, processes = second.init, second.processes()
        assert processes
    assert second.guard == 0
    second.init = init
    assert traces(second) == []
    assert not any(Path(f"/proc/{number}").exists() for number in processes)


@pytest.mark.parametrize("who", ["owner", "guard"])
def test_a_pool_ends_with_its_owner_and_its_guard(who: str) -> None:
    code = """
        import signal
        from tests.pool.pool import Pool
        print(Pool().start().folder, flush=True)
        signal.pause()
    """
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        started = Pool.attach(Path(owner.stdout.readline().strip()))
        processes = started.processes()
        assert processes
        os.kill(owner.pid if who == "owner" else started.guard, 9)
        within(10, lambda: not alive(started.folder))
        within(10, lambda: not any(Path(f"/proc/{number}").exists() for number in processes))
        owner.kill()
    remove_leftovers()
    assert traces(started) == []
