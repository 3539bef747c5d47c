"""What a job is handed may grow with a group; the kernel passes on only so much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.condor.submission import items
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import RenderError, SubmissionRefused
from airflow_calib_provider.spec.language import CONTRACT
from airflow_calib_provider.spec.models import InputsCommand, Jobs
from tests.backends.conformance import Round, follow, states
from tests.jobsets.test_render import attempt, rendered
from tests.jobsets.world import World
from tests.ledger.making import facts, fill, group_ids, put_runs, workflow

MANY = 20_000
KEY = RoundKey("c", "flow", "task", "run-r1", 1, 0, 1)
SCRIPT = (
    'wc -l < "$CALIB_RUNS_FILE" > n.txt; tail -n 1 "$CALIB_RUNS_FILE" >> n.txt; echo "${CALIB_RUNS-unset}" >> n.txt'
)


def in_one_fill(world: World, count: int) -> None:
    """Let the world's task be for a group of so many runs."""
    spec = world.flow.tasks["skim"].model_copy(update={"policy": fill()})
    world.flow = workflow("ecal2", spec, file=str(world.folder / "ecal.yaml"))
    put_runs(world.ledger, world.flow, [facts(10 + number, 7) for number in range(count)] + [facts(10 + count, 8)])
    world.group = group_ids(world.ledger, "fill")["fill-r10"]


@pytest.mark.parametrize(("count", "passed"), [(2, True), (2_000, True), (MANY, False)])
def test_a_group_of_many_runs(make_world: Callable[..., World], count: int, passed: bool) -> None:
    world = make_world(SCRIPT, 2, products={"n": "n.txt"})
    in_one_fill(world, count)
    assert world.run().state == "done"
    for job in (0, 1):
        (file,) = world.folder.glob(f"products/**/job-0000{job}/out/n.txt")
        lines = file.read_text().split("\n")
        assert [int(lines[0]), int(lines[1])] == [count, 9 + count]
        assert lines[2] == (",".join(map(str, range(10, count + 10))) if passed else "unset")


LONG = "x" * 130_000


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"command": ("x", "{{ long }}")}, r"command\[1\] has 130,000 bytes, of which 100,000 may be passed on"),
        ({"environment": {"RUNS": "{{ long }}"}}, r"environment\.RUNS has 130,005 bytes"),
        (
            {"command": ("x", *["{{ part }}"] * 20)},
            r"have 1,200,001 bytes, of which 1,000,000 .*command\[1\] with 60,000",
        ),
    ],
)
def test_what_is_too_long_is_refused_with_its_place(change: dict[str, Any], place: str) -> None:
    jobs = Jobs(**{"command": ("x",), **change})
    with pytest.raises(RenderError, match=rf"^tasks\.\w+\.jobs\..*{place}.*job 0.*job\.inputs_file"):
        rendered(jobs, long=LONG, part="x" * 60_000)


def test_a_query_for_inputs_that_is_too_long_is_refused_before_it_is_asked() -> None:
    jobs = Jobs(command=("x",), inputs=InputsCommand(command=("/nowhere/catalogue", "{{ long }}")))
    with pytest.raises(RenderError, match=r"^jobs\.inputs\.command\[1\] has 130,000 bytes.*group\.first_run"):
        rendered(jobs, long=LONG)


def test_a_backend_refuses_what_cannot_be_started(tmp_path: Path) -> None:
    """For good: to try again would change nothing."""
    for size in (99_000, 140_000):
        jobs = [JobSubmission(0, 1, ("/bin/true", "x" * size), {}, tmp_path)]
        if size < 100_000:
            assert len(list(items(jobs, transfer=False))) == 1
            continue
        with pytest.raises(SubmissionRefused, match=r"command\[1\]"):
            LocalBackend(tmp_path / "spool").submit(KEY, jobs)
        with pytest.raises(SubmissionRefused, match=r"command\[1\] with 140,000"):
            list(items(jobs, transfer=False))


def test_the_longest_that_is_allowed_starts(tmp_path: Path) -> None:
    one = Round(tmp_path / "jobs", KEY)
    one.job("/bin/true", environment={f"V{number}": "x" * 90_000 for number in range(11)})
    one.job("/bin/true", "x" * 100_000)
    backend = LocalBackend(tmp_path / "spool")
    backend.submit(one.key, one.jobs)
    assert set(states(follow(backend, [one.key])[one.key]).values()) == {AttemptState.SUCCEEDED}


def test_runs_go_with_a_job_whose_files_are_transferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    job = attempt(0, 1, rendered(Jobs(command=("x",))).definitions[0])
    (item,) = items([job], transfer=True)
    assert "runs.txt" in item["inputs"].split(",")
    assert set(job.environment) == set(CONTRACT), "what a spec cannot set is what every job is given"
    assert Path(job.environment["CALIB_RUNS_FILE"]).read_text() == "1\n2\n"
    again = attempt(0, 2, rendered(Jobs(command=("x",))).definitions[0])
    assert Path(again.environment["CALIB_RUNS_FILE"]).read_text() == "1\n2\n"
