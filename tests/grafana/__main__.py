"""The pictures of docs/dashboards.md: ``python -m tests.grafana`` draws them from a real InfluxDB with a made day."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploy.grafana.filled import Period
from deploy.grafana.pictures import FOLDER, draw
from tests.grafana.points import a_day
from tests.grafana.test_panels import MADE, asker
from tests.influx.server import Influx


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Influx("1.8.10", Path(folder)) as influx:
        influx.new_database()
        influx.write(*a_day())
        for file in draw(asker(influx), FOLDER, Period.last(1), {**MADE, "workflow": ["zee"], "name": ["scale_eb"]}):
            print(file)


if __name__ == "__main__":
    main()
