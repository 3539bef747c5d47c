"""Situations of single runs that ``calib explain`` has an advice for: left out, in no category, or awaited."""

from __future__ import annotations

from airflow_calib_provider.ledger import tables
from tests.cli.situations import Place
from tests.cli.test_airflow import task
from tests.cli.world import DEMO, NOW, row


def left_out(place: Place) -> tuple[str, ...]:
    """Run 3 had failed when the group went on without it; it is done by now."""
    place.of_fill(2, 3)
    place.world.do("fill-r2", "scale")
    said = {"code": "failed_run", "needs": "demo.skim", "failed": "demo.skim", "at": NOW.isoformat(), "said": "lost"}
    values = {"group_id": place.world.group("fill-r2").id, "task": "scale", "run": 3, "reason": said, "at": NOW}
    with place.world.ledger.write() as connection:
        connection.execute(tables.excluded_run.insert().values(**values))
    return ("3", "--workflow", "demo", "--no-airflow")


def only_left_out(place: Place) -> tuple[str, ...]:
    """As above, and then a person takes the other run out of the group."""
    left_out(place)
    place.calib("group", "amend", "fill-r2", "--workflow", "demo", "--remove", "2", "--reason", "bad")
    return ("fill-r2", "--workflow", "demo", "--no-airflow")


def taken_in_alone(place: Place) -> None:
    assert place.world.group("fill-r2").edition == 3
    assert place.state("fill-r2", "scale") == "new"


def taken_in(place: Place) -> None:
    assert place.world.group("fill-r2").edition == 2
    assert place.state("fill-r2", "scale") == "new"


def in_no_category(place: Place) -> tuple[str, ...]:
    specs = place.world.specs
    (specs / "categories.yaml").write_text(
        "apiVersion: calib/v1\ncategories: {bright: run.lumi > 7.0 && run.fill > 0}\n"
    )
    (specs / "demo.yaml").write_text(DEMO.replace('where: "run.lumi > 0.0"', "categories: [bright]"))
    place.world.inject(row(2, lumi=9.0), row(3, lumi=6.0))
    return ("3", "--workflow", "demo", "--no-airflow")


def category_shown(place: Place) -> None:
    """The command says what the condition lacks."""
    (found,) = place.calib.json("runs", "categories", "3")
    assert (found["category"], found["in"], found["workflows"]) == ("bright", False, ["demo"])
    assert found["parts"] == [{"text": "run.lumi > 7.0", "values": {"lumi": 6.0}, "error": None}]
    (found,) = place.calib.json("runs", "categories", "2", "--source", "daq")
    assert (found["in"], found["parts"]) == (True, [])
    assert "`run.lumi > 7.0` is false (lumi is 6.0)" in " ".join(place.said[0][1].split())
    assert "the ledger has no run 77" in place.calib.fails("runs", "categories", "77")
    file = place.world.specs / "categories.yaml"
    file.write_text(file.read_text().replace("> 7.0", "= 7.0"))
    told = place.calib("runs", "categories", "3")
    assert "categories.yaml:2:31: the condition cannot be read" in told.stderr


_ASKED = ("2", "--workflow", "demo", "--no-airflow")


def _awaiting(place: Place) -> tuple[str, ...]:
    """A grouping waits for what is found in run 2."""
    more = """\
  sum_up:
    group_by: {until: {task: skim, when: "sum.pairs >= 10"}}
    jobs: {command: [echo, hello]}
"""
    (place.world.specs / "demo.yaml").write_text(DEMO + more)
    return _ASKED


def value_awaited(place: Place) -> tuple[str, ...]:
    place.of_run()
    return _awaiting(place)


def value_failed(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.fail("run-r2", "skim")
    place.airflow.task(task("failed"))
    return _awaiting(place)


def value_not_reported(place: Place) -> tuple[str, ...]:
    place.of_run()
    place.world.do("run-r2", "skim")
    return _awaiting(place)


def gone_on(place: Place) -> None:
    """What waited goes on without what nobody knows."""
    report = place.world.inject()
    assert report.errors == []
    assert not any("the values of run 2 are not known" in said for said in report.waits)
    assert place.world.group("until-r2").state == "forming"
