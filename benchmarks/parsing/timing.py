"""CPU of building DAGs: in this process, and in one of its own for each file, as Airflow's DAG processor does."""

from __future__ import annotations

import gc
import os
import statistics
import struct
import time
from collections.abc import Callable, Sequence


def cpu(action: Callable[[], object]) -> float:
    """CPU seconds of this process. What is left in memory is not looked through: Airflow builds a file in a process."""
    gc.collect()
    gc.disable()
    try:
        begin = time.process_time()
        action()
        return time.process_time() - begin
    finally:
        gc.enable()


def in_processes(actions: Sequence[Callable[[], object]]) -> float:
    """The median CPU seconds of a forked process for each action, with all that it must import first."""
    return statistics.median(_forked(action) for action in actions)


def _forked(action: Callable[[], object]) -> float:
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        try:
            action()
            os.write(writer, struct.pack("d", time.process_time()))
        finally:
            os._exit(0)
    os.close(writer)
    told = os.read(reader, 8)
    os.close(reader)
    os.waitpid(child, 0)
    return float(struct.unpack("d", told)[0])
