"""``make demo``: the example calibration on a real Airflow, from detector events to published constants."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console

from airflow_calib_provider.domain.page_addresses import RUNS, page_address
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger import schema
from airflow_calib_provider.ledger.engine import Ledger
from demo.airflow_server import AirflowServer
from demo.places import BACKENDS, CONNECTION, NoPool, place
from demo.stream import DemoFailed, Play, stream_cms, stream_synthetic

TOP = Path(__file__).resolve().parents[2]
CMS = TOP / "examples" / "zee" / "cms"

QUICK = {
    # A demonstration is watched: look and retry sooner than an installation needs to.
    "CALIB_RETRY_DELAY": "2",
    "CALIB_AIRFLOW_RETRY_DELAY": "5",
    "CALIB_WATCH_INTERVAL": "1",
    "CALIB_POLL_INTERVAL": "2",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demonstration.

    :param arguments: command-line arguments; ``None`` for the process's own.
    :returns: the exit code: 0 if everything came out as injected.
    """
    chosen = _options().parse_args(arguments)
    console = Console()
    folder = chosen.folder.resolve()
    _clear(folder)
    signal.signal(signal.SIGTERM, _interrupt)
    real = chosen.data is not None
    if real and not chosen.data.is_file():
        console.print(f"[red]error:[/] there is no file {chosen.data}")
        return 1
    home = folder / "calib"
    # The jobs' code and the command line shown at the end use the same ledger as Airflow.
    os.environ["CALIB_HOME"] = str(home)
    ledger = Ledger(f"sqlite:///{home / 'ledger.db'}")
    server: AirflowServer | None = None
    kept = False
    with ExitStack() as cleaning:
        for number in (signal.SIGINT, signal.SIGTERM):
            cleaning.callback(signal.signal, number, signal.getsignal(number))
        cleaning.callback(ledger.close)
        cleaning.callback(_stop_jobs, home)
        try:
            schema.upgrade(ledger)
            if real and chosen.backend != "local":
                chosen.data = Path(shutil.copy(chosen.data, folder))  # where the jobs see it
            play = stream_cms(chosen.data.resolve(), folder, ledger) if real else stream_synthetic(folder)
            where = cleaning.enter_context(place(chosen.backend, CMS if real else TOP, folder, play.environment))
            where.said and console.print(where.said, soft_wrap=True)
            server = AirflowServer(
                folder / "airflow",
                where.dags,
                {**QUICK, **play.environment, **where.environment, "CALIB_HOME": str(home), "PYTHONPATH": str(TOP)},
            )
            # Before the place: nothing may submit jobs while they are being removed.
            cleaning.callback(server.stop)
            _start(server, play, console)
            code = play.run(server, ledger, console, where.specs)
            if not chosen.keep:
                console.print("`make demo KEEP=1` leaves Airflow running, to click through all of this.")
            else:
                kept = True
                _say_how_to_look(console, server, folder, where.specs)
                signal.pause()
            return code
        except KeyboardInterrupt:
            console.print("\nstopping" if kept else "\n[yellow]interrupted; cleaning up[/]")
            return 0 if kept else 130
        except (DemoFailed, NoPool, CalibError) as error:
            console.print(f"[red]error:[/] {error}", soft_wrap=True)
            return 1
        finally:
            # Who is impatient presses Ctrl-C again, and make passes it on once more: nothing must be left all the same.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)


def _start(server: AirflowServer, play: Play, console: Console) -> None:
    with console.status("starting Airflow (a database, then four processes)"):
        begin = time.monotonic()
        server.prepare()
        server.start()
        server.wait_healthy()
        server.wait_for_dags(*play.dag_ids)
    console.print(f"Airflow is up after {time.monotonic() - begin:.0f} s: {server.url}")


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave Airflow running until Ctrl-C")
    parser.add_argument("--data", type=Path, metavar="FILE.csv", help="CMS Z → ee events instead of simulated ones")
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        default="local",
        help="where jobs run: on this machine; on an HTCondor pool: the one of the Airflow connection in "
        f"{CONNECTION}, else one that is started for it; or on a Kubernetes cluster that is started for it (as root; "
        "the first time either is built, which takes minutes)",
    )
    parser.add_argument("--folder", type=Path, default=TOP / ".demo", help="everything is written here")
    return parser


def _clear(folder: Path) -> None:
    """Remove what an earlier demonstration left, and nothing that is not one."""
    if not folder.exists():
        folder.mkdir(parents=True)
    elif (folder / ".demo").exists() or not any(folder.iterdir()):
        shutil.rmtree(folder)
        folder.mkdir()
    else:
        sys.exit(f"error: {folder} is not empty, and not the folder of a demonstration; remove it or choose another")
    (folder / ".demo").touch()


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _stop_jobs(home: Path) -> None:
    """Jobs outlive Airflow on purpose; those of a demonstration must not outlive it."""
    from airflow_calib_provider.backends.local.backend import LocalBackend

    backend = LocalBackend(home / "spool")
    for key in backend.rounds():
        backend.remove(key)


def _say_how_to_look(console: Console, server: AirflowServer, folder: Path, specs: Path) -> None:
    file = server.write_environment(folder / "environment")
    console.print(
        f"\nAirflow goes on running at [bold]{server.url}[/] (no login needed). Look at\n"
        f"  • Browse → Calibration, {page_address(server.url, RUNS)}: runs, groups, payloads, what needs a person\n"
        "  • DAGs → zee__run: one column per run; zee__sum: one per group; the waiting task's XCom `reason`\n"
        f"  • the DAG's documentation: the YAML itself. Edit one in {_shown(specs)}: it changes at the next parse\n"
        "  • Assets: how the workflows hang together\n"
        f"On the command line: [bold]. {file}; calib status[/]\n"
        "Ctrl-C stops it.",
        soft_wrap=True,
    )


def _shown(path: Path) -> Path:
    return path.relative_to(TOP) if path.is_relative_to(TOP) else path


if __name__ == "__main__":
    sys.exit(main())
