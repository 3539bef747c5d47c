"""InfluxDB by hand: ``python -m tests.influx build | up [VERSION] | status | run COMMAND... | down``."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cache import UnavailableError, cache_folder
from tests.influx.building import RECIPES, build
from tests.influx.server import Influx

NEWEST = list(RECIPES)[-1]
STOP_SECONDS = 30.0


def main(arguments: list[str]) -> int:
    """Run one command; 1 if there is no server where one is needed, or none can be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.influx", description="real InfluxDB servers for tests")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="build the servers that are not built yet; what cannot be built is said")
    up = commands.add_parser("up", help="start a server and print how to reach it")
    up.add_argument("version", nargs="?", choices=list(RECIPES), default=NEWEST)
    commands.add_parser("status", help="print how to reach the running servers, as shell exports")
    run = commands.add_parser("run", help="run a command that finds the running server in its environment")
    run.add_argument("line", nargs=argparse.REMAINDER, help="the command and its arguments")
    commands.add_parser("down", help="stop the running servers, and remove their data")
    given = parser.parse_args(arguments)

    if given.command == "build":
        return _build_all()
    servers = _running()
    if given.command == "up" and given.version not in [server.version for server, _ in servers]:
        folder = _folder() / given.version
        shutil.rmtree(folder, ignore_errors=True)
        try:
            server = Influx(given.version, folder).start(owner=0)
        except UnavailableError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        server.save()
        _describe(server)
        return 0
    if not servers:
        sys.stderr.write("no InfluxDB runs; start one with: python -m tests.influx up\n")
        return 1
    if given.command == "run":
        return subprocess.run(given.line, env={**os.environ, **_environment(servers[-1][0])}).returncode
    for server, number in servers:
        if given.command == "down":
            _end(server, number)
        else:
            _describe(server)
    return 0


def _build_all() -> int:
    """Tests skip what cannot be built, so that is no failure."""
    for version in RECIPES:
        try:
            sys.stdout.write(f"{build(version)}\n")
        except UnavailableError as error:
            sys.stderr.write(f"{error}\n")
    return 0


def _folder() -> Path:
    return cache_folder() / "influx"


def _running() -> list[tuple[Influx, int]]:
    """The servers started by hand, oldest version first, with their process numbers."""
    found = []
    for version in RECIPES:
        try:
            found.append(Influx.attach(_folder() / version))
        except FileNotFoundError:
            continue
    return found


def _environment(server: Influx) -> dict[str, str]:
    """What a client needs."""
    values = {"URL": server.url, "DATABASE": server.database, "USER": server.user, "PASSWORD": server.password}
    values |= {"ORG": server.org, "BUCKET": server.bucket, "TOKEN": server.token} if server.major > 1 else {}
    return {f"INFLUX_{name}": value for name, value in values.items()}


def _describe(server: Influx) -> None:
    lines = [f"export {name}={shlex.quote(value)}" for name, value in _environment(server).items()]
    sys.stdout.write("\n".join([f"# InfluxDB {server.version}, log: {server.log}", *lines]) + "\n")


def _end(server: Influx, number: int) -> None:
    os.kill(number, signal.SIGTERM)
    end = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{number}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    shutil.rmtree(server.folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
