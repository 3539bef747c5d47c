"""Things that happen to a workflow, of which people are told."""

from __future__ import annotations

from collections.abc import Iterable

from airflow_calib_provider.ledger import groups
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.sender import Sender
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.messages_file import TOPICS, ChannelSpec
from tests.ledger.making import T0, facts, group_ids, put_runs, task, workflow

FLOW = workflow("ecal", task("skim"), task("scale", needs=["ecal.skim@run"]))
LINK = "https://airflow.example.org"


def take_runs(ledger: Ledger, runs: Iterable[int], campaign: str = "prompt") -> None:
    put_runs(ledger, FLOW, [facts(number) for number in runs], campaign)


def fail(ledger: Ledger, run: int, why: str = "exit code 1", name: str = "skim") -> None:
    """Let a task of a run fail for good."""
    group_id = group_ids(ledger, "run")[f"run-r{run}"]
    reason = {"code": "jobs_failed", "n_failed": 1, "n_jobs": 2, "failed": [[0, why]]}
    with ledger.write() as connection:
        groups.set_task_states(connection, group_id, "processing", None, T0, task=name)
        groups.set_task_states(connection, group_id, "failed", reason, T0, task=name)


def spec(name: str = "shift", **more: object) -> ChannelSpec:
    values = {"kind": "mattermost", "block": {}, "topics": tuple(TOPICS), "link": LINK, **more}
    return ChannelSpec(name, **values)  # type: ignore[arg-type]


def sender(ledger: Ledger, connection: OutsideConnection | None, **more: object) -> Sender:
    """A sender whose channel begins now."""
    made = Sender(ledger, spec(**more), connection)
    made.step()
    return made
