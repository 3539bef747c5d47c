"""The cluster by hand: ``python -m tests.cluster build | up | status | run COMMAND... | kubectl ... | down``."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping

from tests.cache import UnavailableError
from tests.cluster.building import kubectl, programs
from tests.cluster.cluster import Cluster, clusters_folder
from tests.guard import alive

NAME = "by-hand"


def main(arguments: list[str]) -> int:
    """Run one command; 1 if there is no cluster where one is needed, or none can be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description="a real Kubernetes for tests")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build it, if it is not built yet; that it cannot be built is said")
    commands.add_parser("up", help="start the cluster and print the settings of a client")
    commands.add_parser("down", help="stop the cluster, and remove all that is in it")
    commands.add_parser("status", help="print the settings of a client, as shell exports, and the clusters that run")
    commands.add_parser("run", help="run a command, given after it, that finds the cluster in its environment")
    commands.add_parser("kubectl", help="run kubectl on the running cluster, with all that is given after it")
    # What follows these two is theirs, also where it begins with an option.
    own = 1 if arguments[:1] in (["run"], ["kubectl"]) else len(arguments)
    given, line = parser.parse_args(arguments[:own]), arguments[own:]

    if given.command == "build":
        return _make(given.command)
    try:
        cluster = Cluster.attach(clusters_folder() / NAME)
    except FileNotFoundError:
        if given.command == "up":
            return _make(given.command)
        sys.stderr.write("no cluster runs; start one with: python -m tests.cluster up\n")
        return 1
    if given.command == "down":
        cluster.stop()
    elif given.command == "run":
        return _run(cluster, line)
    elif given.command == "kubectl":
        return _run(cluster, [str(kubectl()), *line])
    else:
        _describe(cluster)
    return 0


def _make(command: str) -> int:
    """Tests skip without a cluster, so that none can be built is no failure."""
    try:
        if command == "build":
            sys.stdout.write(f"{programs().folder}\n{kubectl()}\n")
        else:
            _describe(Cluster(NAME).start(owner=0))
    except UnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 0 if command == "build" else 1
    return 0


def _run(cluster: Cluster, line: list[str]) -> int:
    return subprocess.run(line, env={**os.environ, **_environment(cluster)}).returncode


def _environment(cluster: Cluster) -> Mapping[str, str]:
    """What clients need."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": str(cluster.kubeconfig)}}
    return {
        "KUBECONFIG": str(cluster.kubeconfig),
        "CALIB_TESTS_KUBECONFIG": str(cluster.kubeconfig),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
    }


def _describe(cluster: Cluster) -> None:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in _environment(cluster).items()]
    others = [found.name for found in clusters_folder().glob("*") if found != cluster.folder and alive(found)]
    lines += [f"# log: {cluster.folder / 'log'}", *([f"# further clusters: {', '.join(others)}"] if others else [])]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
