"""Where the demonstration's jobs run: on this machine, on an HTCondor pool, or on a Kubernetes cluster."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from airflow_calib_provider.errors import BackendError

TOP = Path(__file__).resolve().parents[2]
BACKENDS = ("local", "condor", "kubernetes")
CONNECTION = "AIRFLOW_CONN_CALIB_CONDOR"
"""Where it is set, the pool is the user's own."""


class NoPool(RuntimeError):
    """There is no pool or cluster to run on; the message says why."""


@dataclass
class Place:
    """What a backend changes.

    :ivar folder: with the specs and stubs that Airflow is to use, in ``workflow_specs`` and ``dags``.
    :ivar environment: further variables of Airflow's processes.
    :ivar said: one line about it.
    """

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    said: str = ""

    @property
    def dags(self) -> Path:
        """Airflow's DAGs: a stub for each workflow."""
        return self.folder / "dags"

    @property
    def specs(self) -> Path:
        """The workflows."""
        return self.folder / "workflow_specs"


@contextmanager
def place(backend: str, source: Path, folder: Path, environment: Mapping[str, str]) -> Iterator[Place]:
    """The place of a backend, which no jobs of the demonstration are left in at the end.

    :param backend: one of :data:`BACKENDS`.
    :param source: the folder with ``workflow_specs`` and ``dags``.
    :param folder: the demonstration's.
    :param environment: what the jobs are told by variables.
    :raises NoPool: there is none to run on.
    :raises BackendError: it does not answer.
    """
    if backend == "local":
        if environment:
            copied(source, folder, lambda text: told(text, environment))
            yield Place(folder)
        else:
            yield Place(source)
        return
    with _elsewhere(backend, folder) as found:
        copied(source, folder, lambda text: elsewhere(text, environment, found.defaults))
        try:
            yield Place(folder, {found.variable: found.connection}, found.said)
        finally:
            _remove_jobs(found.backend)


@dataclass
class _Elsewhere:
    """What jobs run on.

    :ivar variable: of the Airflow connection, :ivar connection: and its value.
    :ivar defaults: what specs say.
    :ivar backend: the open one.
    :ivar said: one line about it.
    """

    variable: str
    connection: str
    defaults: dict[str, Any]
    backend: Any
    said: str


@contextmanager
def _elsewhere(backend: str, folder: Path) -> Iterator[_Elsewhere]:
    with _on_cluster(folder) if backend == "kubernetes" else _on_pool(folder) as found:
        yield found


@contextmanager
def _on_pool(folder: Path) -> Iterator[_Elsewhere]:
    with _connection(folder) as connection:
        pool = _backend(connection, folder)
        try:
            said = f"jobs run on an HTCondor pool: {pool.check()}"
            yield _Elsewhere(CONNECTION, connection, {"backend": "condor"}, pool, said)
        finally:
            pool.close()


@contextmanager
def _on_cluster(folder: Path) -> Iterator[_Elsewhere]:
    from demo.cluster import CONNECTION as VARIABLE
    from demo.cluster import cluster
    from tests.cache import UnavailableError

    try:
        with cluster(folder) as (connection, block, backend):
            defaults = {"backend": "kubernetes", "kubernetes": block}
            said = "jobs run on a Kubernetes cluster of one node, which was started for them"
            yield _Elsewhere(VARIABLE, connection, defaults, backend, said)
    except UnavailableError as error:
        raise NoPool(str(error)) from error


def _remove_jobs(pool: Any) -> None:
    """Jobs outlive Airflow on purpose; those of a demonstration must not outlive it."""
    try:
        for key in pool.rounds():
            pool.remove(key)
    except BackendError as error:
        sys.stderr.write(f"jobs may be left: {error}\n")


@contextmanager
def _connection(folder: Path) -> Iterator[str]:
    """The Airflow connection to the user's pool, else to the project's own one, for as long as this lasts."""
    if CONNECTION in os.environ:
        yield os.environ[CONNECTION]
        return
    from tests.cache import UnavailableError
    from tests.pool.pool import Pool

    folder.mkdir(parents=True, exist_ok=True)
    python = Path(sys.base_prefix)
    if python == Path("/usr"):
        raise NoPool(
            "the project's own HTCondor pool has a /usr of its own, so that its jobs do not see this Python; make "
            "another virtual environment with one from elsewhere (make demo BACKEND=condor VENV=.venv-condor "
            f"PYTHON=...), or name your pool in {CONNECTION}"
        )
    # Jobs are another user's, who must be able to write into the folders of their attempts.
    before = os.umask(0)
    try:
        with Pool(folder, (Path(sys.prefix), python, TOP / "examples")) as pool:
            settings: dict[str, Any] = dict(pool.connection())
            host, _, port = settings.pop("collector").partition(":")
            yield json.dumps({"conn_type": "calib_condor", "host": host, "port": int(port), "extra": settings})
    except UnavailableError as error:
        raise NoPool(f"{error}; your own pool can be named in {CONNECTION}") from error
    finally:
        os.umask(before)


def _backend(connection: str, folder: Path) -> Any:
    os.environ["AIRFLOW_HOME"] = str(folder / "airflow")  # where the import writes its configuration
    from airflow.sdk import Connection

    from airflow_calib_provider.backends.condor.backend import CondorBackend
    from airflow_calib_provider.hooks.condor import condor_settings

    make = Connection.from_json if connection.lstrip().startswith("{") else Connection.from_uri
    return CondorBackend(condor_settings(make(connection, conn_id="calib_condor")))


def copied(source: Path, folder: Path, change: Callable[[str], str]) -> None:
    """Copy stubs, and specs with a change, to the demonstration's folder.

    :param source: the folder with ``workflow_specs`` and ``dags``.
    :param folder: the demonstration's.
    :param change: of a spec's YAML.
    """
    shutil.copytree(source / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "workflow_specs").mkdir()
    for file in sorted((source / "workflow_specs").glob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        changed = text if file.name == "sources.yaml" else change(text)
        (folder / "workflow_specs" / file.name).write_text(changed, encoding="utf-8")


def told(text: str, environment: Mapping[str, str]) -> str:
    """A spec whose jobs are told something by variables: they inherit nothing from Airflow's processes.

    :param text: the spec's YAML.
    :param environment: the variables, besides what is needed to find the example's code.
    """
    return _dump(_with_environment(yaml.safe_load(text), environment))


def elsewhere(text: str, environment: Mapping[str, str], defaults: Mapping[str, Any]) -> str:
    """A spec whose jobs run on a pool or a cluster.

    :param text: the spec's YAML.
    :param environment: variables of the jobs, besides those that are needed to find the example's code.
    :param defaults: what the spec says of the backend.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin", "/usr/bin", "/bin"])
    spec = _with_environment(yaml.safe_load(text), {"PATH": path, **environment})
    spec["defaults"].update(defaults)
    for task in spec["tasks"].values():
        if "jobs" in task:
            task.pop("backend", None)
    return _dump(spec)


def _with_environment(spec: dict[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    defaults = spec.setdefault("defaults", {})
    # The path of the copy leads nowhere.
    found = {"PYTHONPATH": str(TOP / "examples"), **environment}
    defaults["environment"] = {**defaults.get("environment", {}), **found}
    return spec


def _dump(spec: Mapping[str, Any]) -> str:
    return yaml.dump(spec, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


class _Dumper(yaml.SafeDumper):
    """Writes text of several lines as such."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
