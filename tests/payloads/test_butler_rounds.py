"""Sets that go to a git repository and to a butler, whatever dies meanwhile: as with a nopayloaddb (rule 71)."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lsst.daf.butler", reason="the extra `butler` is not installed")

from lsst.daf.butler import Butler, CollectionType, DatasetType

from airflow_calib_provider import api, crash
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import publications
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from airflow_calib_provider.payloads.publication import finish_all
from airflow_calib_provider.spec.models import OutsideTarget
from tests import processes
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import GIT, TAGS, Outward, Reader, flow_of

BUTLER = OutsideTarget(kind="butler", place="rubin/calib/prompt")
POINTS = sorted(point for point in crash.POINTS if point.startswith("publication."))


def connect(folder: Path) -> None:
    git, butler = (str(folder / name) for name in ("conditions.git", "repository"))
    known = {
        "conditions": OutsideConnection("conditions", "calib_git", host=git),
        "rubin": OutsideConnection("rubin", "calib_butler", host=butler),
    }
    look_up_with(known.get)


def publish(url: str, folder: Path, group: int, text: str, stores: Any) -> None:
    """What the task does, in a process of its own."""
    connect(folder)
    files = {tag: folder / "products" / f"{tag}.yaml" for tag in TAGS}
    for tag, file in files.items():
        file.write_text(f"text: {text} of {tag}\n")
    ledger = Ledger(url)
    flow = flow_of(folder, stores=stores, file=str(files[TAGS[0]]), more=((TAGS[1], str(files[TAGS[1]])),))
    try:
        publish_group(ledger, flow, flow.tasks["deliver"], group, now=datetime.now(UTC))
    finally:
        ledger.close()


@pytest.fixture
def world(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Outward]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    repository = tmp_path / "repository"
    Butler.makeRepo(str(repository))
    with Butler.from_config(str(repository), writeable=True) as butler:
        butler.collections.register("calib/prompt", CollectionType.CALIBRATION)
        for tag in TAGS:
            kind = DatasetType(tag, butler.dimensions.conform([]), "StructuredDataDict", isCalibration=True)
            butler.registry.registerDatasetType(kind)
    with nopayloaddb() as server:
        made = Outward(tmp_path, ledger, server)
        connect(tmp_path)
        yield made
    look_up_with(lambda name: None)


@pytest.mark.long
@pytest.mark.parametrize("rounds", [10, 50])
def test_rounds_of_deaths(world, rounds):
    seed = int(os.environ.get("CALIB_TEST_SEED", random.randrange(10**6)))
    chance = random.Random(seed)
    print(f"CALIB_TEST_SEED={seed}")

    def clock() -> datetime:
        return datetime.now(UTC)

    with Reader(world.url):
        for number in range(rounds):
            marks = world.folder / f"marks{number}"
            marks.mkdir()
            died = {"CALIB_CRASH_AT": chance.choice([*POINTS, ""]), "CALIB_CRASH_FOLDER": str(marks)}
            order = chance.choice([(GIT, BUTLER), (BUTLER, GIT)])
            group = chance.choice(world.groups[:4])
            processes.run(publish, world.url, world.folder, group, str(number % 7), order, **died)
            if chance.random() < 0.5:
                finish_all(world.ledger, clock)
        for _ in range(3):
            finish_all(world.ledger, clock)
    with world.ledger.read() as connection:
        assert publications.on_their_way(connection) == []
    world.is_whole()
    assert list(api.check_stores(world.ledger)) == []
