"""The specs that the demonstration runs on a pool are those that it runs locally, but for where jobs run."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from demo import places
from demo.cluster import block
from demo.places import CONNECTION, NoPool, _elsewhere, copied, elsewhere, place

from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.spec.loader import load_folder
from tests.backends.conformance import Round, finals, follow
from tests.cache import UnavailableError
from tests.pool.pool import Pool

TOP = Path(__file__).parents[2]
MISHAPS = {"ZEE_BROKEN_RUNS": "1009", "CALIB_ZEE_RUNS": "/data/runs.csv"}


@pytest.mark.parametrize("backend", ["condor", "kubernetes"])
@pytest.mark.parametrize("source", [TOP, TOP / "examples" / "zee" / "cms"], ids=["synthetic", "cms"])
def test_only_where_jobs_run_is_changed(source: Path, backend: str, tmp_path: Path) -> None:
    defaults = {"backend": backend, **({"kubernetes": block(tmp_path)} if backend == "kubernetes" else {})}
    copied(source, tmp_path, lambda text: elsewhere(text, MISHAPS, defaults))
    before, _ = load_folder(source / "workflow_specs")
    after, errors = load_folder(tmp_path / "workflow_specs")
    assert errors == []
    assert after.keys() == before.keys()
    assert {path.name for path in (tmp_path / "dags").iterdir()} >= {
        path.name for path in (source / "dags").glob("*.py")
    }
    for name, workflow in after.items():
        assert workflow.description == before[name].description
        for task in workflow.tasks.values():
            old = before[name].tasks[task.name]
            if task.jobs is None or old.jobs is None:
                assert task.model_copy(update={"backend": "local"}) == old
                continue
            assert (task.backend, old.backend) == (backend, "local")
            environment = task.jobs.environment
            assert environment.items() >= MISHAPS.items()
            assert environment["PYTHONPATH"] == str(TOP / "examples")
            assert environment["PATH"].startswith(f"{Path(sys.executable).parent}:")
            same = {"environment": {}, "options": {}}
            assert task.jobs.model_copy(update=same) == old.jobs.model_copy(update=same)
            assert (task.products, task.policy, task.needs) == (old.products, old.policy, old.needs)


def test_locally_jobs_are_told_only_what_is_wanted(tmp_path: Path) -> None:
    """They inherit nothing of it from Airflow's processes."""
    with place("local", TOP, tmp_path, MISHAPS) as found:
        assert (found.dags, found.specs, found.environment, found.said) == (
            tmp_path / "dags", tmp_path / "workflow_specs", {}, ""
        )  # fmt: skip
    before, _ = load_folder(TOP / "workflow_specs")
    after, errors = load_folder(tmp_path / "workflow_specs")
    assert errors == []
    assert after.keys() == before.keys()
    for name, workflow in after.items():
        for task in workflow.tasks.values():
            old = before[name].tasks[task.name]
            if task.jobs is None or old.jobs is None:
                assert task == old
                continue
            code = {"PYTHONPATH": str(TOP / "examples")}
            assert task.jobs.environment == {**old.jobs.environment, **code, **MISHAPS}
            assert task.jobs.model_copy(update={"environment": {}}) == old.jobs.model_copy(update={"environment": {}})
            assert (task.backend, task.products, task.needs) == (old.backend, old.products, old.needs)


def test_where_nothing_is_to_be_told_nothing_is_copied(tmp_path: Path) -> None:
    with place("local", TOP, tmp_path, {}) as found:
        assert (found.dags, found.specs) == (TOP / "dags", TOP / "workflow_specs")
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_pool_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: Pool) -> None:
        raise UnavailableError("an HTCondor pool for the tests needs root")

    monkeypatch.delenv(CONNECTION, raising=False)
    monkeypatch.setattr(sys, "base_prefix", "/opt/python")
    monkeypatch.setattr(Pool, "start", start)
    with pytest.raises(NoPool, match=f"needs root; your own pool can be named in {CONNECTION}"):
        place("condor", TOP, tmp_path / "demo", {}).__enter__()
    (tmp_path / "probe").touch()
    assert not stat.S_IMODE((tmp_path / "probe").stat().st_mode) & stat.S_IWOTH, "the umask was not restored"


def test_a_python_that_the_pool_hides_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONNECTION, raising=False)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    with pytest.raises(NoPool, match="PYTHON="):
        place("condor", TOP, tmp_path / "demo", {}).__enter__()


def test_the_users_own_pool_is_asked_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    class Own:
        def check(self) -> str:
            return "the schedd of mine answers"

        def rounds(self) -> list[str]:
            return ["a round"]

        def remove(self, key: str) -> None:
            asked.append(key)

        def close(self) -> None:
            asked.append("closed")

    monkeypatch.setenv(CONNECTION, "calib-condor://collector.example.org:9618/?schedd=mine")
    monkeypatch.setattr(places, "_backend", lambda *_: Own())
    with place("condor", TOP, tmp_path, MISHAPS) as found:
        assert found.environment == {CONNECTION: "calib-condor://collector.example.org:9618/?schedd=mine"}
        assert found.said == "jobs run on an HTCondor pool: the schedd of mine answers"
        assert found.specs == tmp_path / "workflow_specs"
    assert asked == ["a round", "closed"]


@pytest.mark.kubernetes
def test_the_example_runs_in_the_pods_of_the_cluster_that_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    (tmp_path / "calib").mkdir()
    (tmp_path / "calib").chmod(0o777)
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/bin", "/bin"])
    with _elsewhere("kubernetes", tmp_path) as found:
        one = Round(tmp_path / "calib" / "jobs", RoundKey("c", "flow", "task", "run-r1", 1, 0, 1))
        code = "import numpy, zee.select; print('numpy', numpy.__version__, zee.select.__file__)"
        folder = one.job("python", "-c", code, environment={"PATH": path, "PYTHONPATH": str(TOP / "examples")})
        found.backend.submit(one.key, one.jobs, found.defaults["kubernetes"])
        end = finals(follow(found.backend, [one.key], patience=120)[one.key])[0]
        assert end.state is AttemptState.SUCCEEDED, end.reason
    assert str(TOP / "examples" / "zee" / "select.py") in (folder / "stdout").read_text()
