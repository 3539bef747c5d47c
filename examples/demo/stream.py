"""The two demonstrations: a stream of simulated runs, and a finite campaign on CMS events."""

from __future__ import annotations

import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.live import Live
from rich.table import Table
from sqlalchemy import select

from airflow_calib_provider.api import retry_group
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.injection.inject import close_campaign
from airflow_calib_provider.ledger import campaigns, skips, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec.loader import load_folder, load_sources
from demo import results
from demo.airflow_server import AirflowServer
from demo.scenario import SHIFTED, Scenario

TOP = Path(__file__).resolve().parents[2]
END_STATES = ("done", "failed", "skipped")
PATIENCE = 900.0
CMS_CAMPAIGN = "cms-2011A"


class DemoFailed(RuntimeError):
    """The demonstration did not come out as it should; the message says how far it got."""


@dataclass(frozen=True)
class Play:
    """A demonstration: what it needs of Airflow, and what it does then, given the folder of Airflow's specs too."""

    environment: Mapping[str, str]
    dag_ids: Sequence[str]
    run: Callable[[AirflowServer, Ledger, Console, Path], int]


def stream_synthetic(folder: Path) -> Play:
    """Two dozen simulated runs, streamed with mishaps."""
    scenario = Scenario(folder / "detector")
    scenario.simulate()

    def run(server: AirflowServer, ledger: Ledger, console: Console, specs: Path) -> int:
        return _run_synthetic(scenario, folder, specs, server, ledger, console)

    dag_ids = ("calib_inject", "zee__run", "zee__sum", "zee_laser__fill")
    return Play(scenario.environment, dag_ids, run)


def _run_synthetic(
    scenario: Scenario, folder: Path, specs: Path, server: AirflowServer, ledger: Ledger, console: Console
) -> int:
    begin = time.monotonic()
    with Watch(server, ledger, console, "prompt") as watch:
        _stream(scenario, specs, watch)
        console.print(f"everything has ended after {time.monotonic() - begin:.0f} s of stream")
    return results.show_synthetic(scenario, ledger, folder, console)


def _stream(scenario: Scenario, specs: Path, watch: Watch) -> None:
    """Runs come in batches; one breaks and is skipped; the data taking ends; what was refused is made again."""
    console, ledger = watch.console, watch.ledger
    for number, batch in enumerate(scenario.batches(), start=1):
        scenario.release(batch)
        console.print(f"[bold]batch {number}[/]: runs {_span(batch)} completed")
        watch.inject()
    watch.until(
        lambda: watch.state("zee", f"run-r{scenario.broken_run}", "select") == "failed", "the broken run to fail"
    )
    reason = "the data of this run are unreadable"
    with ledger.write() as connection:
        skips.add(
            connection, "prompt", "zee", [scenario.broken_run], reason=reason, person="shifter", now=datetime.now(UTC)
        )
    console.print(f"run {scenario.broken_run} failed for good: skipped, as `calib skip` does ({reason})")
    workflows, errors = load_folder(specs)
    if errors:
        raise DemoFailed("\n".join(str(error) for error in errors))
    close_campaign(ledger, workflows, "prompt", datetime.now(UTC))
    console.print("the data taking ends: the campaign is closed, what was still forming is closed with it")
    watch.server.trigger("calib_inject")
    watch.until(lambda: watch.ended() and watch.nothing_wanted(), "every group to end")
    _mend(specs, watch)


def _mend(specs: Path, watch: Watch) -> None:
    """What was refused is mended in the workflow's file, and made again."""
    for row in watch.failed("zee", "deliver"):
        watch.console.print(f"[yellow]refused[/]: {render(row.reason)}", soft_wrap=True)
        file = specs / "zee.yaml"
        file.write_text(re.sub(rf"({SHIFTED}:).*", r"\1 none", file.read_text()))
        watch.console.print(f"zee.yaml is mended, and `calib retry {row.name} --task scale` makes it again")
        run = f"prompt__{row.name}"
        # Airflow forgets a clear between the end of a task and that of its DAG run.
        watch.until(lambda run=run: watch.server.run_state("zee__sum", run) == "failed", f"{run} to end")
        os.environ["CALIB_AIRFLOW_URL"] = watch.server.url
        retry_group(watch.ledger, row.name, tasks=["scale"], workflow="zee")
        done = lambda name=row.name: watch.state("zee", name, "deliver") == "done"  # noqa: E731
        watch.until(done, f"{row.name} to be published")


def stream_cms(data: Path, folder: Path, ledger: Ledger) -> Play:
    """Real events as a finite campaign, created before Airflow starts: its first calib_inject takes it up."""
    specs = TOP / "examples" / "zee" / "cms" / "workflow_specs"
    os.environ["CALIB_ZEE_EVENTS"] = str(data)
    source = load_sources(specs / "sources.yaml")["cms_events"]
    runs = [record.number for record in read_source(source, base_folder=specs)]
    with ledger.write() as connection:
        # Without this, prompt would take the same runs: the data are finite, and nothing new will come.
        campaigns.ensure_prompt(connection)
        campaigns.close(connection, campaigns.PROMPT)
        campaigns.create(connection, CMS_CAMPAIGN, kind="finite", runs={source.name: runs})

    def run(server: AirflowServer, ledger: Ledger, console: Console, _: Path) -> int:
        console.print(f"the finite campaign {CMS_CAMPAIGN} has {len(runs)} runs")
        with Watch(server, ledger, console, CMS_CAMPAIGN) as watch:
            server.trigger("calib_inject", {"campaign": CMS_CAMPAIGN})
            watch.until(lambda: watch.ended() and watch.nothing_wanted(), "every group to end")
        return results.show_cms(ledger, data, folder, console)

    return Play({"CALIB_ZEE_EVENTS": str(data)}, ("calib_inject", "zee_cms__run", "zee_cms__sum"), run)


