"""Secrets in the environment of Airflow's processes, and a look for them in what batch systems were told."""

from __future__ import annotations

import re

SECRET = "pl4nted-s3cret"
PLANTED = {
    "AIRFLOW_CONN_CALIB_CHAT": f'{{"conn_type": "calib_mattermost", "password": "https://c.example.org/{SECRET}"}}',
    "AIRFLOW_CONN_CALIB_INFLUXDB": f"calib-influxdb://:{SECRET}@db.example.org",
    "AIRFLOW__CORE__FERNET_KEY": SECRET,
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql://airflow:{SECRET}@db.example.org/airflow",
    "CALIB_LEDGER": f"postgresql://calib:{SECRET}@db.example.org/calib",
    "CONDITIONS_PASSWORD": SECRET,
}


def plain(text: str) -> str:
    """A text, and behind it what it says in the octal escapes in which a job's script travels."""
    return text + re.sub(r"\\\\?0([0-3][0-7]{2})", lambda found: chr(int(found[1], 8)), text)


def has_planted(text: str) -> bool:
    """Whether one of them is in a text."""
    return SECRET in plain(text) or "AIRFLOW_CONN" in plain(text)
