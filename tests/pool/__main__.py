"""The pool by hand: ``python -m tests.pool up [SHARED] | down | status | run COMMAND...``."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from pathlib import Path

from tests.cache import UnavailableError
from tests.guard import alive
from tests.pool.layout import pools_folder
from tests.pool.pool import Pool

NAME = "by-hand"


def main(arguments: list[str]) -> int:
    """Run one command; 1 if there is no pool where one is needed, or none can be had."""
    parser = argparse.ArgumentParser(prog="python -m tests.pool", description="a real HTCondor pool for tests")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the pool and print the settings of a client")
    up.add_argument("shared", nargs="?", type=Path, help="the folder that jobs and clients share")
    up.add_argument("--visible", action="append", default=[], type=Path, help="a further folder that jobs may read")
    commands.add_parser("down", help="stop the pool")
    commands.add_parser("status", help="print the settings of a client, as shell exports, and the pools that run")
    run = commands.add_parser("run", help="run a command inside, as HTCondor's administrator")
    run.add_argument("line", nargs=argparse.REMAINDER, help="the command and its arguments")
    given = parser.parse_args(arguments)

    folder = pools_folder() / NAME
    if given.command == "up" and alive(folder) and given.shared not in (None, Pool.attach(folder).shared):
        sys.stderr.write(f"a pool runs already, with {Pool.attach(folder).shared}: python -m tests.pool down\n")
        return 1
    if given.command == "up" and not alive(folder):
        try:
            describe(Pool(given.shared, tuple(given.visible), NAME).start(owner=0))
        except UnavailableError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    if not alive(folder):
        sys.stderr.write("no pool runs; start one with: python -m tests.pool up\n")
        return 1
    pool = Pool.attach(folder)
    if given.command == "down":
        pool.stop()
    elif given.command == "run":
        sys.stdout.write(pool.tool(*given.line))
    else:
        describe(pool)
    return 0


def describe(pool: Pool) -> None:
    """Print what a client needs."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in pool.client_environment().items()]
    others = [folder.name for folder in pools_folder().glob("*") if folder != pool.folder and alive(folder)]
    settings = pool.connection()
    host, _, port = settings.pop("collector").partition(":")
    connection = {"conn_type": "calib_condor", "host": host, "port": int(port), "extra": settings}
    lines += [f"export AIRFLOW_CONN_CALIB_CONDOR={shlex.quote(json.dumps(connection))}"]
    lines += [f"# shared folder: {pool.shared}", f"# log: {pool.folder / 'log'}"]
    lines += [f"# schedds: {', '.join(pool.connection(name)['schedd'] for name in ('main', 'other'))}"]
    lines += [f"# further pools: {', '.join(others)}"] if others else []
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
