"""What iterates, from YAML to constants: with a real ledger and real jobs."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from airflow_calib_provider.api.stepping import step_to_go_back_to
from airflow_calib_provider.domain.reasons import Cause, render
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.cleaning import clean
from airflow_calib_provider.jobsets.folders import generation_folder, job_folder
from airflow_calib_provider.jobsets.kill import settle
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import generations, tables
from airflow_calib_provider.payloads import store
from tests import processes
from tests.jobsets.iterations import MEASURE, SPEC, UPDATE, Iterations, hash_of, work

TELL = 'echo "{\\"metrics\\": {\\"mass\\": {\\"value\\": $VALUE, \\"error\\": $ERROR}}}" >> "$CALIB_REPORT"'


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Iterations]:
    made = Iterations(tmp_path / "home")
    yield made
    made.ledger.close()


def publish(place: Iterations, group: str = "run-r1") -> None:
    flow = place.workflows["zee"]
    publish_group(place.ledger, flow, flow.tasks["deliver"], place.group(group), now=datetime.now(UTC))


def test_to_a_payload(place: Iterations) -> None:
    generation = place.begin()
    standing = place.finish(generation, 120)
    said: dict[str, Any] = dict(standing.reason or {})
    assert (standing.state, said["code"], said["steps"]) == ("done", "iteration_converged", 5)
    masses = place.masses(generation)
    assert abs(masses[-1] - 91.0) < 0.091 < abs(masses[-2] - 91.0)
    publish(place)
    (row,) = place.rows(tables.payload)
    assert float(store.content_path(row).read_text()) * 80.0 == pytest.approx(masses[-1]), "what was measured"
    assert [(one.step, one.value) for one in place.rows(tables.value) if one.name == "mass"] == [
        (0, pytest.approx(masses[-1]))
    ]
    products = {(one.step, one.name): one.file for one in place.rows(tables.product)}
    assert products == {(0, "constants"): "c.txt", (0, "plot"): "convergence.svg"}
    (made_by,) = row.provenance["made_by"]
    about = made_by["iteration"]
    assert (about["code"], about["step"], about["said"][:35]) == (
        said["code"],
        5,
        "stage 1, fit, step 5: converged: ma",
    )
    assert [(one["step"], one["accepted"], one["constants"]) for one in about["made"]] == [
        (one.n, 3, one.constants_hash) for one in place.steps(generation)
    ]
    assert [one["job"] for one in made_by["jobs"]] == [0]
    other = place.begin("run-r2")
    first = place.steps(other)[0]
    assert first.constants_hash == row.content_hash, "it begins with what was published"
    assert dict(place.rows(tables.generation)[1].used)["start"]["payload"] == "Scale"
    # The two that were judged are inside, and nothing is to be changed by much.
    assert place.finish(other, 120).state == "done"


def test_a_preset_says_where_it_begins(place: Iterations) -> None:
    """The one of a DAG run comes before that of the file; which it was is in the provenance."""
    presets = "presets: {near: {start: 1.1}, far: {start: 1.2}}\npreset: near\ntasks:"
    start = '{file: "{{ spec.folder }}/start-{{ params.start }}.txt"}'
    text = SPEC.replace("tasks:", presets, 1).replace('{payload: Scale}, else: "{{ spec.folder }}/start.txt"', start)
    place.write(text.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 1"))
    for name in ("1.1", "1.2"):
        (place.specs / f"start-{name}.txt").write_text(f"{name}\n")
    flow, now = place.workflows["zee"], datetime.now(UTC)
    for group, chosen, told in (("run-r1", "near", 1.1), ("run-r2", "far", 1.2)):
        params = {"preset": chosen, "runs": ""}
        options = {"max_tries": 0, "dag_run_id": "x", "now": now, "params": params}
        begun = begin(place.ledger, flow, flow.tasks["scale"], place.group(group), **options)  # type: ignore[arg-type]
        assert place.finish(begun.generation_id, 60).state == "done"
        publish_group(place.ledger, flow, flow.tasks["deliver"], place.group(group), now=now, params=params)
        (item,) = place.steps(begun.generation_id)
        assert float(generation_folder(item.constants).read_text()) == told
    assert [row.provenance["preset"] for row in place.rows(tables.payload)] == ["near", "far"]


def test_what_is_left_after_its_time(place: Iterations) -> None:
    """Attempts of all steps go, and first constants with the last generation that may need them."""
    place.write(SPEC.replace("metrics: {mass: {target: 91.0, within: 0.1%}}", "visits: 1"))
    folder = generation_folder("prompt/zee/scale/run-r1")
    later = datetime.now(UTC) + timedelta(days=31)
    for turn, content in enumerate(("1.0\n", "1.1\n")):
        (place.specs / "start.txt").write_text(content)
        assert place.finish(place.begin(max_tries=turn), 60).state == "done"
    place.script("update", "exit 1")
    (place.specs / "start.txt").write_text("1.2\n")
    assert place.finish(place.begin(max_tries=2), 60).state == "failed"
    kept = sorted(file.read_text() for file in (folder / "constants").iterdir())
    assert kept == ["1.0\n", "1.1\n", "1.2\n"]
    assert clean(place.ledger, place.backend_of, later).errors == []
    assert [file.read_text() for file in (folder / "constants").iterdir()] == ["1.2\n"], "it may be gone on with"
    assert list(folder.rglob("attempts")) == []
    assert (folder / "g1" / "step-001" / "job-00000" / "out" / "h.txt").exists()


@pytest.mark.parametrize(
    ("line", "ending", "n_steps", "best", "drawn"),
    [
        ("VALUE=NaN ERROR=0.01", "not_finite", 1, None, 0),
        ("VALUE=91.0 ERROR=0.08", "not_enough_data", 1, 1, 1),
        ("VALUE=$((91 + 1 - 2 * (CALIB_STEP % 2))) ERROR=0.01", "oscillating", 6, 1, 6),
        ("VALUE=$((91 + 3 * CALIB_STEP * CALIB_STEP)) ERROR=0.01", "diverging", 4, 1, 4),
        ("VALUE=92.0 ERROR=0.01", "stalled", 6, 1, 6),
    ],
)
def test_endings_by_name(place: Iterations, line: str, ending: str, n_steps: int, best: int | None, drawn: int) -> None:
    place.reports(TELL, line)
    generation = place.begin()
    standing = place.finish(generation, 120)
    said: dict[str, Any] = dict(standing.reason or {})
    assert (standing.state, said["code"]) == ("failed", f"iteration_{ending}"), standing
    assert len(place.steps(generation)) == n_steps
    assert render(said).startswith(f"stage 1, fit, step {n_steps}: ")
    assert best is None or said["best"] == best
    picture = ElementTree.parse(generation_folder("prompt/zee/scale/run-r1/g1") / "convergence.svg")
    assert len(picture.findall(".//{http://www.w3.org/2000/svg}circle")) == drawn


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("true", "its update has told nothing in CALIB_REPORT, such as {"),
        (
            'echo "{\\"type\\": \\"value\\", \\"name\\": \\"mass\\", \\"value\\": 91}" >> "$CALIB_REPORT"',
            'its update has told no metrics in CALIB_REPORT, such as {"metrics": {"<name>": {"value": 91.1}}}',
        ),
        ('echo "{\\"metrics\\": {}}" >> "$CALIB_REPORT"', "mass"),
        ('echo "{\\"metrics\\": {\\"mas\\": {\\"value\\": 1}}}" >> "$CALIB_REPORT"', "mas"),
        ('echo "{\\"metrics\\": {\\"mass\\": {\\"value\\": \\"91\\"}}}" >> "$CALIB_REPORT"', "91"),
        ('echo "{\\"metrics\\": 5}" >> "$CALIB_REPORT"', "5"),
    ],
)
def test_a_report_that_is_none(place: Iterations, line: str, said: str) -> None:
    place.reports(line)
    standing = place.finish(place.begin(), 60)
    assert (standing.state, dict(standing.reason or {})["code"]) == ("failed", "iteration_failed")
    assert said in render(standing.reason)


def test_an_update_that_writes_nothing(place: Iterations) -> None:
    place.write(SPEC.replace("update: {command", "update: {retries: 0, command"))
    place.script("update", "exit 0")
    standing = place.finish(place.begin(), 60)
    assert standing.state == "failed"
    said = render(standing.reason)
    assert said == "stage 1, fit, step 1: the update failed after all retries: product constants: c.txt is missing"


def test_constants_that_cannot_be_measured_with(place: Iterations) -> None:
    """What made them is blamed, and gone back to: to measure with them again would fail again."""
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, retries: 0,"))
    place.script("measure", f"grep -q '^[0-9]' \"$CALIB_CONSTANTS\" || exit 9\n{MEASURE}")
    place.script("update", f'{UPDATE}echo garbage > "$CALIB_OUT/c.txt"\n')
    generation = place.begin()
    reason = place.finish(generation, 60).reason
    none = "stage 1, fit, step 2: none of 3 jobs could measure with what the update of step 1 made (job 0: exit code 9"
    assert render(reason).startswith(none)
    advice = Cause("run-r1", dict(reason or {}), "failed", group="run-r1", workflow="zee", task="scale").release
    assert "`calib retry run-r1 --task scale --workflow zee --from-step 1`" in advice
    place.script("update", UPDATE)
    with place.ledger.write() as connection:
        generations.want_rerun(connection, place.group(), ["scale"], "from_step:1")
    assert place.begin(max_tries=1) == generation
    assert place.finish(generation, 120).state == "done"


def test_first_constants_that_cannot_be_measured_with(place: Iterations) -> None:
    """No update is to blame."""
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, retries: 0,"))
    place.script("measure", "exit 9")
    assert "step 1: 3 of 3 jobs failed after all retries" in render(place.finish(place.begin(), 60).reason)


def test_what_failed_goes_on(place: Iterations) -> None:
    """A clear goes on after the last judged step, with a window of its own; what is done is not done again."""
    place.reports(TELL, "VALUE=$((91 + 1 - 2 * (CALIB_STEP % 2))) ERROR=0.01")
    generation = place.begin()
    assert place.finish(generation, 120).state == "failed"
    before = [(one.n, one.constants_hash, one.judged_at) for one in place.steps(generation)]
    place.write(SPEC.replace("metrics:", "max_steps: 3\n          metrics:"))
    assert place.begin(max_tries=1) == generation, "the jobs are the same"
    standing = place.finish(generation, 120)
    again = place.steps(generation)
    assert [(one.n, one.constants_hash, one.judged_at) for one in again[: len(before)]] == before
    assert dict(standing.reason or {})["code"] == "iteration_max_steps"
    assert len(again) == len(before) + 3, "the new limit holds"
    place.write(SPEC.replace("91.0", "92.0"))
    assert place.begin(max_tries=2) != generation, "with another target it begins anew"


def test_back_to_a_step(place: Iterations) -> None:
    place.reports(TELL, "VALUE=92.0 ERROR=0.01")
    generation = place.begin()
    assert place.finish(generation, 120).state == "failed"
    back = step_to_go_back_to(place.ledger, "run-r1", "prompt", None, "scale", 3, None)
    assert back.discarded == [3, 4, 5, 6]
    with place.ledger.write() as connection:
        generations.want_rerun(connection, place.group(), ["scale"], back.rerun)
    place.begin(max_tries=1)
    place.finish(generation, 120)
    states = [one.state for one in place.steps(generation)]
    assert states == ["judged"] * 2 + ["discarded"] * 4 + ["judged"] * 4
    made = place.steps(generation)
    assert (made[6].n, made[6].visit, made[6].constants_hash) == (7, 3, made[2].constants_hash)


def test_a_quorum_is_enough(place: Iterations) -> None:
    """One of three jobs always fails: it is left out, and that is on record; the update sees the two others."""
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, quorum: 0.6, retries: 0, min_events: 200,"))
    place.script("measure", f"[ $CALIB_JOB != 1 ] || exit 3\n{MEASURE}")
    generation = place.begin()
    standing = place.finish(generation, 120)
    assert standing.state == "done", standing
    for one in place.steps(generation):
        assert [index for index, _ in one.accepted or ()] == [0, 2]
        assert one.left_out == {"1": "exit code 3"}
        assert one.events == 200


def test_too_few_events(place: Iterations) -> None:
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, min_events: 301,"))
    standing = place.finish(place.begin(), 60)
    assert "not enough data: 300 events, of 301 at least" in render(standing.reason)


def test_too_few_results_are_a_failure_with_the_step(place: Iterations) -> None:
    place.write(SPEC.replace("split: {count: 3},", "split: {count: 3}, retries: 0,"))
    place.script("measure", f"[ $CALIB_STEP$CALIB_JOB != 21 ] || exit 3\n{MEASURE}")
    generation = place.begin()
    standing = place.finish(generation, 60)
    said = render(standing.reason)
    assert said.startswith("stage 1, fit, step 2: 1 of 3 jobs failed after all retries"), said
    place.script("measure", MEASURE)
    assert place.begin(max_tries=1) == generation
    assert place.finish(generation, 120).state == "done"
    attempts = Counter((row.step, row.job_index) for row in place.rows(tables.attempt))
    assert attempts.pop((2, 1)) == 2
    assert set(attempts.values()) == {1}, "only the failed job ran again"


def test_a_mark_of_success_is_not_believed(place: Iterations) -> None:
    place.reports(TELL, "VALUE=92.0 ERROR=0.01")
    generation = place.begin()
    place.finish(generation, 120)
    assert settle(place.ledger, place.backend_of, generation, "success", datetime.now(UTC)) == "kept"
    assert place.rows(tables.product) == []


STEP_POINTS = [
    "generation.after_create",
    "round.after_submit",
    "jobs.after_apply",
    "products.after_promote",
    "step.before_freeze",
    "step.after_freeze",
    "step.before_update",
    "step.after_update",
    "step.before_judge",
    "step.after_judge",
    "step.before_next",
    "step.after_next",
    "generation.before_done",
    "generation.after_done",
]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, str, str | None]]:
    home = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CALIB_HOME", str(home))
        place = Iterations(home)
        generation = place.begin()
        place.finish(generation, 120)
        found = place.history(generation)
        place.ledger.close()
    return found


@pytest.mark.parametrize(
    "points", [STEP_POINTS, *(pytest.param([point], marks=pytest.mark.long) for point in STEP_POINTS)]
)
def test_dying_at(
    points: list[str],
    undisturbed: list[tuple[int, str, str, str | None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The same constants as without, bit for bit, and no job ran twice."""
    home = tmp_path / "home"
    variables = {"CALIB_HOME": str(home), "CALIB_CRASH_AT": ",".join(points), "CALIB_CRASH_FOLDER": str(tmp_path)}
    for _ in points:
        dead = processes.run(work, home, **variables)
        assert dead.returncode == -signal.SIGKILL, dead.stderr
    again = processes.run(work, home, **variables)
    assert (again.returncode, again.stdout.strip()) == (0, "done"), again.stderr
    place = Iterations(home)
    (generation,) = place.rows(tables.generation)
    assert place.history(generation.id) == undisturbed
    assert set(Counter((row.step, row.job_index) for row in place.rows(tables.attempt)).values()) == {1}
    assert hash_of(job_folder(generation.folder, 0) / "out" / "c.txt") == undisturbed[-1][2]
    assert {row.state for row in place.rows(tables.round_)} == {"finished"}
    place.ledger.close()
