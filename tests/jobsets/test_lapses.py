"""An expired credential holds its job sets up, and is the reason of what fails since (rule 37)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.backends.condor.submission import transferred_inputs, transferred_script
from airflow_calib_provider.domain.observation import FailureClass
from airflow_calib_provider.jobsets.attempts import Attempts
from airflow_calib_provider.ledger import generations, queries, tables
from airflow_calib_provider.ledger.explain import Scope, explain_group
from tests.credentials import making
from tests.credentials.test_standing import put
from tests.jobsets.scripted import FAILED, HELD, RUNNING, Story, T, job_of
from tests.jobsets.world import World

MINUTE = 60.0


@pytest.fixture
def proxy(tmp_path: Path) -> Path:
    """Holds for a minute after the beginning."""
    file = tmp_path / "proxy"
    put(file, making.proxy(T + timedelta(seconds=MINUTE)))
    return file


@pytest.fixture
def tell_with(tell: Callable[..., Story], proxy: Path) -> Callable[..., Story]:
    def start(n_jobs: int = 1, **options: object) -> Story:
        return tell(n_jobs, credentials={"proxy": str(proxy)}, **options)

    return start


def causes(story: Story) -> list[tuple[str, str, str]]:
    with story.world.ledger.read() as connection:
        found = explain_group(connection, Scope("prompt", T), "run-r1").causes
    return [(cause.code, cause.text, cause.release) for cause in found if cause.code == "credential"]


def listed(story: Story) -> list[str | None]:
    with story.world.ledger.read() as connection:
        return [row.trouble for row in queries.jobs_listed(connection, "prompt") if row.state == "waiting"]


def test_nothing_is_submitted_until_it_is_renewed(tell_with: Callable[..., Story], proxy: Path) -> None:
    put(proxy, making.proxy(T - timedelta(days=1)))
    story = tell_with(2)
    standing = story.step(1)
    assert not story.backend.submitted
    words = f"the proxy {proxy} expired at 2026-04-30 00:00:00 UTC: no job is submitted until it is renewed"
    assert standing.trouble == words
    assert (standing.state, standing.counts) == ("running", {"waiting": 2})
    assert causes(story) == [("credential", words, "the file, renewed in its place; it is looked at again by itself")]
    assert listed(story) == [words, words]
    proxy.unlink()
    assert "cannot be used: No such file or directory" in story.step(2).trouble
    put(proxy, making.proxy(T + timedelta(days=1)))
    assert story.step(3).trouble == ""
    assert [len(jobs) for jobs in story.backend.submitted.values()] == [2]
    assert (causes(story), listed(story)) == ([], [])


def test_it_is_told_while_jobs_run(tell_with: Callable[..., Story]) -> None:
    story = tell_with()
    story.backend.tell(0, RUNNING)
    assert story.step(30).trouble == ""
    story.backend.trouble = "the schedd does not answer"
    said = story.step(90).trouble
    assert said.startswith("the proxy ")
    assert said.endswith("; the schedd does not answer")


def test_what_fails_after_it_expired_says_so_and_is_tried_again(tell_with: Callable[..., Story], proxy: Path) -> None:
    story = tell_with(3, retries=0)
    for job in range(3):
        story.backend.tell(job, RUNNING)
    story.backend.tell(0, FAILED, at=90, exit_code=54)
    story.backend.tell(1, FAILED, at=30, exit_code=1, reason="exit code 1")
    story.backend.tell(2, FAILED, at=90, failure=FailureClass.MEMORY, reason="out of memory")
    story.step(91)
    first, early, large = (job_of(story, index) for index in range(3))
    assert (first.state, first.failure, first.failures, first.losses) == ("waiting", "credential", 0, 1)
    assert first.reason == "exit code 54; its proxy had expired at 2026-05-01 00:01:00 UTC"
    assert (early.state, early.failure, early.reason) == ("failed", "exit", "exit code 1")
    assert (large.state, large.failure, large.reason) == ("failed", "memory", "out of memory")
    story.step(1000)
    assert len(story.backend.submitted) == 1
    put(proxy, making.proxy(T + timedelta(days=1)))
    story.step(1001)
    assert [[job.index for job in jobs] for jobs in story.backend.submitted.values()] == [[0, 1, 2], [0]]


def test_one_that_was_renewed_before_its_failure_was_seen(tell_with: Callable[..., Story], proxy: Path) -> None:
    story = tell_with()
    story.step(70)
    put(proxy, making.proxy(T + timedelta(days=1)))
    story.backend.tell(0, FAILED, at=80, exit_code=54)
    story.step(90)
    assert "its proxy had expired" in job_of(story).reason


def test_a_job_that_is_held_for_it_is_tried_anew(tell_with: Callable[..., Story], proxy: Path) -> None:
    story = tell_with(retries=0)
    story.backend.tell(0, HELD, at=90, failure=FailureClass.HOLD, hold_code=4, reason="held (4): proxy expired")
    story.step(91)
    assert story.backend.asked == [["remove", 0, [0]]]
    assert (job_of(story).state, job_of(story).failure, job_of(story).losses) == ("waiting", "credential", 1)


def test_a_real_job_reads_the_file_where_it_lies(make_world: Callable[..., World], tmp_path: Path) -> None:
    file = tmp_path / "token"
    put(file, making.token({"exp": making.now().timestamp() + 3600}))
    world = make_world('cmp "$BEARER_TOKEN_FILE" "$1/token"'.replace("$1", str(tmp_path)), **stated(token=str(file)))
    assert world.run().state == "done"
    (row,) = world.rows(tables.job)
    assert row.definition["credentials"] == {"token": str(file)}
    secret = file.read_text()
    assert not any(secret in str(world.rows(table)) for table in (tables.event, tables.job, tables.generation))


def test_where_files_are_transferred_the_credential_is_one_of_them(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    file = tmp_path / "cc"
    put(file, making.kerberos(making.now() + timedelta(hours=1)))
    files = {"kerberos": str(file), "proxy": "/its/own"}
    world = make_world("true", credentials=files, environment={"KRB5CCNAME": f"FILE:{file}"})
    begun = world.begin()
    with world.ledger.read() as connection:
        row = generations.by_id(connection, begun.generation_id)
        (listed,) = generations.jobs_of(connection, [row.id])
    definition = world.rows(tables.job)[0].definition
    job = Attempts(row).of(listed.job_index, 1, definition)
    assert job.files == (str(file),)
    names = transferred_inputs(job)
    assert names == {str(file): "in/00000-cc"}
    assert 'export KRB5CCNAME=FILE:"$CALIB_SCRATCH"/in/00000-cc' in transferred_script(job, names)


def stated(**credentials: str) -> dict[str, object]:
    """What the loader makes of them."""
    from airflow_calib_provider.spec.tasks import variables_of

    return {"credentials": credentials, "environment": variables_of(credentials, "local", {})}
