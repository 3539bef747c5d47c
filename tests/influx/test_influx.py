"""The servers for tests do what tests rely on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from influxdb_client import InfluxDBClient
from influxdb_client.client.write_api import SYNCHRONOUS

from tests.cache import UnavailableError, kept, kept_folder
from tests.influx.building import RECIPES, _Build
from tests.influx.server import Influx

TIME = 1_767_225_600_000_000_001
POINT = f'job,task=fit state="done",n=3i,pull=0.5 {TIME}'
ROW = {"_name": "job", "time": TIME, "n": 3, "pull": 0.5, "state": "done", "task": "fit"}
READ = "SELECT * FROM job"


def within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.05)


def test_a_point_comes_back_to_the_nanosecond(influx: Influx) -> None:
    influx.write(POINT)
    assert influx.query(READ) == [ROW]


def test_each_test_has_a_database_of_its_own(influx: Influx) -> None:
    assert influx.query(READ) == []
    assert influx.database.startswith("t")


def test_it_is_the_version_that_it_says(influx: Influx) -> None:
    assert influx.version in httpx.get(f"{influx.url}/ping").headers["X-Influxdb-Version"]


@pytest.mark.parametrize("credentials", [{}, {"auth": ("writer", "wrong")}, {"headers": {"Authorization": "Token x"}}])
def test_nobody_comes_in_without_credentials(influx: Influx, credentials: dict[str, object]) -> None:
    for path in ("/write", "/api/v2/write"):
        where = {"db": influx.database, "org": influx.org, "bucket": influx.bucket or influx.database}
        answer = httpx.post(f"{influx.url}{path}", params=where, content=POINT, **credentials)  # type: ignore[arg-type]
        assert answer.status_code == 401
    answer = httpx.get(f"{influx.url}/query", params={"db": influx.database, "q": READ}, **credentials)  # type: ignore[arg-type]
    assert answer.status_code == 401


def test_a_user_of_version_1_has_one_database(influx1: Influx) -> None:
    user = (influx1.user, influx1.password)
    given = httpx.post(f"{influx1.url}/write", params={"db": influx1.database}, content=POINT, auth=user)
    assert given.status_code == 204
    assert influx1.query(READ) == [ROW]
    influx1.query("CREATE DATABASE other")
    assert httpx.post(f"{influx1.url}/write", params={"db": "other"}, content=POINT, auth=user).status_code == 403
    create = {"q": "CREATE DATABASE more"}
    assert httpx.post(f"{influx1.url}/query", params=create, auth=user).status_code == 403


def test_a_token_of_version_2_may_have_one_bucket(influx2: Influx) -> None:
    token = {"Authorization": f"Token {influx2.bucket_token('write')}"}
    there = {"org": influx2.org, "bucket": influx2.bucket}
    assert httpx.post(f"{influx2.url}/api/v2/write", params=there, content=POINT, headers=token).status_code == 204
    elsewhere = {**there, "bucket": "first"}
    assert httpx.post(f"{influx2.url}/api/v2/write", params=elsewhere, content=POINT, headers=token).status_code == 403
    asked = {"db": influx2.database, "q": READ}
    assert httpx.get(f"{influx2.url}/query", params=asked, headers=token).json().get("results") in (None, [])
    assert influx2.query(READ) == [ROW]


def test_the_usual_client_writes(influx: Influx) -> None:
    if influx.major == 1:
        token, org, bucket = f"{influx.user}:{influx.password}", "-", f"{influx.database}/autogen"
    else:
        token, org, bucket = influx.token, influx.org, influx.bucket
    with InfluxDBClient(influx.url, token=token, org=org) as client:
        client.write_api(write_options=SYNCHRONOUS).write(bucket, record=POINT)
    assert influx.query(READ) == [ROW]


def test_what_is_refused_is_said(influx: Influx) -> None:
    with pytest.raises(RuntimeError, match=r"partial write|unable to parse"):
        influx.write("not a point")
    with pytest.raises(RuntimeError, match="error parsing query"):
        influx.query("SELEKT")


def test_it_survives_a_kill(influx: Influx) -> None:
    influx.write(POINT)
    port = influx.port
    influx.kill()
    assert not influx.running()
    with pytest.raises(httpx.ConnectError):
        influx.query(READ)
    influx.start()
    assert influx.port == port
    assert influx.query(READ) == [ROW]


def test_it_is_restarted_by_a_thread(influx: Influx) -> None:
    influx.write(POINT)
    thread = threading.Thread(target=influx.restart)
    thread.start()
    thread.join()
    time.sleep(0.2)  # the thread that started it has ended
    assert influx.query(READ) == [ROW]


def test_it_can_be_silent(influx: Influx) -> None:
    influx.stop_silently()
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(f"{influx.url}/ping", timeout=0.5)
    influx.resume()
    influx.write(POINT)
    assert influx.query(READ) == [ROW]


def test_a_dead_one_is_started_for_the_next_test(influx: Influx) -> None:
    influx.kill()


def test_the_next_test_finds_it(influx: Influx) -> None:
    assert influx.running()


@pytest.mark.influx
@pytest.mark.parametrize("who", ["owner", "guard"])
def test_it_ends_with_its_owner_and_its_guard(influx1: Influx, tmp_path: Path, who: str) -> None:
    code = """
        import signal, sys
        from pathlib import Path
        from tests.influx.server import Influx
        server = Influx(sys.argv[1], Path(sys.argv[2])).start()
        print(server._server.number, server._server._guard.pid, flush=True)
        signal.pause()
    """
    command = [sys.executable, "-c", textwrap.dedent(code), influx1.version, str(tmp_path)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        server, guard = map(int, owner.stdout.readline().split())
        os.kill(owner.pid if who == "owner" else guard, signal.SIGKILL)
        within(10, lambda: not Path(f"/proc/{server}").exists())
        owner.kill()


def test_a_build_that_fails_says_where_its_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path))
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    for recipe in RECIPES.values():
        with pytest.raises(
            UnavailableError, match=rf"cannot build InfluxDB {recipe.version} \(log: .*\): .+"
        ) as caught:
            kept(recipe.name, recipe.text(), lambda folder, recipe=recipe: _Build(recipe, folder).run())
        assert "\n" not in str(caught.value)
        assert not kept_folder(recipe.name, recipe.text()).exists()


def test_a_build_without_its_tools_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"InfluxDB 1.8.10 for the tests needs go, nice, setpriv to be built"):
        Influx("1.8.10", tmp_path / "data").start()
