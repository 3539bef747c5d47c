"""What is left of addresses in texts that people read."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_calib_provider.errors import Place, SpecError
from airflow_calib_provider.secret_addresses import without_secret_addresses


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("x is 'https://a.example/h/k'; expected b", "x is 'https://a.example/…'; expected b"),
        ("{connection: https://a.example/h/k, b: c}", "{connection: https://a.example/…, b: c}"),
        ("https://a.example?key=k", "https://a.example/…"),
        ("https://a.example/", "https://a.example/"),
        ("https://a.example", "https://a.example"),
        ("root://me:k@a.example//eos/b", "root://…@a.example//eos/b"),
        ("root://a.example//eos/b, /data/b.csv, a.example/b:1", "root://a.example//eos/b, /data/b.csv, a.example/b:1"),
    ],
)
def test_what_is_cut_out(text: str, left: str) -> None:
    assert without_secret_addresses(text) == left
    assert without_secret_addresses(left) == left


@pytest.mark.parametrize(
    "text", ["a-" * 50_000, "https://" * 10_000, "a." * 50_000 + "://b/c", "https://a/" + "." * 50_000 + "b"]
)
def test_a_long_line_takes_no_time(text: str) -> None:
    start = time.process_time()
    for every in (False, True):
        without_secret_addresses(text, every=every)
    assert time.process_time() - start < 5


def test_where_connections_are_named_every_address_loses_its_path() -> None:
    text = "connection is 'a.example/h/k', zone is 'Europe/Zurich', file is '/data/b.csv'"
    left = "connection is 'a.example/…', zone is 'Europe/Zurich', file is '/data/b.csv'"
    assert without_secret_addresses(text, every=True) == left
    here = SpecError(
        "connection is 'a.example/h/k'", Place(Path("w.yaml"), 1, 1), context="  connection: a.example/h/k"
    )
    assert here.message == "connection is 'a.example/…'"
    assert here.context == "  connection: a.example/…"
