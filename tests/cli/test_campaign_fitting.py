"""What can never come together of a campaign is a mistake when it is asked for, and not a wait without an end."""

from __future__ import annotations

import re

import pytest

from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.injection import backfill
from airflow_calib_provider.ledger.backfill_days import Day
from tests.cli.conftest import Calib
from tests.cli.test_campaigns import CREATE, WIDE, begun, command
from tests.cli.world import DEMO, NOW, OTHER, SOURCES, World, row


@pytest.fixture
def place(world: World) -> World:
    """With a source of which no workflow takes runs."""
    _, _, daq = SOURCES.partition("sources:\n")
    (world.specs / "sources.yaml").write_text(SOURCES + daq.replace("daq:", "mc:").replace("runs.csv", "mc.csv"))
    world.runs(row(2), row(77), file="workflow_specs/mc.csv")
    (world.specs / "demo.yaml").write_text(WIDE)
    world.inject(row(2), row(3), row(4, fill=2))
    return world


def said(text: str) -> str:
    return re.sub(r"\s+", " ", text)


class TestRunsOfAnotherSource:
    @pytest.mark.parametrize("more", [("--runs", "2-77"), ("--collecting",), ("--collecting", "--runs", "2")])
    def test_are_nobodys_in_a_new_campaign(self, place: World, calib: Calib, more: tuple[str, ...]) -> None:
        told = calib.fails("campaign", "create", "again", "--source", "mc", "--workflow", "demo", *more)
        assert "demo takes its runs from daq, not from mc" in said(told)

    def test_one_workflow_of_several(self, place: World, calib: Calib) -> None:
        (place.specs / "other.yaml").write_text(OTHER.replace("source: daq", "source: mc"))
        both = ("--source", "mc", "--workflow", "demo", "--workflow", "other")
        assert "demo takes its runs from daq" in said(calib.fails("campaign", "create", "again", *both))
        made = calib.json("campaign", "create", "week", "--collecting", *both, "--runs", "2")
        assert made["runs"] == [2], "runs of the other may be added"
        assert calib.json("campaign", "add", "week", "--source", "daq", "--runs", "2-3")["added"] == 2

    def test_cannot_be_added(self, place: World, calib: Calib) -> None:
        calib.plain("campaign", "create", "week", "--collecting", "--workflow", "demo")
        told = said(calib.fails("campaign", "add", "week", "--source", "mc", "--runs", "2-77"))
        assert "no workflow of the campaign week takes runs of mc" in told
        assert "those of daq" in told
        assert calib.json("campaign", "show", "week")["n_runs"] == 0

    def test_cannot_be_collected_by_a_backfill(self, place: World) -> None:
        form = {"campaign": "week", "workflows": ["demo"], "source": "daq"}
        midnight = NOW.replace(hour=0, minute=0, second=0)
        day = Day("calib_backfill", "backfill__1", midnight, NOW)
        backfill.collect(place.ledger, place.specs, form, day, lambda dag_id, ids: 1, NOW)
        with pytest.raises(CalibError, match="takes runs of mc"):
            backfill.collect(place.ledger, place.specs, {**form, "source": "mc"}, day, lambda dag_id, ids: 1, NOW)


class TestWhatABaseDoesNotHave:
    def create(self, calib: Calib, *more: str) -> str:
        return said(calib.fails(*CREATE, "--from", "scale", *more))

    def test_as_it_began_in_the_middle_itself(self, place: World, calib: Calib) -> None:
        calib.plain("campaign", "create", "refit", "--workflow", "demo", "--from", "scale")
        told = self.create(calib, "--base", "refit")
        assert "demo.scale needs demo.skim, which the base refit does not run itself: it took it from prompt" in told
        assert calib.json(*CREATE, "--from", "deliver", "--base", "refit")["base"] == "refit", "which refit makes"

    def test_as_it_has_no_such_workflow(self, place: World, calib: Calib) -> None:
        calib.plain("campaign", "create", "checks", "--workflow", "other")
        assert "the base checks has no workflow demo" in self.create(calib, "--base", "checks")

    def test_as_its_runs_are_fixed(self, place: World, calib: Calib) -> None:
        calib.plain("campaign", "create", "few", "--workflow", "demo", "--runs", "2-3")
        assert "the base few, which has what comes before, lacks 1 of these runs: 4" in self.create(
            calib, "--base", "few"
        )
        calib.plain("campaign", "create", "week", "--collecting", "--workflow", "demo")
        assert calib.json(*CREATE, "--from", "scale", "--base", "week")["base"] == "week", "it may get them yet"

    def test_what_nobody_has(self, place: World, calib: Calib) -> None:
        alone = ("campaign", "create", "laser", "--workflow", "third")
        told = said(calib.fails(*alone))
        assert "third.never needs other.check, and neither this campaign nor a base would have it" in told
        assert calib.json(*alone, "--workflow", "other")["workflows"] == ["third", "other"]


class TestAnUpdateToWhatIsNotThere:
    @pytest.mark.parametrize(
        ("text", "why"),
        [
            (None, "has no workflow demo any more, which the campaign again has"),
            (DEMO.replace("workflow: demo", "workflow: renamed"), "has no workflow demo any more"),
            (DEMO.replace("group_by: run", "group_by: rnu"), "has mistakes"),
        ],
    )
    def test_is_told(self, place: World, calib: Calib, text: str | None, why: str) -> None:
        calib.plain(*CREATE)
        file = place.specs / "demo.yaml"
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        told = said(calib.fails("campaign", "update", "again"))
        assert why in told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (WIDE.replace("window: 3, ", "").replace("{{ params.window }}", "3"), "has no parameter window any more"),
        (WIDE.replace("window: 3", "window: wide"), "4 is no text, as the declared 'wide' is"),
    ],
)
def test_what_a_streamed_campaign_sets_does_not_go_without_a_word(
    place: World, calib: Calib, text: str, why: str
) -> None:
    """It follows the file, which does not declare it any more."""
    calib.plain("campaign", "create", "again", "--streamed", "--workflow", "demo", "--set", "window=4")
    place.inject()
    file = place.specs / "demo.yaml"
    file.write_text(text)
    with pytest.raises(AssertionError, match=re.escape(why)):
        place.inject()
    with pytest.raises(CalibError, match=re.escape(why)):
        begun(place, "run-r2", "skim")
    assert begun(place, "run-r2", "skim", "prompt").state == "running"
    file.write_text(WIDE)
    place.inject()
    assert command(place, begun(place, "run-r2", "skim"))["command"][1] == "4 a b"


@pytest.mark.parametrize("name", ["-x", "--json", "-"])
def test_a_name_that_no_command_could_be_given(place: World, calib: Calib, name: str) -> None:
    told = calib("campaign", "create", "--source", "daq", "--workflow", "demo", "--", name)
    assert told.exit_code == 1
    assert "none begins with -" in said(told.stderr)
