"""Products on record beside storage: sizes, checksums, what differs, what is dropped."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from airflow_calib_provider.checksums import SUMS, Stopped, checksum, never, read_sums, write_sums
from airflow_calib_provider.errors import ProductError
from airflow_calib_provider.jobsets import inputs, storage
from airflow_calib_provider.jobsets.context import GroupContext
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.jobsets.render import Rendered
from airflow_calib_provider.jobsets.storage import Found
from airflow_calib_provider.ledger import products, tables
from tests import processes
from tests.jobsets.world import World

NOW = datetime.now(UTC)
LATER = NOW + timedelta(days=31)
SCRIPT = "echo $CALIB_JOB > c.txt; mkdir d; echo a > d/a; echo bb > d/b"
PRODUCTS = {"c": "c.txt", "d": "d"}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def done(make_world: Callable[..., World]) -> World:
    """A job set of two jobs that is done, with a file and a folder as products."""
    world = make_world(SCRIPT, 2, products=PRODUCTS)
    assert world.run().state == "done"
    return world


def content(world: World) -> dict[tuple[int, str], tuple[Any, ...]]:
    return {(row.job_index, row.name): (row.size, row.checksum) for row in world.rows(tables.product)}


def forget_checksums(world: World) -> None:
    with world.ledger.write() as connection:
        connection.execute(update(tables.product).values(size=None, checksum=None))


def out(world: World, job: int = 0) -> Path:
    return job_folder(world.rows(tables.generation)[0].folder, job) / "out"


def states(world: World, **how: Any) -> list[tuple[int, str, Found]]:
    found = []
    for item in storage.compare(world.ledger, **how):
        assert item.product is not None
        found.append((item.product.job_index, item.product.name, item.state))
    return found


class TestChecksums:
    def test_are_made_by_the_wrapper_of_a_local_job(self, done: World) -> None:
        assert content(done)[1, "c"] == (2, sha("1\n"))
        of_folder = sha(f"{sha('a' + chr(10))}  a\n{sha('bb' + chr(10))}  b\n")
        assert content(done)[1, "d"] == (5, of_folder)
        assert (out(done, 1).parent / SUMS).read_text().splitlines()[0] == f"{sha('1' + chr(10))}  c.txt"

    def test_are_those_of_sha256sum(self, done: World) -> None:
        text = (out(done).parent / SUMS).read_text().splitlines()[0] + "\n"
        checked = subprocess.run(["sha256sum", "-c"], input=text, cwd=out(done), capture_output=True, text=True)
        assert (checked.returncode, checked.stdout) == (0, "c.txt: OK\n")

    def test_housekeeping_makes_those_that_are_missing(self, done: World) -> None:
        before = content(done)
        forget_checksums(done)
        assert storage.make_checksums(done.ledger) == 4
        assert content(done) == before
        assert storage.make_checksums(done.ledger) == 0

    def test_of_what_is_not_as_it_was_none_is_made(self, done: World) -> None:
        before = content(done)
        forget_checksums(done)
        with done.ledger.write() as connection:
            connection.execute(update(tables.product).values(size=2).where(tables.product.c.name == "c"))
        (out(done) / "c.txt").write_text("longer than it was")
        (out(done, 1) / "c.txt").unlink()
        assert storage.make_checksums(done.ledger) == 2
        assert content(done) == {**before, (0, "c"): (2, None), (1, "c"): (2, None)}

    def test_what_cannot_be_read_holds_up_nothing(self, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
        forget_checksums(done)
        (out(done) / "c.txt").unlink()
        monkeypatch.setattr(storage, "AT_ONCE", 1)
        assert storage.make_checksums(done.ledger) == 3

    def test_there_is_a_minute_for_them(self, done: World) -> None:
        forget_checksums(done)
        assert storage.make_checksums(done.ledger, seconds=-1) == 0

    def test_a_job_that_leaves_something_odd_has_ended_all_the_same(self, make_world: Callable[..., World]) -> None:
        world = make_world(f"echo x > c.txt; mkdir ../{SUMS}", products={"c": "c.txt"})
        assert world.run().state == "done"
        assert content(world) == {(0, "c"): (2, None)}

    def test_without_products_nothing_is_written(self, make_world: Callable[..., World]) -> None:
        world = make_world("true")
        assert world.run().state == "done"
        assert not (out(world).parent / SUMS).exists()

    @pytest.mark.parametrize("write", ["same size", "more", ""])
    def test_of_what_is_written_meanwhile_there_is_none(self, tmp_path: Path, write: str) -> None:
        """A checksum of one half of before and one of after would be that of nothing that ever was."""
        file = tmp_path / "c.txt"
        file.write_text("s" * 9)

        def written() -> bool:
            file.write_text({"same size": "S" * 9, "more": "S" * 20, "": ""}[write])
            os.utime(file, ns=(7, 7))
            return False

        with pytest.raises(OSError, match="changed while it was read"):
            checksum(file, written)

    def test_a_link_to_a_folder_counts_by_what_it_says(self, tmp_path: Path) -> None:
        for name in ("d", "d/one", "d/two"):
            (tmp_path / name).mkdir()
        (tmp_path / "d" / "latest").symlink_to("one")
        before = checksum(tmp_path / "d")
        (tmp_path / "d" / "latest").unlink()
        (tmp_path / "d" / "latest").symlink_to("two")
        assert checksum(tmp_path / "d") != before

    def test_what_takes_too_long_is_given_up(self, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "x").write_text("x")
        with pytest.raises(Stopped):
            checksum(tmp_path / "out" / "x", lambda: True)
        write_sums(tmp_path, ["x"], lambda: True)
        assert read_sums(tmp_path) == {}
        write_sums(tmp_path, ["gone", "x"], never)
        assert read_sums(tmp_path) == {"x": sha("x")}

    @pytest.mark.parametrize("text", ["", "junk", f"{'g' * 64}  x", f"{'a' * 63}  x", f"{'a' * 64} x\n\x00"])
    def test_what_is_no_checksum_is_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / SUMS).write_text(text)
        assert read_sums(tmp_path) == {}


class TestCompare:
    def test_all_is_well(self, done: World) -> None:
        assert {state for _, _, state in states(done)} == {Found.SAME}
        assert list(storage.unknown_folders(done.ledger)) == []

    def test_what_is_not(self, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(storage, "AT_ONCE", 1)
        (out(done) / "c.txt").write_text("5\n")
        (out(done) / "d" / "a").write_text("longer")
        (out(done, 1) / "c.txt").unlink()
        found = [(0, "c", Found.CHANGED), (0, "d", Found.CHANGED), (1, "c", Found.MISSING), (1, "d", Found.SAME)]
        assert states(done) == found
        assert states(done, sizes_only=True)[0] == (0, "c", Found.SAME)
        texts = [str(item) for item in storage.compare(done.ledger)]
        assert "c of job 0 (prompt ecal.skim run-r1, generation 1) is changed" in texts[0]
        assert "it has 9 bytes, not 5" in texts[1]

    def test_without_a_checksum_the_size_alone_counts(self, done: World) -> None:
        with done.ledger.write() as connection:
            connection.execute(update(tables.product).values(checksum=None))
        (out(done) / "c.txt").write_text("12345")
        assert states(done)[:2] == [(0, "c", Found.CHANGED), (0, "d", Found.UNSUMMED)]

    def test_a_link_in_its_place(self, done: World) -> None:
        (out(done) / "c.txt").unlink()
        (out(done) / "c.txt").symlink_to("/etc/hostname")
        assert states(done)[0] == (0, "c", Found.CHANGED)

    def test_a_folder_that_the_ledger_does_not_know(self, done: World) -> None:
        known = out(done).parents[1]
        other = known.with_name("g7")
        other.mkdir()
        (known.parents[3] / "old" / "skim" / "run-r1" / "g1").mkdir(parents=True)
        (known.parents[3] / "a file").write_text("x")
        found = {item.path for item in storage.unknown_folders(done.ledger)}
        assert found == {other, known.parents[3] / "old" / "skim" / "run-r1" / "g1"}
        assert {item.path for item in storage.unknown_folders(done.ledger, "nope")} == set()

    def test_a_sample(self, done: World, monkeypatch: pytest.MonkeyPatch) -> None:
        (out(done) / "c.txt").unlink()
        monkeypatch.setattr(storage, "random", random.Random(3))
        (found,) = storage.sample(done.ledger, count=40)
        assert found.state is Found.MISSING
        assert storage.sample(done.ledger, count=40, seconds=-1) == []

    @pytest.mark.parametrize(("hour", "lines"), [(storage.SAMPLE_HOUR, 1), (storage.SAMPLE_HOUR + 1, 0)])
    def test_housekeeping_tells_at_night(self, done: World, hour: int, lines: int) -> None:
        (out(done) / "c.txt").unlink()
        told = storage.keep_house(done.ledger, NOW.replace(hour=hour)).drift
        assert len(told) == lines


class TestDrop:
    @pytest.fixture
    def dropping(self, make_world: Callable[..., World]) -> World:
        world = make_world(SCRIPT, 2, products=PRODUCTS)
        task = world.flow.tasks["skim"].model_copy(update={"drops": {"d": timedelta(days=30)}})
        world.flow = world.flow.model_copy(update={"tasks": {"skim": task}})
        assert world.run().state == "done"
        return world

    def test_first_it_is_marked_and_then_its_files_go(self, dropping: World) -> None:
        assert vars(storage.drop(dropping.ledger, NOW + timedelta(days=29))) == {
            "marked": 0,
            "removed": 0,
            "errors": [],
        }
        first = storage.drop(dropping.ledger, LATER)
        assert (first.marked, first.removed) == (2, 0)
        assert (out(dropping) / "d").is_dir()
        second = storage.drop(dropping.ledger, LATER)
        assert (second.marked, second.removed) == (0, 2)
        assert [(path / "d").exists() for path in (out(dropping), out(dropping, 1))] == [False, False]
        assert (out(dropping) / "c.txt").read_text() == "0\n"
        rows = {row.name: (row.state, row.removed_at) for row in dropping.rows(tables.product) if row.job_index == 0}
        assert rows["c"] == ("accepted", None)
        assert rows["d"][0] == "dropped"
        assert rows["d"][1] is not None
        told = [row for row in dropping.rows(tables.event) if row.entity == "product"]
        # The one first that was accepted first.
        assert sorted((row.from_state, row.to_state, row.job_index, row.data["name"]) for row in told) == [
            ("accepted", "dropped", 0, "d"),
            ("accepted", "dropped", 1, "d"),
        ]
        assert storage.drop(dropping.ledger, LATER).removed == 0
        assert states(dropping) == [(0, "c", Found.SAME), (1, "c", Found.SAME)]

    def test_not_while_its_generation_runs_or_another_reads_it(self, dropping: World) -> None:
        generation = tables.generation
        with dropping.ledger.write() as connection:
            connection.execute(update(generation).values(used={"generations": {"x.y": [1]}, "payloads": []}))
            connection.execute(update(generation).values(state="running"))
            assert products.read_by_running(connection) == {1}
        assert storage.drop(dropping.ledger, LATER).marked == 0

    def test_what_is_another_product_too_stays(self, dropping: World) -> None:
        with dropping.ledger.write() as connection:
            row = connection.execute(select(tables.product).where(tables.product.c.name == "c")).first()
            assert row is not None
            connection.execute(
                update(tables.product)
                .where(tables.product.c.name == "c", tables.product.c.job_index == 0)
                .values(file="d/a")
            )
        storage.drop(dropping.ledger, LATER)
        storage.drop(dropping.ledger, LATER)
        assert (out(dropping) / "d" / "a").exists()
        assert not (out(dropping, 1) / "d").exists()

    @pytest.mark.parametrize("above", [0, 1, 2])
    def test_nothing_is_removed_where_a_link_leads_to(self, dropping: World, tmp_path: Path, above: int) -> None:
        replaced = [out(dropping), *out(dropping).parents][above]
        elsewhere = tmp_path / "elsewhere"
        replaced.rename(elsewhere)
        replaced.symlink_to(elsewhere)
        storage.drop(dropping.ledger, LATER)
        told = storage.drop(dropping.ledger, LATER)
        assert told.removed == (0 if above == 2 else 1)
        assert "was replaced by a link" in told.errors[0]
        assert len(list(elsewhere.rglob("d/a"))) == (2 if above == 2 else 1)

    def test_nor_where_a_link_inside_of_the_folder_leads_to(self, dropping: World, tmp_path: Path) -> None:
        elsewhere = tmp_path / "elsewhere"
        (out(dropping) / "d").rename(elsewhere)
        (out(dropping) / "d").symlink_to(elsewhere)
        with dropping.ledger.write() as connection:
            of_folder = tables.product.c.name == "d"
            connection.execute(update(tables.product).where(of_folder).values(file="d/a"))
        storage.drop(dropping.ledger, LATER)
        told = storage.drop(dropping.ledger, LATER)
        assert (told.removed, len(told.errors)) == (1, 1)
        assert "d is a link" in told.errors[0]
        assert (elsewhere / "a").read_text() == "a\n"

    def test_what_cannot_be_removed_is_told_and_tried_again(
        self, dropping: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage.drop(dropping.ledger, LATER)

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        with monkeypatch.context() as patch:
            patch.setattr(shutil, "rmtree", refuse)
            told = storage.drop(dropping.ledger, LATER)
        assert (told.removed, len(told.errors)) == (0, 2)
        assert "Permission denied" in told.errors[0]
        assert storage.drop(dropping.ledger, LATER).removed == 2

    def test_a_cleared_generation_is_continued_without_it(self, make_world: Callable[..., World]) -> None:
        world = make_world("[ $CALIB_JOB != 1 ] || [ -e ../../../good ] || exit 3\n" + SCRIPT, 2, products=PRODUCTS)
        task = world.flow.tasks["skim"].model_copy(update={"drops": {"d": timedelta(days=30)}})
        world.flow = world.flow.model_copy(update={"tasks": {"skim": task}})
        assert world.run().state == "failed"
        for _ in range(2):
            storage.drop(world.ledger, LATER)
        assert not (out(world) / "d").exists()
        (out(world).parents[1] / "good").touch()
        assert world.run(max_tries=1).state == "done"
        assert len(world.rows(tables.generation)) == 1
        assert {row.job_index: row.attempt for row in world.rows(tables.job)} == {0: 1, 1: 2}

    def test_who_needs_it_is_told_so(self, dropping: World) -> None:
        path = str(out(dropping) / "c.txt")
        context = GroupContext(
            "prompt", "ecal", "fit", 1, "run-r1", {"tasks": {"skim": {"products": {"c": path}}}}, [1], [], {},  # type: ignore[typeddict-item]
            dropped={path: NOW},
        )  # fmt: skip
        rendered = Rendered([], [path], "")
        with pytest.raises(ProductError, match=r"was dropped: its task keeps it until .* UTC only \(drop\)") as caught:
            inputs.require_inputs(context, rendered)
        assert "calib retry run-r1 --task skim" in str(caught.value.hint)


def drop_all(folder: Path) -> None:
    """What housekeeping does: to be killed anywhere."""
    world = World(folder)
    print(storage.drop(world.ledger, LATER).removed)


@pytest.mark.parametrize("point", ["product.before_remove", "product.after_remove"])
def test_dying_at(point: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    world = World(tmp_path, SCRIPT, 2, products=PRODUCTS)
    assert world.run().state == "done"
    with world.ledger.write() as connection:
        connection.execute(update(tables.product).where(tables.product.c.name == "d").values(drop_at=NOW))
    storage.drop(world.ledger, LATER)
    crash = {"CALIB_CRASH_AT": point, "CALIB_CRASH_FOLDER": str(tmp_path)}
    dead = processes.run(drop_all, tmp_path, **crash)
    assert dead.returncode == -signal.SIGKILL, dead.stderr
    again = processes.run(drop_all, tmp_path, **crash)
    assert (again.returncode, again.stdout) == (0, "2\n"), again.stderr
    assert [(path / "d").exists() for path in (out(world), out(world, 1))] == [False, False]
    assert all(row.removed_at for row in world.rows(tables.product) if row.name == "d")
