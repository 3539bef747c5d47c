"""A peer beside plain Python, in an environment of its own: ``benchmarks.parsing.beside PEER FOLDER DAGS ROUNDS``."""

from __future__ import annotations

import json
import runpy
import statistics
import sys
import warnings
from pathlib import Path

from benchmarks.parsing.making import by_hand
from benchmarks.parsing.peers import PEERS
from benchmarks.parsing.timing import cpu


def main(package: str, folder: Path, dags: int, rounds: int) -> None:
    """Print its ratio to plain Python, and its CPU seconds."""
    warnings.simplefilter("ignore")
    (peer,) = [item for item in PEERS if item.package == package]
    stubs = peer.write(folder, dags)

    def theirs() -> None:
        from airflow.sdk import DAG

        found = {}
        for stub in stubs:
            found.update({key: dag for key, dag in runpy.run_path(str(stub)).items() if isinstance(dag, DAG)})
        assert len(found) == dags, sorted(found)

    def hand() -> None:
        from airflow.sdk import BaseOperator

        for number in range(dags):
            by_hand(f"h{number}", lambda name: BaseOperator(task_id=name))

    theirs()
    hand()
    pairs = [(cpu(hand), cpu(theirs)) for _ in range(rounds)]
    ratio = statistics.median(own / plain for plain, own in pairs)
    print(json.dumps({"ratio": ratio, "cpu": statistics.median(own for _, own in pairs)}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
