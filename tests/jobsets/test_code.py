"""A generation runs the code that it was made from: copies of commits, with a real git and the local backend."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.cleaning import clean
from airflow_calib_provider.jobsets.code import code_of, remove_unused
from airflow_calib_provider.jobsets.publish import _commits
from airflow_calib_provider.ledger import generations, tables
from airflow_calib_provider.settings import code_folder
from airflow_calib_provider.spec.loader import load_text
from airflow_calib_provider.spec.models import InputsCommand
from tests.jobsets.world import World

Make = Callable[..., World]
NOW = datetime.now(UTC)


def git(folder: Path, *arguments: str) -> str:
    who = ("user.name=a", "user.email=a@b", "protocol.file.allow=always", "commit.gpgsign=false")
    options = [word for option in who for word in ("-c", option)]
    done = subprocess.run(["git", *options, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Repository:
    """A checkout with specs in ``workflow_specs`` and what they run in ``jobs``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "workflow_specs"
        self.specs.mkdir(parents=True)
        git(folder, "init", "-q", "-b", "main")
        (self.specs / "ecal.yaml").write_text("text")
        self.script("exit 0")
        self.commit()

    def script(self, text: str) -> None:
        file = self.folder / "jobs" / "fit.sh"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def commit(self) -> str:
        git(self.folder, "add", "-A")
        git(self.folder, "commit", "-q", "--allow-empty", "-m", "x")
        return git(self.folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    return Repository(tmp_path / "repository")


@pytest.fixture
def world(make_world: Make, repository: Repository) -> World:
    """Three jobs of a script of the repository, of a workflow that lies in it."""
    return use(make_world("true"), repository)


def use(world: World, repository: Repository, n_jobs: int = 3, **options: Any) -> World:
    world.edit("true", n_jobs, **options)
    task = world.flow.tasks["skim"]
    assert task.jobs is not None
    jobs = task.jobs.model_copy(update={"command": ("{{ spec.folder }}/../jobs/fit.sh", "{{ job.index }}")})
    world.flow = world.flow.model_copy(
        update={
            "tasks": {"skim": task.model_copy(update={"jobs": jobs})},
            "file": str(repository.specs / "ecal.yaml"),
        }
    )
    return world


def generation(world: World) -> Any:
    return world.rows(tables.generation)[-1]


def executed(world: World) -> list[tuple[int, int, str, str | None]]:
    """Job, attempt, state and commit of its round."""
    attempt, round_ = tables.attempt, tables.round_
    query = (
        select(attempt.c.job_index, attempt.c.n, attempt.c.state, round_.c.git_commit)
        .join(round_, (round_.c.generation_id == attempt.c.generation_id) & (round_.c.n == attempt.c.round))
        .order_by(attempt.c.generation_id, attempt.c.job_index, attempt.c.n)
    )
    with world.ledger.read() as connection:
        return [tuple(row) for row in connection.execute(query).all()]


def test_a_checkout_that_changes_or_goes_does_not_change_what_runs(world: World, repository: Repository) -> None:
    begun = world.begin()
    repository.script("exit 7")
    repository.commit()
    shutil.rmtree(repository.folder)
    assert world.finish(begun.generation_id).state == "done"


def test_a_fix_that_is_committed_is_run_by_a_clear_and_jobs_that_are_done_stay(
    world: World, repository: Repository
) -> None:
    repository.script("test $1 != 1")
    broken = repository.commit()
    assert world.run().state == "failed"
    repository.script("exit 0")
    fixed = repository.commit()
    assert world.run(9).state == "done"
    assert executed(world) == [
        (0, 1, "succeeded", broken),
        (1, 1, "failed", broken),
        (1, 2, "succeeded", fixed),
        (2, 1, "succeeded", broken),
    ]
    row = generation(world)
    assert (row.n, row.git_commit) == (1, fixed)
    with world.ledger.read() as connection:
        assert _commits(connection, [row.id]) == {row.id: sorted([broken, fixed])}


def test_a_commit_that_changes_a_job_starts_the_next_generation(world: World, repository: Repository) -> None:
    repository.script("test $1 != 1")
    repository.commit()
    world.run()
    use(world, repository, environment={"MORE": "1"})
    repository.script("exit 0")
    repository.commit()
    world.run(9)
    assert [row.n for row in world.rows(tables.generation)] == [1, 2]


@pytest.mark.parametrize("how", [generations.SAME_VERSION, generations.ALL])
def test_a_retry_with_the_same_version_or_of_all_jobs(world: World, repository: Repository, how: str) -> None:
    repository.script("test $1 != 1")
    broken = repository.commit()
    world.run()
    repository.script("exit 0")
    fixed = repository.commit()
    with world.ledger.write() as connection:
        generations.want_rerun(connection, world.group, ["skim"], how)
    found = world.run(9)
    if how == generations.ALL:
        assert (found.state, generation(world).n) == ("done", 2)
        assert [line[3] for line in executed(world)[-3:]] == [fixed] * 3
        return
    assert (found.state, generation(world).n) == ("failed", 1)
    assert executed(world)[2] == (1, 2, "failed", broken)
    # It was for that once.
    assert world.run(18).state == "done"
    assert executed(world)[3] == (1, 3, "succeeded", fixed)


def test_the_same_version_has_the_text_of_then_too(world: World, repository: Repository) -> None:
    text = """apiVersion: calib/v1
workflow: ecal
runs: {source: daq}
tasks:
  skim: {group_by: run, jobs: {retries: 0, command: ["{{ spec.folder }}/../jobs/fit.sh", "%s"]}}
"""
    for number in ("1", "2"):
        file = repository.specs / "ecal.yaml"
        file.write_text(text % number)
        repository.script(f"test $1 = {number} && exit 5")
        repository.commit()
        world.flow = load_text(text % number, file)
        if number == "1":
            assert world.run().state == "failed"
    with world.ledger.write() as connection:
        generations.want_rerun(connection, world.group, ["skim"], generations.SAME_VERSION)
    assert world.run(9).state == "failed"
    row = generation(world)
    assert (row.n, row.spec_hash) == (1, load_text(text % "1", repository.specs).hash)
    assert [(line[0], line[1]) for line in executed(world)] == [(0, 1), (0, 2)]
    world.run(18)
    assert generation(world).n == 2


def test_the_same_version_of_which_the_copy_is_gone_says_so(world: World, repository: Repository) -> None:
    repository.script("exit 1")
    repository.commit()
    world.run()
    shutil.move(code_folder(), code_folder().with_name("elsewhere"))
    with world.ledger.write() as connection:
        generations.want_rerun(connection, world.group, ["skim"], generations.SAME_VERSION)
    with pytest.raises(RenderError, match="not there any more; `calib retry` without --same-version"):
        world.begin(9)


def test_uncommitted_and_unknown_files_are_used_where_they_lie(world: World, repository: Repository) -> None:
    (repository.folder / "new.txt").write_text("new")
    found = code_of(repository.specs)
    assert found.folder == repository.specs
    assert (found.commit or "").endswith("-dirty")
    assert world.run().state == "done"
    assert not code_folder().exists()
    assert (generation(world).git_commit or "").endswith("-dirty")


@pytest.mark.parametrize("flag", ["--skip-worktree", "--assume-unchanged"])
def test_an_edit_that_git_was_told_not_to_look_at_is_one(repository: Repository, flag: str) -> None:
    commit = git(repository.folder, "rev-parse", "HEAD")
    git(repository.folder, "update-index", flag, "jobs/fit.sh")
    assert code_of(repository.specs).commit == commit, "nothing is edited yet"
    repository.script("exit 7")
    assert git(repository.folder, "status", "--porcelain") == ""
    assert code_of(repository.specs).commit == f"{commit}-dirty"
    assert code_of(repository.specs).folder == repository.specs


def test_a_link_that_git_was_told_not_to_look_at_counts_as_edited(repository: Repository) -> None:
    (repository.folder / "latest").symlink_to("jobs")
    commit = repository.commit()
    git(repository.folder, "update-index", "--skip-worktree", "latest")
    assert code_of(repository.specs).commit == f"{commit}-dirty"


def test_the_files_that_a_sparse_checkout_lacks_are_no_edits(repository: Repository) -> None:
    (repository.folder / "large").mkdir()
    (repository.folder / "large" / "data").write_text("x")
    commit = repository.commit()
    git(repository.folder, "sparse-checkout", "set", "jobs", "workflow_specs")
    assert not (repository.folder / "large").exists()
    assert code_of(repository.specs).commit == commit


def test_a_configuration_that_shows_no_unknown_files_hides_none(repository: Repository) -> None:
    commit = git(repository.folder, "rev-parse", "HEAD")
    git(repository.folder, "config", "status.showUntrackedFiles", "no")
    (repository.folder / "jobs" / "helper.py").write_text("x")
    assert git(repository.folder, "status", "--porcelain") == ""
    assert code_of(repository.specs).commit == f"{commit}-dirty"


def test_a_program_that_a_repository_names_is_not_run(repository: Repository, tmp_path: Path) -> None:
    monitor = tmp_path / "monitor"
    monitor.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
    monitor.chmod(0o755)
    git(repository.folder, "config", "core.fsmonitor", str(monitor))
    code_of(repository.specs)
    assert not (tmp_path / "was-run").exists()


def test_what_python_leaves_behind_is_no_change(repository: Repository) -> None:
    (repository.folder / "jobs" / "__pycache__").mkdir()
    (repository.folder / "jobs" / "__pycache__" / "x.pyc").write_text("x")
    assert code_of(repository.specs).folder != repository.specs
    (repository.folder / "jobs" / "fit.sh").write_text("changed")
    assert code_of(repository.specs).folder == repository.specs


def test_what_a_command_names_and_git_ignores_is_found(world: World, repository: Repository) -> None:
    (repository.folder / ".gitignore").write_text("jobs\n")
    git(repository.folder, "rm", "-q", "--cached", "-r", "jobs")
    repository.commit()
    assert world.run().state == "done"
    row = generation(world)
    assert row.spec_folder == str(repository.specs)
    assert row.git_commit.endswith("-dirty")


def test_no_repository_is_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    found = code_of(tmp_path)
    assert (found.folder, found.commit) == (tmp_path, None)


def test_a_checkout_of_a_bundle_outlives_its_removal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    commit = "4f" * 20
    specs = tmp_path / "versions" / commit / "sub" / "workflow_specs"
    specs.mkdir(parents=True)
    (specs.parent / "fit.sh").write_text("x")
    (specs / "w.yaml").write_text("x")
    found = code_of(specs, commit)
    shutil.rmtree(tmp_path / "versions")
    assert found.commit == commit
    assert found.folder == code_folder() / commit / "sub" / "workflow_specs"
    assert (found.folder / ".." / "fit.sh").read_text() == "x"


def test_a_copy_is_made_once_and_nobody_writes_to_it(repository: Repository) -> None:
    first = code_of(repository.specs)
    kept = first.folder / "ecal.yaml"
    inode = kept.stat().st_ino
    assert not kept.stat().st_mode & 0o222
    assert not first.folder.stat().st_mode & 0o222
    assert (first.folder / "../jobs/fit.sh").stat().st_mode & 0o111
    assert code_of(repository.specs) == first
    assert kept.stat().st_ino == inode
    assert [path.name for path in code_folder().iterdir() if not path.name.startswith(".lock")] == [first.commit]


def test_links_submodules_and_odd_names(repository: Repository, tmp_path: Path) -> None:
    other = Repository(tmp_path / "other")
    outside = tmp_path / "outside.txt"
    outside.write_text("outside")
    git(repository.folder, "submodule", "add", "-q", str(other.folder), "lib")
    (repository.specs / "a b\né.txt").write_text("odd")
    (repository.specs / "inside").symlink_to("../jobs/fit.sh")
    (repository.specs / "whole").symlink_to(repository.folder / "jobs")
    (repository.specs / "out").symlink_to("../../outside.txt")
    repository.commit()
    found = code_of(repository.specs)
    assert found.folder != repository.specs
    shutil.rmtree(repository.folder)
    assert (found.folder / "inside").read_text().startswith("#!")
    assert (found.folder / "whole" / "fit.sh").exists()
    assert (found.folder / "out").read_text() == "outside"
    assert (found.folder / "a b\né.txt").read_text() == "odd"
    assert (found.folder / "../lib/jobs/fit.sh").exists()


def test_a_large_tree_is_used_where_it_lies(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    with (repository.folder / "big").open("wb") as stream:
        stream.truncate(2_000_000)
    repository.commit()
    monkeypatch.setenv("CALIB_CODE_LIMIT", "1")
    assert code_of(repository.specs).folder == repository.specs


def _make_copy(specs: Path, results: Any) -> None:
    results.put(str(code_of(specs).folder))


def test_many_at_once_make_one_copy(repository: Repository) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_make_copy, args=(repository.specs, results)) for _ in range(6)]
    for process in processes:
        process.start()
    found = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert len(found) == 1
    assert [path for path in code_folder().iterdir() if path.name.startswith((".part", ".gone"))] == []


