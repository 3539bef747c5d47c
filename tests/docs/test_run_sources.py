"""What docs/run-sources.md says of kinds, limits and its example is so."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_calib_provider.kinds import RUN_SOURCES
from airflow_calib_provider.outside import databases, http, limits
from airflow_calib_provider.runsources import http_pages, remote_keys, sql_rows, text_file
from airflow_calib_provider.spec.loader import load_sources

TEXT = (Path(__file__).parents[2] / "docs" / "run-sources.md").read_text()


def test_every_kind_is_in_the_table() -> None:
    assert re.findall(r"^\| \[`(\w+)`\]", TEXT, re.M) == list(RUN_SOURCES.own)


def test_the_example_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(apiVersion.*?)```", TEXT, re.S)
    (tmp_path / "sources.yaml").write_text(example)
    assert {source.kind for source in load_sources(tmp_path / "sources.yaml").values()} == {"http", "sql"}


def test_limits_are_those_of_the_code() -> None:
    for said in (
        f"within {limits.CONNECT:g} s",
        f"within {http.READ:g} s",
        f"at most {remote_keys.LONGEST.seconds // 60}m",
        f"{http.MAX_BYTES // 10**6} MB and {http_pages.MAX_PAGES:,} pages",
        f"| {sql_rows.MAX_ROWS:,} |",
        f"| {text_file.MAX_BYTES // 10**6} MB;",
        f"asked again up to {['', 'once', 'twice', 'three times'][http.TRIES - 1]}",
        f"is hung up on {['', 'one', 'two'][int(databases._LATER)]} seconds later",
    ):
        assert said in TEXT, said
