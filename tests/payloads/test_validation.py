"""A verdict on values: bound to content, and what does not meet it is not published (rule 69)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.domain.verdicts import Limit, judge
from airflow_calib_provider.errors import NotFound, NotPublished, PayloadError
from airflow_calib_provider.jobsets.folders import product_path
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads import intents, life, store
from tests.ledger.making import count
from tests.payloads.living import Living


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


@pytest.fixture
def living(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = Living(tmp_path, ledger)
    yield made
    for key in made.backend.rounds():
        made.backend.remove(key)


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (Limit(target=1, tolerance=0.002), [1, 1.002, 0.998], [1.0021, 0.9979]),
        (Limit(target=0.3, tolerance=0.1), [0.4, 0.2], [0.41]),  # whose last bits differ from the sum
        (Limit(high=0.05), [-7, 0.0499], [0.05, 1]),
        (Limit(low=2), [2.1], [2, 1]),
        (Limit(low=1, high=2, inclusive=True), [1, 1.5, 2], [0.999, 2.001]),
    ],
)
def test_limits(limit: Limit, good: list[float], bad: list[float]) -> None:
    assert all(limit.allows(value) for value in good)
    assert not any(limit.allows(value) for value in [*bad, math.nan, math.inf, -math.inf])
    assert limit.allows(good[0])
    (found,) = judge({"x": limit}, {"x": [good[0], bad[0]]})
    assert not found.passed, "one of several jobs is enough"


def test_a_value_that_nobody_reports_or_that_is_no_number_is_wrong() -> None:
    missing, nan = judge({"a": Limit(high=1), "b": Limit(high=1)}, {"b": [math.nan]})
    assert (missing.passed, nan.passed) == (False, False)
    assert (missing.said(), nan.said()) == ("a was not reported, asked is below 1", "b is nan, asked is below 1")
    assert nan.as_dict()["values"] == ["nan"]


def test_what_is_validated_is_published_in_one_go(living: Living) -> None:
    living.make()
    assert (living.publish().state, living.task().state) == ("published", "done")
    assert living.told() == [(None, "candidate"), ("candidate", "validated"), ("validated", "published")]
    again = living.publish()
    assert (again.new, again.revision, len(living.told())) == (False, 1, 3)
    (row,) = living.payloads()
    with living.ledger.read() as connection:
        (decided,) = life.decisions(connection, [row.id])
    assert (decided.kind, decided.outcome, decided.content_hash) == ("validation", "passed", row.content_hash)
    assert [(one["name"], one["passed"]) for one in decided.details["findings"]] == [("closure", True), ("jump", True)]


def test_approval_by_a_rule_is_recorded(living: Living) -> None:
    living.edited("approve: automatic")
    living.make()
    assert living.publish().state == "published"
    assert [target for _, target in living.told()] == ["candidate", "validated", "approved", "published"]
    with living.ledger.read() as connection:
        found = life.decisions(connection, [living.payloads()[0].id])
    assert [(one.kind, one.outcome, one.person) for one in found] == [
        ("validation", "passed", None),
        ("approval", "approved", None),
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"jump": 0.07}, "jump is 0.07, asked is below 0.05"),
        (
            {"closure": 1.01, "jump": 0.3},
            "closure is 1.01, asked is within 0.002 of 1, jump is 0.3, asked is below 0.05",
        ),
        ({"jump": None}, "jump was not reported, asked is below 0.05"),
    ],
)
def test_what_is_not_as_asked_stays_a_candidate(living: Living, values: dict[str, float], said: str) -> None:
    living.make(**values)
    with pytest.raises(NotPublished, match=f"stays a candidate: validate says {said}"):
        living.publish()
    (row,) = living.payloads()
    assert (row.state, living.task().state) == ("candidate", "failed")
    assert row.reason == living.task().reason
    assert render(row.reason or {}).partition("validate says ")[2].startswith(said)
    with living.ledger.read() as connection, pytest.raises(NotFound):
        store.find(connection, "prompt", "Scale", 1)
    # Again, as Airflow's retry or a clear does: nothing new is written.
    events = count(living.ledger, tables.event)
    with pytest.raises(NotPublished):
        living.publish()
    assert (len(living.payloads()), count(living.ledger, tables.event)) == (1, events)
    # A person cannot publish it past the verdict either.
    with living.ledger.read() as connection, pytest.raises(PayloadError, match="cannot be published"):
        intents.refuse_held(life.by_id(connection, row.id))


def test_another_limit_lets_it_pass_and_the_former_payload_serves_until_then(living: Living) -> None:
    living.make("first")
    living.publish()
    living.make("second", jump=0.07)
    with pytest.raises(NotPublished):
        living.publish()
    with living.ledger.read() as connection:
        assert store.content_path(store.find(connection, "prompt", "Scale", 1)).read_text() == "first"
    living.edited(jump="{below: 0.1}")
    assert living.publish().revision == 2
    assert [(row.revision, row.state) for row in living.payloads()] == [(1, "superseded"), (2, "published")]


def test_a_verdict_on_other_constants_counts_for_nothing(living: Living) -> None:
    living.make("first")
    living.tries += 1
    (living.folder / "constants").write_text("second")
    living.jobs("scale")
    with pytest.raises(NotPublished, match="validate has looked at another generation of scale than 2"):
        living.publish()
    living.look()
    assert living.publish().state == "published"


def test_a_file_that_was_changed_after_its_validation_is_not_published(living: Living) -> None:
    living.make()
    with living.ledger.read() as connection:
        folder = connection.execute(select(tables.generation.c.folder).where(tables.generation.c.task == "scale"))
        file = product_path(folder.scalar_one(), 0, "c.txt")
    file.chmod(0o644)
    file.write_text("by hand")
    with pytest.raises(NotPublished, match=r"c\.txt is not any more what scale has made and validate has validated"):
        living.publish()


def test_a_file_that_changes_while_it_is_published_was_not_validated(
    living: Living, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_calib_provider.jobsets import publish

    living.make()
    one = publish._one

    def after_a_change(*arguments: Any) -> Any:
        file = arguments[6]
        file.chmod(0o644)
        file.write_text("by hand")
        return one(*arguments)

    monkeypatch.setattr(publish, "_one", after_a_change)
    with pytest.raises(NotPublished, match=r"c\.txt was changed while it was published"):
        living.publish()
    assert [row.state for row in living.payloads()] == ["candidate"]


def test_a_verdict_counts_for_each_file_of_a_set_that_was_looked_at(living: Living) -> None:
    living.make()
    other = living.folder / "products" / "errors"
    other.write_text("made by hand")
    task = living.flow.tasks["deliver"]
    publish = task.publish.model_copy(update={"more": (("Errors", str(other)),)})  # type: ignore[union-attr]
    deliver = task.model_copy(update={"publish": publish})
    living.flow = living.flow.model_copy(update={"tasks": {**living.flow.tasks, "deliver": deliver}})
    with pytest.raises(NotPublished, match="errors comes from no task that is needed"):
        living.publish()
    assert [row.state for row in living.payloads()] == ["candidate"]


def test_what_is_validated_no_more_falls_back(living: Living) -> None:
    """Persons have not answered yet, and somebody validates again."""
    living.edited("approve: {by: conveners}")
    living.make()
    waits = living.publish()
    assert (waits.state, waits.reason and waits.reason["code"]) == ("validated", "awaits_approval")
    assert (living.task().state, living.task().reason["listed"]) == ("waiting", "conveners")
    living.tries += 1
    living.look(jump=0.2)
    with pytest.raises(NotPublished):
        living.publish()
    assert [row.state for row in living.payloads()] == ["candidate"]
    assert living.told()[-2:] == [("candidate", "validated"), ("validated", "candidate")]
