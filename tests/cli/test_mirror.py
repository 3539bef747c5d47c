"""``calib mirror`` with a real InfluxDB."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient
from tests.cli.conftest import Calib
from tests.cli.world import World
from tests.mirror.conftest import target_of


@pytest.fixture
def place(influx: Any, tmp_path: Path) -> list[str]:
    """Options that lead to the server."""
    file = tmp_path / "secret"
    file.write_text(f"{influx.password if influx.major == 1 else influx.token}\n")
    if influx.major == 1:
        where = ["--database", influx.database, "--user", influx.user]
    else:
        where = ["--bucket", influx.bucket, "--org", influx.org]
    return ["--url", influx.url, *where, "--token-file", str(file)]


def carried(world: World, influx: Any) -> None:
    Carrier(world.ledger, InfluxClient(target_of(influx))).step()


def test_from_the_first_event_to_a_clean_mirror(busy: World, influx: Any, place: list[str], calib: Calib) -> None:
    assert "nothing was mirrored yet" in calib.plain("mirror", "status")
    carried(busy, influx)
    found = calib.json("mirror", "status")
    assert found["targets"][0]["lag_events"] == 0
    assert found["series"]["run_task"] > 0
    report = calib.json("mirror", "check", *place)
    assert report["clean"] is True
    assert report["measurements"]["payload"]["expected"] == 1
    assert "events 1-" in calib.plain("mirror", "check", *place)
    InfluxClient(target_of(influx)).query('DELETE FROM "payload"', change=True)
    lacking = calib("mirror", "check", "--since", "2h", *place)
    assert lacking.exit_code == 1
    assert "missing: payload,campaign=prompt" in lacking.stdout
    filled = calib.json("mirror", "rebuild", *place)
    assert filled["points"] == report["measurements"]["payload"]["expected"] + sum(
        counts["expected"] for name, counts in report["measurements"].items() if name != "payload"
    )
    calib.plain("mirror", "check", *place)
    assert "deleted in" in calib.plain("mirror", "rebuild", "--delete-first", *place)
    calib.plain("mirror", "check", *place)
    assert "as 0 points" in calib.plain("mirror", "rebuild", "--since", "2100-01-01", *place)


def test_trouble_is_told(busy: World, influx: Any, place: list[str], calib: Calib) -> None:
    carried(busy, influx)
    influx.stop()
    said = calib.fails("mirror", "check", *place)
    assert influx.url in said
    assert "hint: check the address" in said
    Carrier(busy.ledger, InfluxClient(target_of(influx)))
    ledger: Ledger = busy.ledger
    busy.do("run-r6", "skim")
    mirror = Carrier(ledger, InfluxClient(target_of(influx)))
    from airflow_calib_provider.mirror import state

    with ledger.write() as connection:
        connection.execute(state.target.update().values(held_until=None, holder=None))
    assert mirror.step().trouble
    shown = calib("mirror", "status")
    assert shown.exit_code == 1
    assert "error (" in shown.stdout


def test_a_rebuild_without_a_terminal_tells_its_trouble(
    busy: World, influx1: Any, tmp_path: Path, calib: Calib, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("not-the-right-one")

    def give_up(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("airflow_calib_provider.mirror.rebuild.time.sleep", give_up)
    where = ["--url", influx1.url, "--database", influx1.database, "--user", influx1.user, "--token-file", str(wrong)]
    said = calib("mirror", "rebuild", *where).stderr
    assert "HTTP 401" in said
    assert "check the token" in said
    assert "not-the-right-one" not in said


def test_a_target_to_which_nothing_was_carried_is_not_clean(
    busy: World, influx: Any, place: list[str], calib: Calib
) -> None:
    carried(busy, influx)
    assert "nothing was ever carried to elsewhere" in calib.fails(
        "mirror", "check", "--connection", "elsewhere", *place
    )


def test_wrong_command_lines(busy: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "neither a duration" in calib.fails("mirror", "check", "--since", "yesterday", code=2)
    assert "must be filled from the beginning" in calib.fails(
        "mirror", "rebuild", "--since", "2h", "--delete-first", code=2
    )
    assert "neither a bucket" in calib.fails("mirror", "check", "--url", "http://127.0.0.1:1")
    said = calib.fails("mirror", "rebuild", "--bucket", "b", "--org", "o", code=2)
    assert "--bucket, --org: goes with --url only" in said
    away = ("--url", "http://127.0.0.1:1", "--database", "d", "--token-file", "/not/there")
    assert "/not/there" in calib.fails("mirror", "check", *away)
    from airflow_calib_provider.hooks import influxdb

    monkeypatch.setattr(influxdb, "task_target", lambda name: None)
    assert "asked were AIRFLOW_CONN_CALIB_INFLUXDB" in calib.fails("mirror", "check")
