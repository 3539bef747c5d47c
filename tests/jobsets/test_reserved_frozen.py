"""What workers that are frozen or slow cost the others: next to nothing."""

from __future__ import annotations

import os
import signal
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.jobsets.advance import advance
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.ledger import tables, workers
from tests import processes
from tests.jobsets.iterations import SPEC, Iterations
from tests.jobsets.test_reserved import workers_alive
from tests.worlds import NO_DELAY

COUNT, STEPS = 10, 15
WORKERS = f"workers: {{count: {COUNT}, quorum: 0.6, reserve: true, heartbeat: 1s, lost_after: 10s}}\n      phases:"
MEASURE = """\
[ "$CALIB_GROUP.$CALIB_JOB" != run-r2.5 ] || sleep 60
sleep 2
cp "$CALIB_CONSTANTS" "$CALIB_OUT/h.txt"
"""
UPDATE = 'read -r x < "$CALIB_CONSTANTS"; echo "1$x" > "$CALIB_OUT/c.txt"\n'


def watch(folder: Path, generation: int) -> None:
    """What a triggerer does: a look every 2 s, and as soon as there are results enough."""
    place = Iterations(folder)
    while True:
        looked = time.monotonic()
        standing = advance(place.ledger, place.backend_of, [generation], datetime.now(UTC), NO_DELAY)[generation]
        if standing.state != "running":
            break
        while time.monotonic() - looked < 2 and not (standing.awaited is not None and standing.awaited.here()):
            time.sleep(0.25)
    place.ledger.close()


@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_frozen_and_a_slow_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two iterations side by side, on the same busy machine: the disturbed one takes less than a tenth longer."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("CALIB_HOME", str(home))
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", str(3 * COUNT))
    place = Iterations(home)
    text = SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", f"visits: {STEPS}")
    place.write(text.replace("split: {count: 3}, ", "").replace("phases:", WORKERS))
    place.script("measure", MEASURE)
    place.script("update", UPDATE)
    (place.specs / "start.txt").write_text("1\n")
    calm, disturbed = place.begin("run-r1"), place.begin("run-r2")
    watchers = [processes.process(watch, home, one) for one in (calm, disturbed)]
    try:
        for one in watchers:
            one.start()
        end = time.monotonic() + 120
        while not all(place.steps(one) and place.steps(one)[0].state == "judged" for one in (calm, disturbed)):
            assert time.monotonic() < end
            time.sleep(0.2)
        alive = workers_alive(home, "run-r2")
        for number in (1, 2):
            os.kill(alive[number], signal.SIGSTOP)
        for one in watchers:
            one.join(600)
            assert one.exitcode == 0
    finally:
        for generation in (calm, disturbed):
            settle(place.ledger, place.backend_of, generation, "failed", datetime.now(UTC))
    seconds = {}
    for generation in (calm, disturbed):
        judged = [one.judged_at for one in place.steps(generation) if one.judged_at is not None]
        assert len(judged) == STEPS
        seconds[generation] = (judged[-1] - judged[0]).total_seconds()
    print(seconds)
    replaced = {
        row.job_index: row.attempt
        for row in place.rows(tables.job)
        if (row.generation_id, row.step) == (disturbed, workers.WORKERS) and row.attempt > 1
    }
    assert replaced == {1: 2, 2: 2}
    assert "running" in (place.steps(disturbed)[3].left_out or {}).values(), "the slow one"
    assert place.history(calm)[-1][2:] == place.history(disturbed)[-1][2:]
    assert seconds[disturbed] < 1.1 * seconds[calm]
    place.ledger.close()
