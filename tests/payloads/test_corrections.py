"""Taking back what was published, and whether the store has what the ledger says (rule 69)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from airflow_calib_provider import api
from airflow_calib_provider.cli.app import app
from airflow_calib_provider.errors import CalibError, NotFound, PayloadError
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.approvals import Rules, ask
from tests.payloads.living import Living

Calib = Callable[..., Any]


@pytest.fixture
def database() -> str:
    """One will do: the statements are those of the other modules."""
    return "sqlite"


@pytest.fixture
def living(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Living]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    monkeypatch.setenv("CALIB_LEDGER", ledger.url.render_as_string(hide_password=False))
    made = Living(tmp_path, ledger)
    yield made
    for key in made.backend.rounds():
        made.backend.remove(key)


@pytest.fixture
def calib(living: Living) -> Calib:
    def run(*arguments: str, code: int = 0) -> str:
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == code, (done.output, done.exception)
        return done.output

    return run


def twice(living: Living) -> None:
    """Two revisions are published."""
    for constants in ("a\nb\n", "a\nc\n"):
        living.make(constants, jump=0.01 * len(living.payloads()))
        living.publish()


def holds(living: Living) -> str:
    with living.ledger.read() as connection:
        return store.content_path(store.find(connection, "prompt", "Scale", 1)).read_text()


def test_the_former_content_again(living: Living, calib: Calib) -> None:
    twice(living)
    assert "published Scale revision 3" in calib("payload", "rollback", "Scale", "1", "--reason", "wrong alignment")
    assert holds(living) == "a\nb\n"
    rows = living.payloads()
    assert [(row.revision, row.state) for row in rows] == [(1, "superseded"), (2, "superseded"), (3, "published")]
    assert rows[2].provenance["rollback"] == {
        **{"of": 1, "instead_of": 2, "reason": "wrong alignment"},
        **{key: rows[2].provenance["rollback"][key] for key in ("person", "at")},  # type: ignore[index]
    }
    # And forward again, by name; the same content as now is nothing to go back to.
    calib("payload", "rollback", "Scale", "1", "--reason", "no, it was right", "--to", "2")
    assert holds(living) == "a\nc\n"
    with pytest.raises(NotFound, match="has not revision 2 that was published"):
        api.rollback_payload(living.ledger, living.payloads()[-1], reason="x", person="ada", revision=2)
    decided = json.loads(calib("payload", "show", "Scale", "--json"))["decisions"]
    assert [(one["kind"], one["comment"]) for one in decided] == [("rollback", "no, it was right")]


def test_nothing_is_there_to_go_back_to(living: Living) -> None:
    living.make()
    living.publish()
    with pytest.raises(NotFound, match="a revision before it with other content"):
        api.rollback_payload(living.ledger, living.payloads()[0], reason="x", person="ada")
    with pytest.raises(PayloadError, match="a reason is needed"):
        api.rollback_payload(living.ledger, living.payloads()[0], reason=" ", person="ada")


def test_what_is_withdrawn_holds_for_nobody_and_can_be_replaced(living: Living, calib: Calib) -> None:
    twice(living)
    assert "withdrawn: Scale revision 2" in calib("payload", "withdraw", "Scale", "1", "--reason", "wrong")
    with pytest.raises(NotFound):
        holds(living)
    assert [row.state for row in living.payloads()] == ["superseded", "withdrawn"]
    with pytest.raises(PayloadError, match="is superseded: there is nothing to be taken back"):
        api.withdraw_payload(living.ledger, living.payloads()[0], reason="x", person="ada")
    calib("payload", "rollback", "Scale", "1", "--reason", "the old ones are better than nothing")
    assert holds(living) == "a\nb\n"
    # A clear does not bring it back, a person does.
    with pytest.raises(PayloadError, match=r"was revision 2 of run-r1, which was withdrawn by .*: wrong") as refused:
        living.publish()
    assert "`calib payload rollback Scale 1 --to 2`" in str(refused.value)
    assert holds(living) == "a\nb\n"
    calib("payload", "rollback", "Scale", "1", "--reason", "it was right", "--to", "2")
    assert holds(living) == "a\nc\n"
    assert not living.publish().new


def test_a_withdrawal_itself_is_taken_back(living: Living, calib: Calib) -> None:
    living.make("a")
    living.publish()
    assert "nobody has used it" in calib("payload", "withdraw", "Scale", "1", "--reason", "wrong")
    assert calib("payload", "withdraw", "Scale", "1", "--reason", "wrong").startswith("was withdrawn already: Scale")
    with pytest.raises(NotFound):
        api.rollback_payload(living.ledger, living.payloads()[0], reason="x", person="ada")
    calib("payload", "rollback", "Scale", "1", "--reason", "it was right", "--to", "1")
    assert holds(living) == "a"


def test_a_reason_is_asked_for_only_at_a_terminal(living: Living, calib: Calib) -> None:
    twice(living)
    for command in ("withdraw", "rollback"):
        assert "missing --reason" in calib("payload", command, "Scale", "1", code=2)
    assert holds(living) == "a\nc\n"


def test_a_rollback_after_a_rollback_goes_further_back(living: Living, calib: Calib) -> None:
    for constants in ("a", "b", "c"):
        living.make(constants)
        living.publish()
    for left in ("b", "a"):
        calib("payload", "rollback", "Scale", "1", "--reason", "wrong")
        assert holds(living) == left
    assert "a revision before it with other content" in calib(
        "payload", "rollback", "Scale", "1", "--reason", "wrong", code=1
    )


def test_what_a_rollback_has_put_back_is_not_stale(living: Living) -> None:
    """Its rerun would publish what was taken away."""
    twice(living)
    assert api.stale_payloads(living.ledger) == []
    api.rollback_payload(living.ledger, living.payloads()[-1], reason="wrong", person="ada")
    assert api.stale_payloads(living.ledger) == []
    assert list(api.rerun_stale(living.ledger, dry_run=True)) == []
    living.make("new")
    living.publish()
    living.make("newer")
    assert [one.payload.revision for one in api.stale_payloads(living.ledger)] == [4]


def test_show_and_diff(living: Living, calib: Calib) -> None:
    twice(living)
    said = calib("payload", "show", "Scale", "--group", "run-r1")
    for part in (
        "Scale revision 2, published",
        "validate: jump is 0.01, asked is below 0.05: good",
        "validate.closure",
    ):
        assert part in said
    lines = calib("payload", "diff", "Scale").splitlines()
    assert lines[-2:] == ["-b", "+c"]
    shown = json.loads(calib("payload", "diff", "Scale", "--run", "1", "--json"))
    assert [(one["name"], one["new"], one["old"]) for one in shown["values"]] == [
        ("validate.closure", 1.0005, 1.0005),
        ("validate.jump", 0.01, 0.0),
    ]
    assert "has no payload of Scale for revision 9" in calib("payload", "show", "Scale", "--revision", "9", code=1)


def test_a_candidate_says_why_it_goes_no_further(living: Living, calib: Calib) -> None:
    living.make(jump=0.9)
    with pytest.raises(PayloadError):
        living.publish()
    said = calib("payload", "show", "Scale")
    assert "stays a candidate: validate says jump is 0.9, asked is below 0.05" in said
    assert "`calib retry run-r1 --task deliver --workflow ecal`" in said
    assert "nobody is asked about revision 1" in calib("payload", "approve", "Scale", "--group", "run-r1", code=1)


def test_what_is_asked_shows_old_and_new(living: Living) -> None:
    from airflow_calib_provider.payloads.comparison import request_text

    living.make("old")
    living.publish()
    living.edited("approve: {by: conveners}")
    # A job's name for a value must not look like a verdict.
    living.make("new", jump=0.02, **{r"x` | 0 | 0 | 0 |\n| closure": 7})
    row = living.publish()
    approval = living.flow.tasks["deliver"].publish.approve  # type: ignore[union-attr]
    assert approval is not None
    ask(
        living.ledger,
        row.payload_id,
        Rules(approval, ["ada"]),
        {"dag_id": "d", "run_id": "r", "task_id": "t"},
        living.now,
    )
    old, new = living.payloads()
    with living.ledger.read() as connection:
        text = request_text(connection, new)
    for line in (
        f"| content (SHA-256) | `{new.content_hash}` | `{old.content_hash}` |",
        "| jump | 0.02 | below 0.05 | good |",
        "| validate.jump | 0.02 | 0.01 | 0.01 |",
    ):
        assert line in text.splitlines()
    assert r"| validate.x\` \| 0 \| 0 \| 0 \|\\x0a\| closure | 7 |  |  |" in text.splitlines()


def test_the_store_is_compared_with_the_ledger(living: Living, calib: Calib) -> None:
    twice(living)
    assert calib("payload", "check") == "all files are as they were published\n"
    missing, changed = (store.content_path(row) for row in living.payloads())
    missing.unlink()
    changed.chmod(0o644)
    changed.write_text("by hand")
    stray = changed.with_name(changed.name[:-1] + ("0" if changed.name[-1] != "0" else "1"))
    stray.write_text("x")
    found = json.loads(calib("payload", "check", "--json", code=1))
    assert {(one["what"], Path(one["path"])) for one in found} == {
        ("missing", missing),
        ("changed", changed),
        ("unknown", stray),
    }
    of_tag = [one.what for one in api.check_payloads(living.ledger, "Scale")]
    assert sorted(of_tag) == ["changed", "missing"]
    with pytest.raises(CalibError):
        list(api.check_payloads(living.ledger, "Other"))
