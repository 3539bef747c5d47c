"""A name that nothing has is an error that says what is known; one without rows is an empty answer."""

from __future__ import annotations

import json

import pytest

from airflow_calib_provider.domain.reducer import JobState
from airflow_calib_provider.ledger.names import states
from tests.cli.conftest import Calib
from tests.cli.world import World


@pytest.mark.parametrize(
    ("arguments", "said", "hint"),
    [
        (("status", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'? known: demo, other, third"),
        (("groups", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'?"),
        (("runs", "list", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'?"),
        (("jobs", "list", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'?"),
        (("jobs", "logs", "run-r2", "skim", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'?"),
        (("explain", "2", "-w", "nope"), "no workflow nope", "known: demo, other, third"),
        (("explain", "run-r2", "-w", "nope"), "no workflow nope", "known: demo, other, third"),
        (("retry", "run-r2", "-w", "dmo"), "no workflow dmo", "did you mean 'demo'?"),
        (("skip", "run-r2", "-w", "dmo", "--reason", "x"), "no workflow dmo", "did you mean 'demo'?"),
        (("jobs", "list", "--task", "skimm"), "no task skimm", "did you mean 'skim'? known: check, deliver, laser"),
        (
            ("jobs", "list", "-w", "third", "--task", "skim"),
            "no task skim in the workflow third",
            "known: laser, never",
        ),
        (("explain", "2", "--task", "nope"), "no task nope", "known: check, deliver, laser, never, scale, skim"),
        (("explain", "run-r2", "-w", "demo", "--task", "nope"), "no task nope", "known: deliver, scale, skim"),
        (("explain", "run-r2", "-w", "demo", "--task", "scale"), "run-r2 has no task scale", "it has skim"),
        (("jobs", "logs", "run-r2", "nope", "-w", "demo"), "run-r2 has no task nope", "it has skim"),
        (("jobs", "logs", "fill-r2", "deliver"), "publishes: it has no jobs", "explain fill-r2"),
        (("payload", "list", "--tag", "Scal"), "no tag Scal", "did you mean 'Scale'? known: Scale"),
        (("skip", "2", "--task", "scal", "--reason", "x"), "there is no task scal", "did you mean 'scale'?"),
    ],
)
def test_unknown(busy: World, calib: Calib, arguments: tuple[str, ...], said: str, hint: str) -> None:
    stderr = calib.fails(*arguments)
    assert said in stderr
    assert hint in " ".join(stderr.split())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("groups", "-w", "third", "--state", "dropped"), "no groups"),
        (("jobs", "list", "--task", "never"), "no jobs"),
        (("jobs", "list", "-w", "demo", "--state", "running"), "no jobs"),
        (("runs", "list", "--state", "refused"), "no such runs"),
    ],
)
def test_known_but_without_rows(busy: World, calib: Calib, arguments: tuple[str, ...], said: str) -> None:
    assert calib.plain(*arguments).strip() == said


def test_a_task_of_a_spec_is_known_before_it_has_a_group(world: World, calib: Calib) -> None:
    world.runs()
    world.inject()
    assert calib.plain("jobs", "list", "--task", "scale").strip() == "no jobs"
    assert "no task sale" in calib.fails("jobs", "list", "--task", "sale")
    assert calib.plain("payload", "list", "--tag", "Scale").strip() == "no payloads"
    assert calib.json("groups", "-w", "demo") == []


@pytest.mark.parametrize(
    ("command", "known"),
    [
        (("jobs", "list"), [state.value for state in JobState]),
        (("groups",), states("run_group", "group_task")),
        (("runs", "list"), (*states("membership"), "unassigned")),
    ],
)
def test_states(busy: World, calib: Calib, command: tuple[str, ...], known: list[str]) -> None:
    for state in known:
        assert calib(*command, "--state", state).exit_code == 0
    wrong = known[0][:-1]
    stderr = calib.fails(*command, "--state", wrong, code=2)
    assert f"'{wrong}' is no state; choose one of {', '.join(known)}; did you mean '{known[0]}'?" in stderr
    assert f"calib {' '.join(command)} --help" in stderr


def test_the_states_of_groups_and_their_tasks() -> None:
    assert states("run_group", "group_task")[0] == "forming"
    assert set(states("run_group")) == {"forming", "closed", "dropped"}
    assert {"grouped", "late", "refused", "not_selected", "dropped", "removed"} == set(states("membership"))


def test_a_run_that_the_ledger_does_not_know(busy: World, calib: Calib) -> None:
    stderr = calib.fails("explain", "99")
    assert "the ledger has no run 99; the highest is 8" in stderr
    assert "calib_inject" in stderr
    assert "runs add" in stderr
    assert json.loads(calib("explain", "99", "--json").stdout)["hint"]


@pytest.mark.parametrize("command", ["status", "groups", "runs list", "jobs list", "payload list", "explain 2"])
def test_before_the_first_injection(world: World, calib: Calib, command: str) -> None:
    stderr = calib.fails(*command.split())
    assert "there is no campaign prompt yet" in stderr
    assert "calib_inject creates it at its first run" in stderr


def test_another_campaign_that_is_not_there(busy: World, calib: Calib) -> None:
    stderr = calib.fails("status", "--campaign", "promt")
    assert "did you mean 'prompt'? known: prompt; `calib campaign create` makes one" in stderr


@pytest.mark.parametrize("group", [(), ("jobs",), ("spec",)])
def test_a_command_line_without_a_command_is_a_question(world: World, calib: Calib, group: tuple[str, ...]) -> None:
    result = calib(*group)
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert result.stderr == ""
