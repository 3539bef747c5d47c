"""What is said of payloads: those of a set by one message, and who or what has decided it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider import api
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Event
from airflow_calib_provider.messages.making import made
from airflow_calib_provider.messages.preview import preview
from tests.messages.histories import spec
from tests.messages.test_making import AT, GROUPS, LINK, event
from tests.outside.nopayloaddb import nopayloaddb
from tests.payloads.outward import DATABASE, Outward

SECOND = 10**9


def told_of(number: int, before: str | None, after: str, tag: str, at: int = AT, **more: Any) -> Event:
    group = more.pop("group_name", "fill-r4")
    data = {"tag": tag, "revision": 2, "first_run": 4, "last_run": 9, **more}
    return event("payload", before, after, data, group_name=group)._replace(id=number, at=at)


def test_a_set_is_one_message_that_names_all_of_it() -> None:
    events = [
        told_of(7, "publishing", "published", "Scale"),
        event("group_task", "processing", "done"),
        told_of(9, "publishing", "published", "Errors", AT + 5),
    ]
    (told,) = made(events, GROUPS, LINK)
    assert told.title == "Published: Scale and Errors revision 2 for runs 4–9"
    assert (told.event, told.key) == (9, "event-9"), "once it is sent, all of it was told"
    events.append(told_of(10, "publishing", "published", "Third", AT + 9, revision=1))
    (told,) = made(events, GROUPS, LINK)
    assert told.title == "Published: Scale revision 2, Errors revision 2 and Third revision 1 for runs 4–9"


@pytest.mark.parametrize(
    "other",
    [
        told_of(9, "publishing", "published", "Scale", revision=3),
        told_of(9, "publishing", "published", "Errors", AT + 60 * SECOND),
        told_of(9, "publishing", "published", "Errors", group_name="fill-r10"),
        told_of(9, "published", "withdrawn", "Errors"),
        told_of(9, "publishing", "published", "Errors", by="anna"),
    ],
)
def test_what_is_no_set_is_told_each_by_itself(other: Event) -> None:
    assert len(made([told_of(7, "publishing", "published", "Scale"), other], GROUPS, LINK)) == 2


def test_candidates_of_late_runs_are_one_question() -> None:
    late = {"group_name": "late-r1", "first_run": 1, "last_run": 1}
    events = [
        told_of(7, None, "candidate", "Scale", **late),
        event("group_task", "processing", "done"),
        told_of(9, None, "candidate", "Errors", **late),
    ]
    (told,) = made(events, GROUPS, LINK)
    assert told.title == "Waits for a person: Scale and Errors revision 2 for run 1 are candidates"
    assert "`calib payload publish late-r1 --workflow zee`" in told.to_do


@pytest.mark.parametrize(
    ("of", "title", "why", "to_do"),
    [
        (
            told_of(7, "candidate", "published", "T", fallback="it was to be published by 2026-05-01 12:00 UTC"),
            "Published in its place: T revision 2 for runs 4–9",
            "the content of the group before holds for these runs for now: it was to be published by 2026-05-01 12:00",
            "`calib explain fill-r4 --workflow zee` says what its own still waits for",
        ),
        (
            told_of(7, None, "published", "T", by="anna", comment="noisy", rollback=1),
            "Published: T revision 2 for runs 4–9",
            "anna has put the content of revision 1 back: noisy",
            "",
        ),
        (
            told_of(7, "published", "withdrawn", "T", by="anna", comment="noisy"),
            "Withdrawn: T revision 2 for runs 4–9",
            "anna has withdrawn it: noisy; nothing holds for these runs now",
            "`calib stale` lists",
        ),
        (told_of(7, "approved", "published", "T", by="ben"), "Published: T", "as ben has decided", ""),
        (told_of(7, "validated", "published", "T"), "Published: T", "", ""),
    ],
)
def test_who_or_what_has_decided_it(of: Event, title: str, why: str, to_do: str) -> None:
    (told,) = made([of], GROUPS, LINK)
    assert told.title.startswith(title)
    assert told.why.startswith(why)
    assert bool(told.why) == bool(why)
    assert told.to_do.startswith(to_do)
    assert bool(told.to_do) == bool(to_do)


def test_what_is_asked_for_says_until_when_and_how_to_answer() -> None:
    reason = {
        "code": "awaits_approval", "tag": "T", "revision": 2, "first_run": 4, "last_run": 9, "hash": "ab" * 32,
        "users": ["anna", "ben"], "until": "2026-05-02T12:00+00:00",
    }  # fmt: skip
    of = told_of(7, "validated", "validated", "T", asked={"dag_id": "d"}, reason=reason)
    (told,) = made([of], GROUPS, LINK)
    assert told.title == "Waits for an approval: T revision 2 for runs 4–9"
    assert told.why.endswith("waits for the approval of anna or ben, until 2026-05-02 12:00 UTC")
    assert told.to_do.startswith("What helps: one of them: `calib payload approve T --group fill-r4 --workflow zee`")


def test_held_jobs_say_who_helps_and_other_campaigns_are_named_in_the_title() -> None:
    held = {"code": "live_jobs", "n_jobs": 2, "state": "held", "message": "no memory"}
    of = event("alarm", None, "raised", {"code": "held_jobs", "reason": held}, campaign="redo")
    (told,) = made([of], GROUPS, LINK)
    assert told.title == "Stalled: zee.scale fill-r4 in redo"
    assert told.why == "2 jobs held: no memory"
    assert told.to_do.startswith("What helps: a person: mend what keeps them, then release them")
    assert "calib jobs list --group fill-r4" in told.to_do


def test_a_set_that_goes_to_stores_and_is_rolled_back_is_told_once_each(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events as they are written."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    since = datetime.now(UTC) - timedelta(hours=1)
    with nopayloaddb() as server:
        world = Outward(tmp_path, ledger, server)
        world.publish(world.groups[0], "a", stores=(DATABASE,))
        world.publish(world.groups[0], "b", stores=(DATABASE,))
        row = api.payload_record(ledger, "Scale", run=1).payload
        api.rollback_payload(ledger, row, reason="noisy", person="anna")
        messages = list(preview(ledger, spec(at_most=100), since))
        told = [one.title for one in messages]
    numbered = [f"Published: Scale and Errors revision {number} for runs 1–2" for number in (1, 2, 3)]
    assert told == numbered
    assert messages[-1].why == "anna has put the content of revision 1 back: noisy"
