"""What a payload was made from has changed: it is stale, and the smallest rerun mends it (rule 70)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner

from airflow_calib_provider import api
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads.staleness import Rerun
from tests.ledger.making import facts, put_runs
from tests.payloads.living import Living


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


@pytest.fixture
def living(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_LEDGER", ledger.url.render_as_string(hide_password=False))
    made = Living(tmp_path, ledger)
    made.make()
    made.publish()
    yield made
    for key in made.backend.rounds():
        made.backend.remove(key)


def of(*tasks: str, workflow: str = "ecal") -> list[Rerun]:
    return [Rerun("prompt", workflow, "run-r1", tasks)]


def test_nothing_is_stale_as_long_as_nothing_changes(living: Living) -> None:
    assert api.stale_payloads(living.ledger) == []
    # What is done again with the same constants is made of other generations, and is the same payload.
    living.make()
    assert [one.payload.revision for one in api.stale_payloads(living.ledger)] == [1]
    # Its advice helps, though no new revision is made.
    assert not living.publish().new
    assert api.stale_payloads(living.ledger) == []
    living.make()
    with living.ledger.write() as connection:
        connection.execute(update(tables.payload).values(provenance={}))
    assert api.stale_payloads(living.ledger) == [], "of what does not say it nothing is known"


def test_the_first_task_that_is_out_of_date_is_run_again(living: Living) -> None:
    living.tries += 1
    living.look()
    (found,) = api.stale_payloads(living.ledger)
    assert (found.why, list(found.reruns)) == (
        ("validate of run-r1 has generation 2, it was made of 1",),
        of("deliver"),
    )
    living.tries += 1
    living.jobs("scale")
    (found,) = api.stale_payloads(living.ledger)
    # The validation has read the constants of before, and comes before the publication.
    assert list(found.reruns) == of("validate")
    assert "validate has read generation 1 of scale of run-r1, which has 2" in found.why
    assert found.why[0] == "scale of run-r1 has generation 2, it was made of 1"


def test_commands(living: Living) -> None:
    run = CliRunner().invoke
    assert run(app, ["stale"]).output == "nothing is stale\n"
    living.tries += 1
    living.look()
    said = run(app, ["stale"])
    assert said.exit_code == 1
    assert "  mended by: calib retry run-r1 --task deliver --workflow ecal\n" in said.output
    (told,) = json.loads(run(app, ["stale", "--json"]).output)
    assert (told["tag"], told["reruns"][0]["tasks"]) == ("Scale", ["deliver"])
    dry = run(app, ["rerun", "--stale", "--dry-run"])
    assert (dry.exit_code, dry.output) == (0, "calib retry run-r1 --task deliver --workflow ecal\n")
    asked = run(app, ["rerun", "--stale"])
    assert asked.exit_code == 1, "there is no Airflow"
    assert run(app, ["rerun"]).exit_code == 2


READS = """
apiVersion: calib/v1
workflow: reads
runs: {source: daq, since: 1}
tasks:
  fit:
    group_by: run
    locks: [{payload: {tag: Scale, covers: group}}]
    jobs: {command: [sh, -c, 'cp $0 "$CALIB_OUT/c.txt"', "{{ payloads.Scale | first }}"], retries: 0}
    products: {constants: c.txt}
  deliver:
    needs: [fit]
    publish: {tag: Fitted, file: "{{ tasks.fit.products.constants }}"}
"""


@pytest.fixture
def reader(living: Living) -> Living:
    """What has read the scale, and published."""
    from airflow_calib_provider.spec.loader import load_workflow
    from tests.ledger.making import group_ids

    (living.folder / "reads.yaml").write_text(READS)
    other = Living.__new__(Living)
    other.__dict__.update(living.__dict__)
    other.flow = load_workflow(living.folder / "reads.yaml")
    put_runs(living.ledger, other.flow, [facts(1), facts(2)])
    other.group = group_ids(living.ledger, "run", "reads")["run-r1"]
    other.tries = 0
    other.jobs("fit")
    other.publish()
    return other


def test_who_has_read_what_was_superseded_follows(living: Living, reader: Living) -> None:
    consumer = api.payload_consumers(living.ledger, living.payloads()[0])
    assert [(one.workflow, one.task, one.group) for one in consumer] == [("reads", "fit", "run-r1")]
    # Both workflows have a group of this name: the tag says whose.
    assert api.payload_record(living.ledger, "Scale", group="run-r1").payload.workflow == "ecal"
    # First what it has read is stale itself: it waits for that.
    living.make("other")
    first, second = api.stale_payloads(living.ledger)
    assert (first.payload.tag, second.payload.tag) == ("Scale", "Fitted")
    assert [row.tag for row in second.follows] == ["Scale"]
    assert api.smallest_rerun([first, second]) == of("deliver")
    # Whoever asks for one tag is told of what it has read, which is to be mended first.
    assert api.stale_payloads(living.ledger, "Fitted") == [first, second]
    assert api.stale_payloads(living.ledger, "Scale") == [first]
    living.publish()
    (found,) = api.stale_payloads(living.ledger)
    assert (found.payload.tag, list(found.reruns)) == ("Fitted", of("fit", workflow="reads"))
    assert found.why == ("fit of run-r1: revision 1 of Scale of run-r1, which it has read, is superseded",)
    # The content that it has read is published again: nothing is stale.
    api.rollback_payload(living.ledger, living.payloads()[-1], reason="no", person="ada")
    assert [one.payload.tag for one in api.stale_payloads(living.ledger, "Fitted")] == []
    # And withdrawn.
    api.withdraw_payload(living.ledger, living.payloads()[-1], reason="no", person="ada")
    (found,) = api.stale_payloads(living.ledger, "Fitted")
    assert "which it has read, is superseded" in found.why[0]
    reader.tries += 1


def test_the_source_says_something_else_of_a_run(living: Living) -> None:
    with living.ledger.write() as connection:
        run = tables.run
        fields = connection.execute(select(run.c.fields).where(run.c.number == 1)).scalar_one()
        record = {"number": 1, "start": None, "end": None, "files": [], **fields}
        connection.execute(update(tables.membership).where(tables.membership.c.run == 1).values(record=record))
        connection.execute(update(run).where(run.c.number == 1).values(fields={**fields, "fill": 99}))
    (found,) = api.stale_payloads(living.ledger)
    assert any("the run source says something else of the runs of run-r1" in why for why in found.why)
    assert found.reruns == (), "a group keeps the metadata it was made with"
