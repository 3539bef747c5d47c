"""Processes that carry, to be killed anywhere: ``python -m tests.mirror.carry LEDGER TARGET-AS-JSON PID-FILE``.

The first process only imports, which takes seconds, and forks another one that carries; when that is killed, the next.
"""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import carrier, sampling, state
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget
from tests.mirror.conftest import let_the_disk_rest


def main(url: str, target: str, pid_file: Path) -> None:
    state.LEASE = timedelta(seconds=2)
    carrier.LONGEST_BACK_OFF = 0.5
    if json.loads(target).get("bucket"):
        import influxdb_client  # noqa: F401 - so that each of the others need not
    while True:
        child = os.fork()
        if not child:
            _carry(url, target)
        pid_file.write_text(str(child))
        os.waitpid(child, 0)


def _carry(url: str, target: str) -> None:
    client = InfluxClient(InfluxTarget.from_mapping(json.loads(target)))
    ledger = Ledger(url)
    let_the_disk_rest(ledger)
    made = carrier.Carrier(ledger, client, before_step=sampling.sample)
    parent = os.getppid()
    while os.getppid() == parent:
        step = made.step()
        time.sleep(min(step.pause, 0.5))
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
