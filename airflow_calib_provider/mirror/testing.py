"""What is wrong with a connection to an InfluxDB, found without writing a point."""

from __future__ import annotations

from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.reading import ensure_readable


def examine(client: InfluxClient) -> str:
    """Ask for its version, read, and write nothing to each place that points go to.

    :returns: what is well, for people.
    :raises MirrorError: something is wrong.
    """
    answer, version = client.ping()
    if not answer.ok:
        raise client.trouble(answer)
    done = ensure_readable(client)
    for route in client.target.routes_of():
        answer = client.try_route(route)
        if not answer.ok:
            raise client.trouble(answer)
    return "; ".join(
        part for part in (f"InfluxDB {version} at {client.target.place} can be read and written", done) if part
    )
