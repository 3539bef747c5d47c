"""Updates and jobs of a step that say or leave what nobody expects: the step ends with its name, and nothing hangs."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets.folders import generation_folder
from airflow_calib_provider.jobsets.reports import told_of_iteration
from airflow_calib_provider.jobsets.step_files import keep_start
from airflow_calib_provider.ledger import tables
from tests.jobsets.iterations import MEASURE, SPEC, Iterations

WORKERS = "reserve: true, heartbeat: 1s, lost_after: 60s"
FIXED = SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 1")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Iterations]:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CALIB_LOCAL_SLOTS", "4")
    made = Iterations(tmp_path / "home")
    yield made
    made.ledger.close()


@pytest.mark.parametrize("name", ["\\\\ud800", "a\\\\u0000b", "x" * 500, ""], ids=["half", "NUL", "long", "empty"])
def test_a_metric_with_a_name_that_is_none(place: Iterations, name: str) -> None:
    place.write(FIXED)
    place.reports(f"""printf '%b\\n' '{{"metrics": {{"{name}": {{"value": 1}}}}}}' >> "$CALIB_REPORT" """)
    standing = place.finish(place.begin(), 60)
    assert (standing.state, dict(standing.reason or {})["code"]) == ("failed", "iteration_failed")
    assert "name" in render(standing.reason)


@pytest.mark.parametrize("events", ["3000000000", "1e300", "-1e300"])
def test_events_beyond_all_numbers(place: Iterations, events: str) -> None:
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, min_events: 10,"))
    place.script("measure", MEASURE.replace("100}", f"{events}}}"))
    generation = place.begin()
    standing = place.finish(generation, 120)
    assert standing.state == ("failed" if events.startswith("-") else "done"), standing
    if events == "3000000000":
        assert {one.events for one in place.steps(generation)} == {9_000_000_000}


def test_a_folder_is_no_constants(place: Iterations) -> None:
    place.script("update", 'mkdir "$CALIB_OUT/c.txt"; echo 1 > "$CALIB_OUT/c.txt/x"')
    standing = place.finish(place.begin(), 60)
    assert standing.state == "failed"
    assert "c.txt is a folder" in render(standing.reason)


def test_a_report_that_has_changed_since(tmp_path: Path) -> None:
    for text in ("{", "[" * 90_000, "5\n"):
        (tmp_path / "report.jsonl").write_text(text)
        with pytest.raises(ProductError, match=r"report\.jsonl:1"):
            told_of_iteration(tmp_path / "report.jsonl")


@pytest.mark.parametrize("name", ["a\nb.txt", "a\rb.txt", "x" * 250])
def test_first_constants_of_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("1")
    kept, _ = keep_start(tmp_path / name, tmp_path / "kept")
    assert kept.read_text() == "1"
    assert kept.name.isprintable()


def test_a_pipe_is_no_first_constants(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ProductError, match="first constants"):
        keep_start(tmp_path / "pipe", tmp_path / "kept")


@pytest.mark.parametrize("reserve", ["true", "false"])
def test_files_of_any_name(place: Iterations, reserve: str) -> None:
    """Blanks, quotes and what a shell would run are characters as any other."""
    odd = """a  b'c"$(touch ran)`touch ran`;%s&.txt"""
    text = FIXED.replace("split: {count: 3}, ", "").replace("visits: 1", "visits: 2")
    text = text.replace(
        "phases:", f"workers: {{count: 2, {WORKERS if reserve == 'true' else 'reserve: false'}}}\n      phases:"
    )
    text = text.replace("start.txt", "start of\\nit's.txt").replace(
        "products: {hist: h.txt}", f"products: {{hist: {json.dumps(odd)}}}"
    )
    place.write(text.replace("c.txt", odd.replace("'", "''").join("''")))
    (place.specs / "start of\nit's.txt").write_text("1\n")
    name = shlex.quote(odd)
    place.script("measure", f'cat "$CALIB_CONSTANTS" > "$CALIB_OUT"/{name}; echo $CALIB_JOB >> "$CALIB_OUT"/{name}')
    place.script(
        "update",
        f'cat "$CALIB_CONSTANTS" > "$CALIB_OUT"/{name}; grep -c hist "$CALIB_RESULTS_FILE" >> "$CALIB_OUT"/{name}',
    )
    generation = place.begin()
    standing = place.finish(generation, 120)
    assert standing.state == "done", standing
    (row,) = place.rows(tables.generation)
    (kept,) = generation_folder(f"prompt/zee/scale/run-r1/g{row.n}").glob("job-00000/out/a*")
    assert (kept.name, kept.read_text()) == (odd, "1\n2\n2\n")
    assert not list(place.specs.parent.rglob("ran"))