def test_copies_that_nothing_needs_go_and_what_a_crash_left(world: World, repository: Repository) -> None:
    repository.script("exit 1")
    failed = repository.commit()
    world.run()
    repository.script("exit 2")
    unused = repository.commit()
    code_of(repository.specs)
    (code_folder() / ".part-dead" / "x").mkdir(parents=True)
    now = datetime.now(UTC)
    assert remove_unused([], now) == []
    result = clean(world.ledger, lambda name: world.backend, now + timedelta(days=2))
    assert result.errors == []
    assert (code_folder() / failed).is_dir()
    assert not (code_folder() / unused).exists()
    assert not (code_folder() / ".part-dead").exists()
    # When what failed is not kept any more, neither is its code.
    clean(world.ledger, lambda name: world.backend, now + timedelta(days=60))
    assert not (code_folder() / failed).exists()


def test_inputs_of_the_folder_and_of_a_query_there(world: World, repository: Repository) -> None:
    task = world.flow.tasks["skim"]
    assert task.jobs is not None
    query = repository.folder / "jobs" / "query.sh"
    query.write_text('#!/bin/sh\nfor name in a b c; do echo "$(dirname $0)/../$name.dat"; done\n')
    query.chmod(0o755)
    for name in "abc":
        (repository.folder / f"{name}.dat").write_text(name)
    repository.commit()
    command = InputsCommand(command=("{{ spec.folder }}/../jobs/query.sh",))
    jobs = task.jobs.model_copy(update={"inputs": command})
    world.flow = world.flow.model_copy(update={"tasks": {"skim": task.model_copy(update={"jobs": jobs})}})
    assert world.run().state == "done"
    row = generation(world)
    assert len(row.inputs) == 3
    assert all(Path(item).is_file() and str(code_folder()) in item for item in row.inputs)
    before = row.definitions_hash
    repository.commit()
    world.begin(9)
    assert generation(world).definitions_hash == before
    assert generation(world).inputs != row.inputs


def test_git_of_a_caller_is_not_ours(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_DIR", os.devnull)
    assert code_of(repository.specs).folder != repository.specs
