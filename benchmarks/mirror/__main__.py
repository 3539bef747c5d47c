"""``python -m benchmarks.mirror [--only PART] [--server VERSION] [--json FILE]``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.figures import Report
from benchmarks.mirror import cost, lag, throughput
from tests.cache import UnavailableError
from tests.influx.building import RECIPES
from tests.influx.server import Influx

PARTS = {"points": throughput.run, "lag": lag.run, "cost": cost.run}


def main(arguments: list[str]) -> int:
    """Measure; a missed goal is no error."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mirror", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be given again")
    parser.add_argument("--server", choices=list(RECIPES), help="this InfluxDB only")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    given = parser.parse_args(arguments)
    for version in [given.server] if given.server else list(RECIPES):
        report = Report(f"InfluxDB {version}", given.json and given.json.with_suffix(f".{version}.json"))
        with tempfile.TemporaryDirectory() as folder:
            try:
                with Influx(version, Path(folder) / "influx") as server:
                    for part in given.only or PARTS:
                        PARTS[part](server, Path(folder), report)
            except UnavailableError as error:
                sys.stdout.write(f"no figures: {error}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
