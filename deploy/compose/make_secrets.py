"""Makes the secrets of the services, once, and gives each service a folder with those that it needs.

Run by the service ``secrets`` before all others: ``python make_secrets.py /secrets``. What exists stays as it is, so it
may run again at any time. With ``--show`` it prints how a person logs in. Standard library only.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path

OWNERS = {"postgres": 999, "airflow": 50000, "api": 50000, "influxdb": 1000, "grafana": 472}
"""Service → the user of its image, who alone can read its folder."""

SECRETS: dict[str, Callable[[], str]] = {
    name: lambda: secrets.token_urlsafe(32)
    for name in (
        "postgres",
        "airflow_database",
        "ledger_database",
        "api_secret",
        "jwt_secret",
        "airflow_admin",
        "influxdb_admin",
        "influxdb_admin_token",
        "influxdb_mirror",
        "influxdb_grafana",
        "grafana_admin",
    )
} | {"fernet_key": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode()}
"""What is made, each 256 bits."""


def files(known: dict[str, str]) -> dict[str, str]:
    """Every file that a service reads: its path, its content.

    :param known: the secrets by name.
    """
    users = {"airflow": "airflow_database", "calib": "ledger_database"}
    return {
        "postgres/superuser": known["postgres"],
        **{f"postgres/{user}": known[name] for user, name in users.items()},
        # Addresses of databases hold no password: libpq looks it up here.
        "airflow/pgpass": "".join(f"postgres:5432:{user}:{user}:{known[name]}\n" for user, name in users.items()),
        "airflow/fernet_key": known["fernet_key"],
        "airflow/api_secret": known["api_secret"],
        "airflow/jwt_secret": known["jwt_secret"],
        "airflow/influxdb": known["influxdb_mirror"],
        "api/passwords.json": json.dumps({"admin": known["airflow_admin"]}),
        "influxdb/admin": known["influxdb_admin"],
        "influxdb/admin_token": known["influxdb_admin_token"],
        "influxdb/mirror": known["influxdb_mirror"],
        "influxdb/grafana": known["influxdb_grafana"],
        "grafana/admin": known["grafana_admin"],
        "grafana/influxdb": known["influxdb_grafana"],
    }


def make(folder: Path, owners: dict[str, int] = OWNERS) -> None:
    """Make what is missing, and lay out each service's folder anew.

    :param folder: has a folder for each service, and ``all``, which no service but this one sees.
    """
    (folder / "all").mkdir(mode=0o700, exist_ok=True)
    known = {name: _kept(folder / "all" / name, new) for name, new in SECRETS.items()}
    for service, owner in owners.items():
        (folder / service).mkdir(exist_ok=True)
        (folder / service).chmod(0o700)
        os.chown(folder / service, owner, 0)
    for name, content in files(known).items():
        service = name.partition("/")[0]
        # Airflow's API server locks its file by opening it for writing.
        _write(folder / name, content, 0o600 if service in ("api", "airflow") else 0o400, owners[service])


def _kept(file: Path, new: Callable[[], str]) -> str:
    if not file.exists():
        _write(file, new(), 0o400, os.getuid())
    return file.read_text()


def _write(file: Path, content: str, mode: int, owner: int) -> None:
    """Write a file that is whole, and private from the beginning."""
    aside = file.with_name(f".{file.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(content)
    os.chown(aside, owner, 0)
    aside.replace(file)


def show(folder: Path) -> str:
    """How a person logs in."""
    known = {name: (folder / "all" / name).read_text() for name in ("airflow_admin", "grafana_admin")}
    return f"Airflow: admin {known['airflow_admin']}\nGrafana: admin {known['grafana_admin']}"


def main() -> None:
    """Make what is missing, or show how a person logs in."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--show", action="store_true", help="print how a person logs in, and make nothing")
    chosen = parser.parse_args()
    if chosen.show:
        print(show(chosen.folder))
    else:
        make(chosen.folder)


if __name__ == "__main__":
    main()
