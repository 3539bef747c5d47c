"""``python -m benchmarks.starting``: CPU from a process of Airflow to the open ledger, beside Airflow's own start.

Medians of fresh processes, which take turns, so that what else the machine does meets all of them.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.parsing.making import write_specs
from benchmarks.starting.child import KINDS

ROUNDS = 2
GOAL = 0.060
FOLDERS = (2, 500)
"""With so many specs in the folder."""


def prepared(folder: Path, specs: int) -> dict[str, str]:
    """A folder of specs with a ledger, and the environment of its processes."""
    write_specs(folder, specs)
    file = folder / "workflow_specs" / "w1.yaml"
    file.write_text(
        file.read_text().replace("group_by: run", "group_by: fill").replace("run.number", "group.first_run")
    )
    ledger = folder / "calib" / "ledger.db"
    environment = {
        **os.environ,
        "CALIB_HOME": str(folder / "calib"),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW_CONN_CALIB_LEDGER": json.dumps({"conn_type": "sqlite", "host": str(ledger)}),
    }
    code = "from airflow_calib_provider.ledger import engine, schema; schema.upgrade(engine.Ledger())"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    return environment


def measured(kind: str, folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """The figures of one process."""
    command = [sys.executable, "-m", "benchmarks.starting.child", kind, str(folder)]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> int:
    """Print what each kind of process pays for this package."""
    met = True
    with tempfile.TemporaryDirectory() as name:
        places = {}
        for specs in FOLDERS:
            folder = Path(name) / str(specs)
            folder.mkdir()
            places[specs] = folder, prepared(folder, specs)
        time.sleep(2.5)  # files that changed a moment ago are compared by their content
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        for turn in range(ROUNDS + 1):
            for specs, (folder, environment) in places.items():
                for kind in KINDS:
                    figures = measured(kind, folder, environment)
                    if turn:  # the first one fills the cache
                        found.setdefault((kind, specs), []).append(figures)
    for (kind, specs), figures in found.items():
        parts = {part: statistics.median(item[part] for item in figures) for part in figures[0] if part != "airflow"}
        ours = statistics.median(sum(item.values()) - item["airflow"] for item in figures)
        alone = statistics.median(item["airflow"] for item in figures)
        told = ", ".join(f"{part} {1e3 * seconds:.0f}" for part, seconds in parts.items())
        met &= ours <= GOAL
        print(
            f"{kind}, {specs} specs: ours {1e3 * ours:.0f} ms CPU ({told}), {ours / alone:.3f} of Airflow's own "
            f"{1e3 * alone:.0f} ms (goal: at most {1e3 * GOAL:.0f} ms)"
        )
    print(f"load {os.getloadavg()[0]:.1f}", file=sys.stderr)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
