"""Publication: whole or not at all, one publisher per tag, no overlap (rule 25)."""

from __future__ import annotations

import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.errors import NotFound, PayloadError
from airflow_calib_provider.jobsets.publish import publish_group
from airflow_calib_provider.ledger import campaigns, schema, tables
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.payloads import store
from airflow_calib_provider.payloads.embedded import STORE
from airflow_calib_provider.payloads.store import Published, publish
from tests import processes
from tests.ledger.making import T0, count, facts, fill, group_ids, put_runs, task, workflow

FLOW = workflow(
    "ecal", task("deliver", fill(), publish="Scale", file="x"), task("other", fill(), publish="Other", file="x")
)


@pytest.fixture
def groups(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    put_runs(ledger, FLOW, [facts(1, 1), facts(2, 1), facts(3, 2), facts(4, 3)])
    return group_ids(ledger, "fill")


def put(ledger: Ledger, folder: Path, group: int, text: str, iov: Iov, **options: Any) -> Published:
    file = folder / "constants.json"
    file.write_text(text)
    options = {"tag": "Scale", "task": "deliver", "provenance": {}, "now": T0, **options}
    return publish(ledger, file=file, group_id=group, iov=iov, **options)


def test_publish_twice_is_a_no_op(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    first = put(ledger, tmp_path, groups["fill-r1"], "1", Iov(1, 2))
    events = count(ledger, tables.event)
    again = put(ledger, tmp_path, groups["fill-r1"], "1", Iov(1, 2))
    assert (first.new, first.revision, again.new, again.revision) == (True, 1, False, 1)
    assert count(ledger, tables.event) == events
    assert STORE.path(first.content_hash).read_text() == "1"


def test_other_content_is_a_new_revision(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    for revision, text in enumerate(("a", "b", "a"), start=1):
        assert put(ledger, tmp_path, groups["fill-r1"], text, Iov(1, 2)).revision == revision
    with ledger.read() as connection:
        rows = store.listed(connection, "prompt", "Scale", history=True)
        current = store.find(connection, "prompt", "Scale", 2)
        state = select(tables.group_task.c.state).where(
            tables.group_task.c.group_id == groups["fill-r1"], tables.group_task.c.task == "deliver"
        )
        assert connection.execute(state).scalar() == "done"
        assert store.listed(connection, "prompt", "Scale")[0].revision == 3
    assert [row.state for row in rows] == ["superseded", "superseded", "published"]
    assert store.content_path(current).read_text() == "a"


def test_overlap_with_another_group(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    put(ledger, tmp_path, groups["fill-r1"], "1", Iov(1, 3))
    with pytest.raises(PayloadError, match=r"\[3, 3\] of Scale overlaps \[1, 3\], published for fill-r1"):
        put(ledger, tmp_path, groups["fill-r3"], "1", Iov(3, 3))
    assert count(ledger, tables.payload) == 1
    put(ledger, tmp_path, groups["fill-r3"], "1", Iov(4, 4))


def test_a_tag_has_one_publisher(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    put(ledger, tmp_path, groups["fill-r1"], "1", Iov(1, 2))
    with pytest.raises(PayloadError, match=r"belongs to the task ecal\.deliver"):
        put(ledger, tmp_path, groups["fill-r3"], "1", Iov(3, 3), task="other")


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_nothing_to_publish(ledger: Ledger, groups: dict[str, int], tmp_path: Path, kind: str) -> None:
    file = tmp_path / kind
    if kind == "empty":
        file.touch()
    if kind == "folder":
        file.mkdir()
    with pytest.raises(PayloadError, match="missing or empty"):
        publish(
            ledger,
            tag="Scale",
            file=file,
            group_id=groups["fill-r1"],
            task="deliver",
            iov=Iov(1, 2),
            provenance={},
            now=T0,
        )
    assert count(ledger, tables.payload) == 0


def test_store_that_cannot_be_written(
    ledger: Ledger, groups: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "file"))
    with pytest.raises(PayloadError, match=r"cannot store .*; nothing was published"):
        put(ledger, tmp_path, groups["fill-r1"], "1", Iov(1, 2))
    assert count(ledger, tables.payload) == 0


def test_covering_prefers_the_campaign_over_its_base(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    put(ledger, tmp_path, groups["fill-r1"], "old", Iov(1, 2))
    put(ledger, tmp_path, groups["fill-r3"], "old too", Iov(3, 3))
    with ledger.write() as connection:
        campaigns.create(connection, "rereco", kind="streamed", base_campaign="prompt")
    put_runs(ledger, FLOW, [facts(1, 1), facts(2, 1), facts(3, 2)], "rereco")
    group = group_ids(ledger, "fill", campaign="rereco")["fill-r1"]
    new = put(ledger, tmp_path, group, "new", Iov(1, 2))
    with ledger.read() as connection:
        rows = store.covering(connection, "rereco", "Scale", [1, 2, 3])
        assert [(row.campaign, row.first_run) for row in rows] == [("rereco", 1), ("prompt", 3)]
        assert rows[0].content_hash == new.content_hash
        with pytest.raises(NotFound, match="no payload of Scale holds for run 9"):
            store.find(connection, "rereco", "Scale", 9)


def test_publish_group_takes_products_only(ledger: Ledger, groups: dict[str, int], tmp_path: Path) -> None:
    products = tmp_path / "products"
    products.mkdir()
    (products / "c").write_text("1")
    (products / "link").symlink_to("/etc/hostname")
    for file, said in [
        ("/etc/hostname", "not a product"),
        (f"{products}/link", "not a product"),
        ("{{ runs }}", "one file"),
    ]:
        flow = workflow("ecal", task("deliver", fill(), publish="Scale", file=file))
        with pytest.raises(PayloadError, match=said):
            publish_group(ledger, flow, flow.tasks["deliver"], groups["fill-r1"], now=T0)
    flow = workflow("ecal", task("deliver", fill(), publish="Scale", file=f"{products}/c"))
    published = publish_group(ledger, flow, flow.tasks["deliver"], groups["fill-r1"], now=T0 + timedelta(days=1))
    assert (published.iov, published.new) == (Iov(1, 2), True)
    with ledger.read() as connection:
        row = store.find(connection, "prompt", "Scale", 1)
    assert (row.provenance["runs"], row.provenance["spec_hash"]) == ([1, 2], flow.hash)


@pytest.mark.parametrize("replaced", ["g1", "job-00000", "out", "c"])
def test_publish_group_does_not_follow_links_to_elsewhere(
    ledger: Ledger, groups: dict[str, int], tmp_path: Path, replaced: str
) -> None:
    """Also not to what another job has made."""
    products = tmp_path / "products"
    out = products / "prompt" / "ecal" / "fit" / "fill-r1" / "g1" / "job-00000" / "out"
    other = products / "prompt" / "ecal" / "other" / "fill-r1" / "g1" / "job-00000" / "out"
    for folder in (out, other):
        folder.mkdir(parents=True)
        (folder / "c").write_text("1")
    (out / "same").symlink_to("c")
    file = out / "c"
    path = next(path for path in (file, *file.parents) if path.name == replaced)
    elsewhere = other / "c"
    target = next(path for path in (elsewhere, *elsewhere.parents) if path.name == replaced)
    flow = workflow("ecal", task("deliver", fill(), publish="Scale", file=str(out / "same")))
    assert publish_group(ledger, flow, flow.tasks["deliver"], groups["fill-r1"], now=T0).new
    path.rename(tmp_path / "aside")
    path.symlink_to(target)
    flow = workflow("ecal", task("deliver", fill(), publish="Scale", file=str(file)))
    with pytest.raises(PayloadError, match="is not a product"):
        publish_group(ledger, flow, flow.tasks["deliver"], groups["fill-r1"], now=T0 + timedelta(days=1))


def _put(url: str, folder: Path, group: int) -> None:
    put(Ledger(url), folder, group, "x" * 100_000, Iov(1, 2))


@pytest.mark.parametrize("point", ["payload.before_store", "payload.after_store", "payload.after_publish"])
def test_dying_at(ledger: Ledger, groups: dict[str, int], tmp_path: Path, point: str) -> None:
    assert schema.check(ledger)
    marks = tmp_path / "marks"
    marks.mkdir()
    url = ledger.url.render_as_string(hide_password=False)
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(marks)}
    codes = [processes.run(_put, url, tmp_path, groups["fill-r1"], **crash).returncode for _ in range(2)]
    assert codes == [-signal.SIGKILL, 0]
    with ledger.read() as connection:
        (row,) = store.listed(connection, "prompt", "Scale", history=True)
    assert row.revision == 1
    assert store.content_path(row).stat().st_size == 100_000
