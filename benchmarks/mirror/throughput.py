"""Points per second, beside the raw influxdb-client that is given the same points."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from airflow_calib_provider.mirror import outbox
from airflow_calib_provider.mirror.carrier import Carrier
from airflow_calib_provider.mirror.client import InfluxClient
from airflow_calib_provider.mirror.lines import line_of
from airflow_calib_provider.mirror.points import PointMaker
from airflow_calib_provider.mirror.schema import MEASUREMENTS, Point
from benchmarks.figures import Figure, Report, spread
from benchmarks.mirror.place import Place, target_of

JOBS, TIMES = 5_000, 10
BATCH = 5_000
ROUNDS = 5
GOAL = 0.9


def run(server: Any, folder: Path, report: Report) -> None:
    """Everything from the ledger to the server, beside points that lie ready in memory."""
    place = Place(folder / f"throughput-{server.version}", JOBS)
    for turn in range(TIMES - 2):
        before, after = ("submitted", "running") if turn % 2 == 0 else ("running", "submitted")
        with place.ledger.write() as connection:
            place.toggle(connection, 0, JOBS, before, after)
    points = _points(place)
    machine = report.machine()
    ours, objects, lines = [], [], []
    for _ in range(ROUNDS):
        ours.append(_ours(place, server, len(points)))
        objects.append(_peer_objects(server, points))
        lines.append(_peer_lines(server, points))
    ratios = [one / other for one, other in zip(ours, objects, strict=True)]
    report.add(
        Figure(
            "points per second",
            f"{len(points):,} points: ours {statistics.median(ours):,.0f}, influxdb-client "
            f"{statistics.median(objects):,.0f}; ratio {spread(ratios)}, {ROUNDS} pairs",
            machine,
            f"at least {GOAL:g} x",
            statistics.median(ratios) >= GOAL,
            [
                "ours: from the ledger's rows (SQLite) to the last answer, with lease, cursor and JSON",
                "influxdb-client: Point objects made of ready values, SYNCHRONOUS writes of 5,000",
                f"for comparison, ready lines through influxdb-client: {statistics.median(lines):,.0f} points/s",
            ],
            {"ours": ours, "objects": objects, "lines": lines},
        )
    )


def _points(place: Place) -> list[Point]:
    maker, made, cursor = PointMaker(), [], 0
    while True:
        with place.ledger.read() as connection:
            rows = outbox.after(connection, cursor, BATCH)
            maker.prepare(connection, rows)
        if not rows:
            return made
        made += [point for row in rows for point in maker.points(row)]
        cursor = rows[-1].id


def _ours(place: Place, server: Any, expected: int) -> float:
    name = server.new_database()
    client = InfluxClient(target_of(server))
    carrier = Carrier(place.ledger, client, name=name)
    begin, points = time.perf_counter(), 0
    while step := carrier.step():
        points += step.points
        if step.trouble or not step.carried:
            break
    seconds = time.perf_counter() - begin
    client.close()
    server.drop_database(name)
    if points != expected:
        raise RuntimeError(f"{points} points were written, not {expected}: {step.trouble}")
    return points / seconds


def _writer(server: Any) -> Any:
    from influxdb_client import InfluxDBClient
    from influxdb_client.client.write_api import SYNCHRONOUS

    target = target_of(server)
    token = target.token.get_secret_value() or f"{target.user}:{target.password.get_secret_value()}"
    client = InfluxDBClient(url=target.url, token=token, org=target.org or "-")
    return client.write_api(write_options=SYNCHRONOUS), target.bucket


def _peer_objects(server: Any, points: list[Point]) -> float:
    from influxdb_client import Point as TheirPoint

    name = server.new_database()
    api, bucket = _writer(server)
    begin = time.perf_counter()
    for start in range(0, len(points), BATCH):
        batch = []
        for item in points[start : start + BATCH]:
            about = MEASUREMENTS[item.measurement]
            made = TheirPoint(item.measurement).time(item.time)
            for tag, text in zip(about.tags, item.tags, strict=True):
                made.tag(tag, text)
            for field, value in zip(about.fields, item.fields, strict=True):
                if value is not None:
                    made.field(field, value)
            batch.append(made)
        api.write(bucket=bucket, record=batch)
    seconds = time.perf_counter() - begin
    server.drop_database(name)
    return len(points) / seconds


def _peer_lines(server: Any, points: list[Point]) -> float:
    name = server.new_database()
    api, bucket = _writer(server)
    lines = [line_of(point) for point in points]
    begin = time.perf_counter()
    for start in range(0, len(lines), BATCH):
        api.write(bucket=bucket, record="\n".join(lines[start : start + BATCH]))
    seconds = time.perf_counter() - begin
    server.drop_database(name)
    return len(points) / seconds
