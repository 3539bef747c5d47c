"""A cluster that is killed in parts or as a whole, and one beside another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from shutil import which

import pytest
from urllib3.exceptions import HTTPError

from tests.cluster import groups, node
from tests.cluster.api import Api, Namespace, until
from tests.cluster.cluster import Cluster, clusters_folder, remove_leftovers, shared_name
from tests.cluster.jobs import ended, indexed_job, phases
from tests.guard import alive


@pytest.mark.parametrize("name", node.COMPONENTS)
def test_it_survives_the_kill_of_a_part(own_cluster: Cluster, name: str) -> None:
    old = own_cluster.process(name)
    own_cluster.restart(name)
    assert own_cluster.process(name) != old
    with own_cluster.namespace() as made:
        made.create("jobs", indexed_job("one", "true", 2))
        assert ended(made, "one")["succeeded"] == 2


def test_what_gives_up_is_started_again(own_cluster: Cluster) -> None:
    old = own_cluster.process("controller-manager")
    os.kill(old, signal.SIGTERM)
    until(lambda: own_cluster.processes("controller-manager") != [old])
    own_cluster.wait_ready()  # that it is away for a moment is no reason to start another
    until(lambda: own_cluster.processes("controller-manager") not in ([], [old]))
    assert len(own_cluster.processes("controller-manager")) == 1
    assert len(own_cluster.processes(node.keeper("controller-manager"))) == 1


def test_a_silent_one_is_silent_and_goes_on(own_cluster: Cluster) -> None:
    own_cluster.stop_silently("apiserver")
    try:
        with pytest.raises(HTTPError):
            own_cluster.read("GET", "/version", seconds=0.5)
    finally:
        own_cluster.resume("apiserver")
    assert until(own_cluster.answers)


def test_a_pod_dies_with_its_shim(own_cluster: Cluster) -> None:
    with own_cluster.namespace() as made:
        made.create("jobs", indexed_job("one", "sleep 100", 1))
        until(lambda: phases(made)["Running"] == 1)
        os.kill(own_cluster.process("shim"), signal.SIGKILL)
        assert ended(made, "one")["failed"] == 1


def test_one_beside_another(own_cluster: Cluster, namespace: Namespace) -> None:
    """Both run pods at the same time; neither sees anything of the other."""
    with own_cluster.namespace() as other:
        for place in (namespace, other):
            place.create("jobs", indexed_job("one", "while ! test -e /tmp/end; do sleep 0.1; done", 3))
        for place in (namespace, other):
            until(lambda place=place: phases(place)["Running"] == 3)
        assert namespace.name not in str(own_cluster.items("/api/v1/namespaces"))
        own_cluster.restart("containerd")
        assert phases(namespace) == {"Running": 3}


# --- What is left of one


def traces() -> dict[str, set[str]]:
    """What clusters could leave on the machine."""
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True).stdout if which("iptables-save") else ""
    return {
        "mounts": {line.split(" ")[1] for line in Path("/proc/self/mounts").read_text().splitlines()},
        "networks": {path.name for path in Path("/sys/class/net").iterdir()},
        "rules": {line for line in rules.splitlines() if not line.startswith(("#", ":"))},
        "logs": {str(path) for path in Path("/var/log").glob("*/*") if path.parent.name in ("pods", "containers")},
    }


def left(folder: Path) -> list[Path]:
    """The folder and the groups of a cluster, as far as they are still there."""
    return [path for path in (folder, *groups.places(groups.name(folder))) if path.exists()]


def with_pods(made: Cluster) -> Cluster:
    """A cluster in which pods run."""
    place = Namespace(made, "default")
    until(place.account_exists)
    place.create("jobs", indexed_job("one", "sleep 1000", 3))
    until(lambda: phases(place)["Running"] == 3)
    return made


def test_nothing_is_left_of_one_that_was_stopped(cluster: Api) -> None:
    before = traces()
    with Cluster() as made:
        folder, parts = with_pods(made).folder, [made.process(name) for name in (*node.COMPONENTS, "shim")]
        assert len(left(folder)) > 1
    assert left(folder) == []
    assert [number for number in parts if Path(f"/proc/{number}").exists()] == []
    assert traces() == before
    assert cluster.answers()


@pytest.mark.parametrize("who", ["owner", "guard"])
def test_it_ends_with_its_owner_and_its_guard(cluster: Api, who: str) -> None:
    code = """
        import signal
        from tests.cluster.cluster import Cluster
        from tests.cluster.test_cluster_faults import with_pods
        made = with_pods(Cluster().start())
        print(made.guard, made.process("etcd"), made.process("shim"), made.folder, flush=True)
        signal.pause()
    """
    before = traces()
    owner = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    with owner:
        guard, etcd, shim, folder = owner.stdout.readline().split()
        os.kill(owner.pid if who == "owner" else int(guard), signal.SIGKILL)
        until(lambda: not any(Path(f"/proc/{number}").exists() for number in (etcd, shim)))
        until(lambda: not alive(Path(folder)))
        owner.kill()
    assert len(left(Path(folder))) > 1
    remove_leftovers()  # as whoever starts the next one
    assert left(Path(folder)) == []
    assert traces() == before
    assert cluster.answers()


def test_one_run_has_one_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Processes that come at the same moment too; it ends with the process for which it was started."""
    code = "from tests.cluster.cluster import shared; print(shared().folder)"
    owner = subprocess.Popen(["sleep", "1000"])
    with owner:
        environment = {**os.environ, "CALIB_TESTS_OWNER": str(owner.pid)}
        folder = clusters_folder() / shared_name(owner.pid)
        command = [sys.executable, "-c", code]
        both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        said = [one.communicate(timeout=300)[0].strip() for one in both]
        owner.kill()
    assert said == [str(folder), str(folder)] != [str(cluster.folder)] * 2
    until(lambda: not alive(folder))
    remove_leftovers()
