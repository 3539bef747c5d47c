"""What an InfluxDB has, read back by InfluxQL, the one language of 1.x, 2.x and 3."""

from __future__ import annotations

import re
from collections.abc import Mapping

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.mirror.client import InfluxClient, Series
from airflow_calib_provider.mirror.schema import MEASUREMENTS

Key = tuple[tuple[str, ...], int]
"""Tags and time: what makes a point."""

Fields = tuple[int | float | str | bool | None, ...]

_DURATION = re.compile(r"(\d+)([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def points(client: InfluxClient, measurement: str, where: str) -> dict[Key, Fields]:
    """The points of a measurement for which a condition holds.

    Tags and fields that are not the measurement's, which InfluxQL does not tell apart, count as tags.

    :raises MirrorError: it cannot be asked.
    """
    about = MEASUREMENTS[measurement]
    found: dict[Key, Fields] = {}
    for series in _select(client, measurement, "*", where):
        position = {name: index for index, name in enumerate(series["columns"])}
        moment = position["time"]
        tags = [position.get(name) for name in about.tags]
        fields = [position.get(name) for name in about.fields]
        strange = [(name, position[name]) for name in position.keys() - {"time", *about.tags, *about.fields}]
        for row in series.get("values", ()):
            key = tuple("" if index is None or row[index] is None else row[index] for index in tags)
            if strange:
                key += tuple(f"{name}={row[index]}" for name, index in sorted(strange) if row[index] is not None)
            found[key, row[moment]] = tuple(None if index is None else row[index] for index in fields)
    return found


def count(client: InfluxClient, measurement: str, where: str) -> int:
    """How many points with the field ``event`` fulfil a condition."""
    return next(iter(_counts(client, measurement, '"event"', where).values()), 0)


def without_event(client: InfluxClient, measurement: str, where: str = "") -> int:
    """How many points at least have fields, but not ``event``: nobody of ours wrote them. 0: there are none."""
    counts = _counts(client, measurement, "*", where)
    # Asked later, so that what is written in between is not taken for something strange.
    ours = _counts(client, measurement, "*", " AND ".join(part for part in (where, f'"event" > -{10**18}') if part))
    return max((number - ours.get(name, 0) for name, number in counts.items()), default=0)


def _counts(client: InfluxClient, measurement: str, what: str, where: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for series in _select(client, measurement, f"COUNT({what})", where):
        for row in series.get("values", ()):
            named = dict(zip(series["columns"], row, strict=True))
            found |= {name: int(number or 0) for name, number in named.items() if name != "time"}
    return found


def _select(client: InfluxClient, measurement: str, what: str, where: str) -> list[Series]:
    route = client.target.route(measurement)
    condition = f" WHERE {where}" if where else ""
    # InfluxQL has no parameters for names; what stands here are names and numbers of our own.
    return client.query(f'SELECT {what} FROM "{measurement}"{condition}', route)  # noqa: S608


def retention(client: InfluxClient, measurement: str) -> int | None:
    """Seconds for which the points of a measurement are kept; ``None``: for ever, or nobody says."""
    route = client.target.route(measurement)
    if client.target.bucket:
        answer, document = client.call("GET", "/api/v2/buckets", {"name": route, "org": client.target.org})
        if answer.ok and (buckets := document.get("buckets")):
            rules = buckets[0].get("retentionRules") or [{}]
            return int(rules[0].get("everySeconds") or 0) or None
    return _retention_of_policy(client, route)


def _retention_of_policy(client: InfluxClient, route: str) -> int | None:
    database, policy = client.target.readable(route)
    try:
        series = client.query(f'SHOW RETENTION POLICIES ON "{database}"', route)
    except MirrorError:
        return None  # this user may not ask
    for item in series:
        for row in item.get("values", ()):
            about: Mapping[str, object] = dict(zip(item["columns"], row, strict=True))
            if about.get("name") == policy or (not policy and about.get("default")):
                text = str(about.get("duration", ""))
                return sum(int(n) * _SECONDS[unit] for n, unit in _DURATION.findall(text)) or None
    return None


def ensure_readable(client: InfluxClient) -> str:
    """Let InfluxQL know a bucket of 2.x, if it does not yet.

    :returns: what was done; empty: nothing had to be.
    :raises MirrorError: it cannot be read, and the token may not change that.
    """
    try:
        client.query("SHOW MEASUREMENTS LIMIT 1")
        return ""
    except MirrorError as error:
        if not client.target.bucket or not client.target.org:
            raise
        database, policy = client.target.readable(client.target.bucket)
        answer, document = client.call(
            "GET", "/api/v2/buckets", {"name": client.target.bucket, "org": client.target.org}
        )
        if not answer.ok or not document.get("buckets"):
            raise
        body = {
            "bucketID": document["buckets"][0]["id"],
            "org": client.target.org,
            "database": database,
            "retention_policy": policy or "autogen",
            "default": True,
        }
        made, _ = client.call("POST", "/api/v2/dbrps", {}, body)
        if not made.ok:
            hint = (
                f"InfluxQL reads a bucket through a DBRP mapping; an operator creates it: influx v1 dbrp create "
                f"--db {database} --rp {policy or 'autogen'} --bucket-id {body['bucketID']} --default"
            )
            raise MirrorError(error.message, hint) from None
        return f"the bucket {client.target.bucket} can be read by InfluxQL as {database} now"
