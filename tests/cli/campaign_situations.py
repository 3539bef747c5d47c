"""Situations in which a campaign itself is why something waits."""

from __future__ import annotations

from sqlalchemy import select

from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.groups import has_task
from tests.cli.situations import Place
from tests.cli.world import NOW, row

ASK = ("run-r3", "--workflow", "demo", "--no-airflow")


def collecting(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(3))
    create = ("campaign", "create", "again", "--collecting", "--source", "daq", "--runs", "2-3", "-w", "demo")
    place.calib.plain(*create)
    return ("3", "--campaign", "again", "--workflow", "demo", "--no-airflow")


def grouped_now(place: Place) -> None:
    place.world.inject()
    place.world.group("run-r3", campaign="again")


def paused_campaign(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2))
    place.calib.plain("campaign", "pause", "prompt")
    place.world.inject(row(2), row(3))
    return ASK


def opened_now(place: Place) -> None:
    place.world.inject()
    assert place.world.open_dag_runs() > 0


def few_groups(place: Place) -> tuple[str, ...]:
    place.world.inject(row(1))
    place.calib.plain("campaign", "set", "prompt", "--max-groups", "1")
    place.world.inject(row(1), row(2), row(3))
    return ASK


def few_jobs(place: Place) -> tuple[str, ...]:
    place.world.inject(row(2), row(3))
    place.world.open_dag_runs()
    place.calib.plain("campaign", "set", "prompt", "--max-jobs", "3")
    place.world.begin("run-r2", "skim")
    flow, group = place.world.workflows["demo"], place.world.group("run-r3")
    begin(place.world.ledger, flow, flow.tasks["skim"], group.id, max_tries=8, dag_run_id="prompt__run-r3", now=NOW)
    return ("run-r3", "--workflow", "demo", "--task", "skim", "--no-airflow")


def own_version(place: Place) -> tuple[str, ...]:
    """The file has a task more than the version that the campaign has of its own."""
    place.world.inject(row(2), row(3))
    place.calib.plain("campaign", "create", "again", "--source", "daq", "--runs", "2-3", "--workflow", "demo")
    place.world.inject()
    file = place.world.specs / "demo.yaml"
    file.write_text(f"{file.read_text()}  extra:\n    group_by: run\n    jobs: {{command: [echo, more]}}\n")
    place.world.inject()
    return ("run-r3", "--campaign", "again", "--workflow", "demo", "--no-airflow")


def extended(place: Place) -> None:
    place.world.inject()
    with place.world.ledger.read() as connection:
        assert has_task(connection, place.world.group("run-r3", campaign="again").id, "extra")


def of_base(place: Place) -> tuple[str, ...]:
    """A campaign from the middle waits for what its base has not made yet."""
    place.world.inject(row(2), row(3))
    create = ("campaign", "create", "again", "--source", "daq", "--runs", "2-3", "-w", "demo", "--from", "scale")
    place.calib.plain(*create)
    place.world.inject()
    return ("fill-r2", "--campaign", "again", "--workflow", "demo", "--task", "scale", "--no-airflow")


def skipped_here_alone(place: Place) -> None:
    """The base says what it waits for, and nothing was skipped there."""
    shown = [said for command, said in place.said if command.startswith("calib explain")]
    assert len(shown) == 2
    assert all("run-r" in said and "no workflow" not in said for said in shown), shown
    with place.world.ledger.read() as connection:
        assert set(connection.execute(select(tables.skip.c.campaign)).scalars()) == {"again"}


def not_run_here(place: Place) -> tuple[str, ...]:
    of_base(place)
    told = place.calib.fails("skip", "2", "-w", "demo", "-t", "skim", "-c", "again", "--reason", "bad")
    assert "demo.skim is not run in again, which takes it from prompt: nothing was skipped" in told
    return ("2", "--campaign", "again", "--workflow", "demo", "--task", "skim", "--no-airflow")


def told_by_base(place: Place) -> None:
    ((_, said),) = place.said
    assert "run-r2" in said
