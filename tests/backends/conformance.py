"""What every backend must do. A backend's tests subclass :class:`BackendConformance` and override fixtures only."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.domain.observation import AttemptState, FailureClass, Observation
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError

GENERATION = itertools.count(1)


def shell(text: str, *arguments: str) -> tuple[str, ...]:
    """A command that every machine has."""
    return ("/bin/sh", "-c", text, "sh", *arguments)


def follow(
    backend: Backend,
    rounds: Iterable[RoundKey],
    until: Callable[[dict[RoundKey, list[Observation]]], bool] | None = None,
    patience: float = 180,
) -> dict[RoundKey, list[Observation]]:
    """Poll as a watcher does, until all rounds are finished, or a condition holds."""
    cursors = dict.fromkeys(rounds, "")
    seen: dict[RoundKey, list[Observation]] = {key: [] for key in cursors}
    deadline = time.monotonic() + patience
    while True:
        news = backend.poll(cursors)
        assert news.keys() == cursors.keys()
        for key, one in news.items():
            cursors[key] = one.cursor
            seen[key] += one.observations
        if until(seen) if until else all(one.finished for one in news.values()):
            return seen
        assert time.monotonic() < deadline, f"still waiting, having seen {seen}"
        time.sleep(0.05)


def finals(observations: Iterable[Observation]) -> dict[int, Observation]:
    """The final observation of each job, of which there must be only one."""
    found: dict[int, Observation] = {}
    for one in observations:
        if one.state.final:
            assert one.index not in found, (found[one.index], one)
            found[one.index] = one
    return found


def states(observations: Iterable[Observation]) -> dict[int, AttemptState]:
    return {index: one.state for index, one in finals(observations).items()}


def running(key: RoundKey, count: int) -> Callable[[Mapping[RoundKey, list[Observation]]], bool]:
    """A condition for :func:`follow`: so many jobs of a round have been seen running."""
    return lambda seen: len({one.index for one in seen[key] if one.state is AttemptState.RUNNING}) >= count


class Round:
    """Builds the jobs of one round below a folder."""

    def __init__(self, root: Path, key: RoundKey) -> None:
        self.root = root
        self.key = key
        self.jobs: list[JobSubmission] = []

    def job(
        self,
        *command: str,
        environment: Mapping[str, str] | None = None,
        resources: Resources | None = None,
        timeout: float | None = None,
        attempt: int = 1,
    ) -> Path:
        """Add a job; returns its folder."""
        index = len(self.jobs)
        folder = self.root / str(self.key) / f"{index}.{attempt}"
        (folder / "out").mkdir(parents=True)
        self.jobs.append(
            JobSubmission(index, attempt, command, environment or {}, folder, resources or Resources(), timeout)
        )
        return folder


class BackendFixtures:
    """A real backend. Override :meth:`make_backend`, and :meth:`root` if jobs see another folder."""

    @pytest.fixture
    def make_backend(self) -> Callable[[], Backend]:
        """Makes backends that look at the same place."""
        raise NotImplementedError

    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """A folder that the jobs see, too."""
        return tmp_path / "jobs"

    @pytest.fixture
    def backend(self, make_backend: Callable[[], Backend]) -> Backend:
        return make_backend()

    @pytest.fixture
    def make_round(self, root: Path) -> Callable[..., Round]:
        campaign = f"c{uuid.uuid4().hex[:8]}"

        def make(group: str = "run-r1") -> Round:
            return Round(root, RoundKey(campaign, "flow", "task", group, next(GENERATION), 0, 1))

        return make


class BackendConformance(BackendFixtures):
    """Real jobs on a real backend."""

    def test_a_job_that_succeeds(self, backend, make_round):
        one = make_round()
        folder = one.job(*shell("echo to stdout; echo to stderr >&2; echo product > file; pwd"))
        backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key])[one.key]
        end = finals(seen)[0]
        assert (end.state, end.exit_code, end.signal, end.attempt) == (AttemptState.SUCCEEDED, 0, None, 1)
        assert any(item.host for item in seen)
        (start,) = {item.start for item in seen if item.start}
        assert start <= end.end <= end.at
        assert (folder / "stdout").read_text().splitlines() == ["to stdout", str(folder / "out")]
        assert (folder / "stderr").read_text() == "to stderr\n"
        assert (folder / "out" / "file").read_text() == "product\n"

    def test_jobs_that_fail(self, backend, make_round):
        one = make_round()
        one.job(*shell("exit 3"))
        one.job(*shell("kill -SEGV $$"))
        one.job("calib-has-no-such-command")
        backend.submit(one.key, one.jobs)
        end = finals(follow(backend, [one.key])[one.key])
        assert {one.state for one in end.values()} == {AttemptState.FAILED}
        assert (end[0].exit_code, end[0].failure) == (3, FailureClass.EXIT)
        assert end[1].signal == 11 or end[1].exit_code == 128 + 11
        assert end[1].failure is (FailureClass.EXIT if end[1].signal is None else FailureClass.SIGNAL)
        assert end[2].failure is FailureClass.START
        assert "calib-has-no-such-command" in end[2].reason

    def test_time_out(self, backend, make_round):
        one = make_round()
        one.job(*shell("sleep 300"), timeout=1)
        one.job(*shell("true"), timeout=100)
        backend.submit(one.key, one.jobs)

        def settled(seen):
            last = {item.index: item for item in seen[one.key]}
            return len(last) == 2 and all(item.state.final or item.state is AttemptState.HELD for item in last.values())

        last = {item.index: item for item in follow(backend, [one.key], settled)[one.key]}
        # A batch system may hold such a job, for the policy to decide.
        assert last[0].state in (AttemptState.FAILED, AttemptState.HELD)
        assert "time-out" in last[0].reason
        assert last[0].failure is FailureClass.TIMEOUT
        assert last[1].state is AttemptState.SUCCEEDED

    def test_environment_and_arguments_are_passed_literally(self, backend, make_round):
        one = make_round()
        odd = ["", "two words", "quote ' and \"", "$HOME `id` \\", "Zürich → √s", "*", "-n", "a=b;c,d"]
        folder = one.job(*shell('printf "%s|" "$@"; printf "%s" "$ODD"', *odd), environment={"ODD": "|".join(odd)})
        backend.submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}
        assert (folder / "stdout").read_text() == "|".join([*odd, *odd])

    def test_attempt_and_index_come_back(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"), attempt=7)
        one.job(*shell("true"), attempt=2)
        backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key])[one.key]
        assert {(item.index, item.attempt) for item in seen} == {(0, 7), (1, 2)}

    def test_submission_is_find_or_create(self, backend, make_backend, make_round):
        one = make_round()
        folder = one.job(*shell('echo once >> "$1"; sleep 0.3', str(one.root / "times")))
        backend.submit(one.key, one.jobs)
        backend.submit(one.key, one.jobs)
        make_backend().submit(one.key, one.jobs)
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}
        backend.submit(one.key, one.jobs)
        assert states(follow(make_backend(), [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}
        assert (one.root / "times").read_text() == "once\n"
        assert folder.is_dir()

    def test_an_unknown_round_is_finished(self, backend, make_round):
        key = make_round().key
        news = backend.poll({key: ""})[key]
        assert (list(news.observations), news.finished) == ([], True)
        assert backend.poll({}) == {}

    def test_an_empty_round_is_finished(self, backend, make_round):
        key = make_round().key
        backend.submit(key, [])
        assert follow(backend, [key]) == {key: []}

    def test_a_cursor_hands_over_everything_once(self, backend, make_backend, make_round):
        one = make_round()
        for _ in range(3):
            one.job(*shell("true"))
        backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key])[one.key]
        cursor = backend.poll({one.key: ""})[one.key].cursor
        for other in (backend, make_backend()):
            news = other.poll({one.key: cursor})[one.key]
            assert (list(news.observations), news.finished) == ([], True)
        assert list(backend.poll({one.key: ""})[one.key].observations) == seen

    def test_rounds_are_told_apart(self, backend, make_round):
        rounds = [make_round(f"run-r{number}") for number in range(4)]
        for number, one in enumerate(rounds):
            one.job(*shell(f"exit {number}"))
            backend.submit(one.key, one.jobs)
        seen = follow(backend, [one.key for one in rounds])
        assert [finals(seen[one.key])[0].exit_code for one in rounds] == [0, 1, 2, 3]

    def test_options_and_release_of_what_is_not_held(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"))
        backend.submit(one.key, one.jobs, {})
        backend.release(one.key, [0, 99])
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.SUCCEEDED}
        backend.release(one.key, [0])
        backend.release(make_round().key, [0])

    def test_remove_some(self, backend, make_round):
        one = make_round()
        for _ in range(2):
            one.job(*shell('sleep "$1"; echo late >> file', "1.5" if one.jobs else "300"))
        backend.submit(one.key, one.jobs)
        backend.remove(one.key, [0])
        end = finals(follow(backend, [one.key])[one.key])
        assert (end[0].state, end[1].state) == (AttemptState.REMOVED, AttemptState.SUCCEEDED)
        assert not (one.jobs[0].folder / "out" / "file").exists()

    def test_remove_while_running(self, backend, make_round):
        one = make_round()
        one.job(*shell('while sleep 0.05; do echo alive >> "$1"; done', str(one.root / "alive")))
        backend.submit(one.key, one.jobs)
        follow(backend, [one.key], running(one.key, 1))
        backend.remove(one.key)
        before = (one.root / "alive").stat().st_size if (one.root / "alive").exists() else 0
        assert states(follow(backend, [one.key])[one.key]) == {0: AttemptState.REMOVED}
        time.sleep(0.2)
        after = (one.root / "alive").stat().st_size if (one.root / "alive").exists() else 0
        assert before == after

    def test_what_has_ended_is_not_removed(self, backend, make_round):
        one = make_round()
        one.job(*shell("true"))
        one.job(*shell("exit 1"))
        backend.submit(one.key, one.jobs)
        expected = states(follow(backend, [one.key])[one.key])
        backend.remove(one.key)
        backend.remove(one.key, [0, 1, 99])
        assert states(follow(backend, [one.key])[one.key]) == expected
        assert expected == {0: AttemptState.SUCCEEDED, 1: AttemptState.FAILED}

    def test_remove_of_what_is_not_there(self, backend, make_round):
        backend.remove(make_round().key)
        backend.remove(make_round().key, [1])

    def test_rounds_and_forget(self, backend, make_backend, make_round):
        ended, live = make_round(), make_round()
        ended.job(*shell("true"))
        live.job(*shell("sleep 300"))
        for one in (ended, live):
            backend.submit(one.key, one.jobs)
        follow(backend, [ended.key])
        listed = make_backend().rounds()
        assert live.key in listed
        assert ended.key not in listed
        with pytest.raises(BackendError):
            backend.forget(live.key)
        assert live.key in backend.rounds()
        backend.remove(live.key)
        assert live.key not in backend.rounds()
        for one in (ended, live):
            follow(backend, [one.key])
            backend.forget(one.key)
            backend.forget(one.key)
            news = backend.poll({one.key: ""})[one.key]
            assert (list(news.observations), news.finished) == ([], True)

    def test_many_jobs(self, backend, make_round):
        one = make_round()
        for number in range(25):
            one.job(*shell(f"exit {number % 5 and 1}"))
        backend.submit(one.key, one.jobs)
        end = states(follow(backend, [one.key], patience=300)[one.key])
        assert end == {number: AttemptState.FAILED if number % 5 else AttemptState.SUCCEEDED for number in range(25)}
