"""A process that carries, to be killed anywhere: ``python -m tests.mirror.carry LEDGER TARGET-AS-JSON``."""

from __future__ import annotations

import json
import sys
import time
from datetime import timedelta

from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.mirror import carrier, sampling, state
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.target import InfluxTarget


def main() -> None:
    state.LEASE = timedelta(seconds=2)
    carrier.LONGEST_BACK_OFF = 0.5
    made = carrier.Carrier(
        Ledger(sys.argv[1]),
        InfluxClient(InfluxTarget.from_mapping(json.loads(sys.argv[2]))),
        before_step=sampling.sample,
    )
    while True:
        step = made.step()
        time.sleep(min(step.pause, 0.5))


if __name__ == "__main__":
    main()
