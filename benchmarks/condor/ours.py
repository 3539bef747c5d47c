"""Our side of a benchmark, as a process of its own: ``python -m benchmarks.condor.ours WHAT PLAN ANSWER``.

``watch``: begin job sets and watch them to their end, by the very poller that a triggerer uses. ``fill``: put job sets
on record and submit them. ``idle``: look at these again and again, in a process that did not make them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import select

from airflow_calib_provider.backends.condor.backend import CondorBackend
from airflow_calib_provider.backends.condor.helper import Helper
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.jobsets.advance import GenerationStanding, advance
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.ledger import rounds, schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.settings import number
from airflow_calib_provider.spec.models import Jobs, ResourceRequest, Split, Task, Workflow
from airflow_calib_provider.triggers.poller import LookFailed, Poller
from tests.ledger.making import RUN, facts, group_ids, put_runs, task, workflow

MEBIBYTE = 1 << 20
POLLS, STEPS = 20, 3


class World:
    """A ledger with so many groups of so many jobs each, and a backend on the pool.

    :ivar calls: the calls to the schedd, by name.
    """

    def __init__(self, plan: Mapping[str, Any]) -> None:
        self.folder = Path(plan["folder"])
        self.flow = _flow(plan, self.folder)
        fresh = not (self.folder / "ledger.db").exists()
        self.ledger = Ledger(f"sqlite:///{self.folder / 'ledger.db'}")
        schema.upgrade(self.ledger)
        if fresh:
            put_runs(self.ledger, self.flow, [facts(n + 1) for n in range(plan["groups"])])
        self.groups = group_ids(self.ledger, "run")
        self.backend = CondorBackend(CondorSettings.from_mapping("bench", plan["connection"]))
        self.calls: Counter[str] = Counter()
        _count_calls(self.calls)

    def begin(self, groups: Sequence[str] | None = None) -> list[int]:
        """Begin all job sets, or those of some groups; returns their generations."""
        now = datetime.now(UTC)
        spec = self.flow.tasks["skim"]
        return [
            begin(self.ledger, self.flow, spec, one, max_tries=0, dag_run_id=f"prompt__{name}", now=now).generation_id
            for name, one in self.groups.items()
            if groups is None or name in groups
        ]

    def step(self, ids: Sequence[int]) -> Mapping[int, GenerationStanding]:
        """What the trigger's ``advance_all`` does, with this ledger and this backend."""
        return advance(self.ledger, lambda _: self.backend, ids, datetime.now(UTC))

    def close(self) -> None:
        """End the helper process, so that its account becomes a part of this process's."""
        self.backend.close()
        self.ledger.close()


def _flow(plan: Mapping[str, Any], folder: Path) -> Workflow:
    jobs = Jobs(
        command=("/bin/sh", "-c", plan["script"]),
        split=Split(count=plan["jobs"]),
        resources=ResourceRequest(memory=plan.get("memory", 100 * MEBIBYTE), disk=10 * MEBIBYTE),
        environment=plan.get("environment", {}),
        options=plan.get("condor", {}),
    )
    made: Task = task("skim", RUN, jobs=jobs, products=plan.get("products", {}), backend="condor")
    return workflow("bench", made, file=str(folder / "bench.yaml"))


def _count_calls(calls: Counter[str]) -> None:
    real: Callable[..., Any] = Helper.call

    def counted(self: Helper, name: str, **arguments: Any) -> Any:
        calls[name] += 1
        return real(self, name, **arguments)

    Helper.call = counted  # type: ignore[method-assign]


def watch(plan: Mapping[str, Any]) -> dict[str, Any]:
    """From the first begin to the end of the last job set."""
    world = World(plan)
    started = time.time()
    ids = world.begin()
    begun = time.time()
    done = asyncio.run(_watch(world, ids))
    ended = time.time()
    calls = dict(world.calls)
    names = dict(zip(ids, world.groups, strict=True))
    with world.ledger.read() as connection:
        attempts = connection.execute(select(tables.attempt.c.state, tables.attempt.c.reason)).all()
    world.close()
    return {
        "began_in": begun - started,
        "done_in": ended - started,
        "calls": calls,
        "states": dict(Counter(standing.state for _, standing in done.values())),
        # Once for each job, if nothing went wrong.
        "attempts": {f"{state}: {reason}"[:200]: n for (state, reason), n in Counter(map(tuple, attempts)).items()},
        "done_at": {names[one]: at for one, (at, _) in done.items()},
    }


async def _watch(world: World, ids: Sequence[int]) -> dict[int, tuple[float, GenerationStanding]]:
    poller = Poller(world.step, number("WATCH_INTERVAL"))

    async def until_done(one: int) -> tuple[float, GenerationStanding]:
        async with poller.subscribe(one) as queue:
            while True:
                news = await queue.get()
                if isinstance(news, LookFailed) or news.trouble:
                    sys.stderr.write(f"{news.message if isinstance(news, LookFailed) else news.trouble}\n")
                elif news.state != "running":
                    return time.time(), news

    return dict(zip(ids, await asyncio.gather(*map(until_done, ids)), strict=True))


def fill(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Put the jobs on record and submit them."""
    world = World(plan)
    begin_ = time.perf_counter()
    ids = world.begin()
    world.step(ids)
    world.close()
    return {"seconds": time.perf_counter() - begin_, "generations": ids, "calls": dict(world.calls)}


def idle(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Memory and time of a process that looks when nothing is new: the backend alone, then the whole step."""
    world = World(plan)
    ids = list(plan["generations"])
    with world.ledger.read() as connection:
        cursors = {row.key: row.cursor for row in rounds.in_states(connection, ids, ["submitted"])}
    before = _resident()
    # The first look is another: it reads the lists of jobs.
    first, _ = _looks(partial(_poll, world, cursors), 1)
    cpu, wall = _looks(partial(_poll, world, cursors), POLLS)
    with_jobs = _resident()
    step_first, _ = _looks(lambda: world.step(ids), 1)
    step_cpu, step_wall = _looks(lambda: world.step(ids), STEPS)
    answer = {
        "rounds": len(cursors),
        "resident_before": before,
        "resident": with_jobs,
        "resident_step": _resident(),
        "resident_helper": psutil.Process(pid).memory_info().rss if (pid := world.backend._helper.pid) else 0,
        "first_poll_cpu": first,
        "poll_cpu": cpu,
        "poll_wall": wall,
        "first_step_cpu": step_first,
        "step_cpu": step_cpu,
        "step_wall": step_wall,
        "calls": dict(world.calls),
    }
    world.close()
    return answer


def _poll(world: World, cursors: dict[RoundKey, str]) -> None:
    for key, news in world.backend.poll(cursors).items():
        cursors[key] = news.cursor


def _looks(look: Callable[[], object], times: int) -> tuple[float, float]:
    """Median of CPU and wall time of a look."""
    cpu, wall = [], []
    for _ in range(times):
        begin_cpu, begin_wall = time.process_time(), time.perf_counter()
        look()
        cpu.append(time.process_time() - begin_cpu)
        wall.append(time.perf_counter() - begin_wall)
    return statistics.median(cpu), statistics.median(wall)


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def main(arguments: Sequence[str]) -> int:
    """Do what is asked, and write the answer."""
    what, plan, answer = arguments
    function = {"watch": watch, "fill": fill, "idle": idle}[what]
    Path(answer).write_text(json.dumps(function(json.loads(Path(plan).read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
