"""What begins in Airflow is killed at random, again and again, and tried anew: no run twice, none lost."""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.injection import backfill, forms
from airflow_calib_provider.injection.adopting import ByHand, adopt
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.backfill_days import Day
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.spec.loader import load_workflow
from tests import processes
from tests.cli.world import NOW, World, row

ROUNDS = 50
ENDED = datetime(2026, 3, 1, 8, tzinfo=UTC)
POINTS = {
    "form": ("campaign.after_commit", "form.after_create"),
    "hand": ("adopt.before_commit", "adopt.after_commit"),
    "day": ("campaign.after_commit", "form.after_create", *(f"backfill.after_{at}" for at in ("begin", "add", "day"))),
}


def nobody(_dag_id: str, run_ids: Sequence[str] | None) -> int:
    return 0


def act(url: str, specs: Path, what: str, name: str, first: int) -> None:
    """One of the ways in which a campaign of two runs begins."""
    ledger = Ledger(url)
    if what == "form":
        forms.create(ledger, specs, {"name": name, "runs": f"{first}-{first + 1}", "workflows": ["demo"]}, name, NOW)
    elif what == "hand":
        flow = load_workflow(specs / "demo.yaml")
        form = {"runs": f"{first}-{first + 1}", "campaign": name}
        adopt(ledger, flow, ByHand.of_form(flow, "demo__fill", name, form, None), NOW)
    else:
        begin = ENDED + timedelta(days=first // 10 - 1, hours=-8)
        day = Day("calib_backfill", name, begin, begin + timedelta(days=1))
        backfill.collect(ledger, specs, {"campaign": name, "workflows": ["demo"]}, day, nobody, NOW)
    ledger.close()


def ended(number: int) -> dict[str, Any]:
    end = ENDED + timedelta(days=number // 10 - 1, hours=number % 10)
    return row(number) | {"start": (end - timedelta(minutes=30)).isoformat(), "end": end.isoformat()}


@pytest.mark.long
def test_no_run_twice_and_none_lost(world: World, tmp_path: Path) -> None:
    world.inject(*(ended(10 * day + n) for day in (1, 2, 3) for n in (1, 2)))
    url = world.ledger.url.render_as_string(hide_password=False)
    seed = random.randrange(1 << 32)
    choose = random.Random(seed)
    asked: dict[str, tuple[str, int]] = {}
    kills = 0
    for n in range(ROUNDS):
        what, first, name = choose.choice(list(POINTS)), 10 * choose.randint(1, 3) + 1, f"c{n}"
        marks = tmp_path / name
        marks.mkdir()
        points = ",".join(choose.sample(POINTS[what], choose.randint(1, 2)))
        crash = {"CALIB_CRASH_AT": points, "CALIB_CRASH_FOLDER": str(marks)}
        asked[name] = (what, first)
        for _ in range(4):
            code = processes.run(act, url, world.specs, what, name, first, **crash).returncode
            kills += code == -signal.SIGKILL
            if code == 0:
                break
        assert code == 0, (seed, what, points)
    assert kills >= ROUNDS // 2, seed
    world.inject()
    listed = Counter((item.campaign, item.run) for item in world.rows(tables.campaign_run))
    assert set(listed.values()) == {1}
    for name, (_, first) in asked.items():
        assert sorted(run for campaign, run in listed if campaign == name) == [first, first + 1], (seed, name)
    members = Counter((item.campaign, item.workflow, item.grouping, item.run) for item in world.rows(tables.membership))
    assert set(members.values()) == {1}
    own = [item for item in world.rows(tables.membership) if item.campaign in asked and item.state == "grouped"]
    groups = {(item.campaign, item.grouping, item.group_id) for item in own}
    hands = [name for name, (what, _) in asked.items() if what == "hand"]
    assert sorted(name for name, _, _ in groups if name in hands) == sorted(hands), "one group each"
    others = {name for name in asked if name not in hands}
    assert {(item.campaign, item.run) for item in own if item.grouping == "run"} == {
        (name, run) for name in others for run in (asked[name][1], asked[name][1] + 1)
    }