def _span(numbers: Sequence[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}–{numbers[-1]}"


class Watch:
    """Waits, and shows meanwhile how everything stands.

    On a terminal by one live table, below all that is printed; without one by a line for each change.
    """

    def __init__(self, server: AirflowServer, ledger: Ledger, console: Console, campaign: str) -> None:
        self.server, self.ledger, self.console, self._campaign = server, ledger, console, campaign
        self._rows: list[Any] = []
        self._printed = ""
        self._live = Live(get_renderable=self._table, console=console) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *raised: object) -> None:
        if self._live is not None:
            self._live.stop()

    def look(self) -> None:
        """Read the states of all tasks of all groups."""
        task, group = tables.group_task, tables.run_group
        query = (
            select(group.c.workflow, group.c.grouping, group.c.name, group.c.state.label("group_state"), task)
            .join(task, task.c.group_id == group.c.id)
            .where(group.c.campaign == self._campaign)
            .order_by(group.c.workflow, group.c.grouping, task.c.position, group.c.first_run)
        )
        with self.ledger.read() as connection:
            self._rows = list(connection.execute(query).all())

    def state(self, workflow: str, group: str, task: str) -> str | None:
        """State of one task of one group at the last look."""
        return next((r.state for r in self._rows if (r.workflow, r.name, r.task) == (workflow, group, task)), None)

    def failed(self, workflow: str, task: str) -> list[Any]:
        """The rows of a task that has failed, at the last look."""
        return [r for r in self._rows if (r.workflow, r.task, r.state) == (workflow, task, "failed")]

    def ended(self) -> bool:
        """Whether nothing is left to be done."""
        failed = {row.name for row in self._rows if row.state == "failed"}
        return bool(self._rows) and all(row.state in END_STATES or row.name in failed for row in self._rows)

    def nothing_wanted(self) -> bool:
        """Whether no DAG run is still to be opened."""
        request = tables.dag_run_request
        with self.ledger.read() as connection:
            return connection.execute(select(request.c.group_id).where(request.c.state != "opened")).first() is None

    def inject(self, timeout: float = 400.0) -> None:
        """Trigger calib_inject and wait for it, as the DAQ would at the end of runs."""
        run_id = self.server.trigger("calib_inject")
        self.until(
            lambda: self.server.run_state("calib_inject", run_id) in ("success", "failed"), "calib_inject", timeout
        )
        if self.server.run_state("calib_inject", run_id) != "success":
            raise DemoFailed(f"calib_inject failed; see its log in the UI or below {self.server.home / 'logs'}")

    def until(self, condition: Callable[[], bool], what: str, timeout: float = PATIENCE) -> None:
        """:raises DemoFailed: the condition did not come true in time."""
        end = time.monotonic() + timeout
        while True:
            self.look()
            self._show()
            self.server.check_alive()
            if condition():
                return
            if time.monotonic() > end:
                raise DemoFailed(f"after {timeout:g} s still waiting for {what}\n{self._waiting()}")
            time.sleep(1)

    def _show(self) -> None:
        if self._live is not None:
            self._live.refresh()
        else:
            self._print_plainly()

    def _counts(self) -> dict[tuple[str, str], Counter[str]]:
        counts: dict[tuple[str, str], Counter[str]] = {}
        for row in self._rows:
            counts.setdefault((f"{row.workflow}__{row.grouping}", row.task), Counter())[row.state] += 1
        return counts

    def _table(self) -> Table:
        table = Table(title=f"campaign {self._campaign}", title_justify="left")
        for column in ("DAG", "task", "waiting", "processing", "done", "failed", "skipped"):
            table.add_column(column, justify="left" if column in ("DAG", "task") else "right")
        for (dag, task), states in self._counts().items():
            waiting = states["new"] + states["waiting"]
            cells = [waiting, *(states[name] for name in ("processing", "done", "failed", "skipped"))]
            table.add_row(dag, task, *(str(cell or "") for cell in cells))
        return table

    def _print_plainly(self) -> None:
        text = "; ".join(
            f"{task}: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items()))
            for (_, task), states in self._counts().items()
        )
        if text != self._printed:
            self.console.print(f"{datetime.now(UTC):%H:%M:%S} {text}", soft_wrap=True)
            self._printed = text

    def _waiting(self) -> str:
        rows = [row for row in self._rows if row.state not in END_STATES][:10]
        return "\n".join(f"{row.workflow}.{row.task} {row.name}: {row.state}: {render(row.reason)}" for row in rows)
