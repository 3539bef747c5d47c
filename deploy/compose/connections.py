"""Writes Airflow's connection to InfluxDB, with its password, for ``airflow connections import``.

``python connections.py PASSWORD_FILE OUTPUT``. Through a file, since what stands in a command line or in the
environment is seen by others; Airflow keeps the password encrypted. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

HOST = "http://influxdb:8086"
DATABASE, USER = "calib", "mirror"


def connections(password: str) -> dict[str, dict[str, Any]]:
    """All connections by id."""
    return {
        "calib_influxdb": {
            "conn_type": "calib_influxdb",
            "host": HOST,
            "login": USER,
            "password": password,
            "extra": {"database": DATABASE},
        }
    }


def main(password_file: str, output: str) -> None:
    """Write them, readable for this user alone."""
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump(connections(Path(password_file).read_text()), stream)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
