"""Write the dashboards' JSON: ``python -m deploy.grafana [--airflow-url URL] [--folder FOLDER]``."""

from __future__ import annotations

import argparse
from pathlib import Path

from deploy.grafana.writing import AIRFLOW_URL, FOLDER, write


def main() -> None:
    """Write the dashboards."""
    parser = argparse.ArgumentParser(prog="python -m deploy.grafana", description=__doc__)
    parser.add_argument("--airflow-url", default=AIRFLOW_URL, help="where links lead at first (default: %(default)s)")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files go (default: %(default)s)")
    chosen = parser.parse_args()
    for file in write(chosen.folder, chosen.airflow_url):
        print(file)


if __name__ == "__main__":
    main()
