"""Files in a git repository as an outside store: bare, with a working tree, with a remote; both layouts."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.errors import OutsideError, StoreRefused
from airflow_calib_provider.outside import conditions_git
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.outside.conditions_git import GitStore
from airflow_calib_provider.outside.conditions_git_files import LAYOUTS
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from airflow_calib_provider.outside.placing import Guard, Placement, WantedPlacement, applied
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.outside.writing import WritableStoreConformance

GIT = shutil.which("git") or "git"


def git(folder: Path, *arguments: str, given: str | None = None) -> str:
    who = {f"GIT_{role}_{what}": "test@here" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        [GIT, "-C", str(folder), *arguments], check=True, capture_output=True, text=True, input=given,
        env={**os.environ, **who},
    )  # fmt: skip
    return done.stdout.strip()


def connect(**extra: str) -> None:
    path = extra.pop("path")
    look_up_with({"conditions": OutsideConnection("conditions", "calib_git", host=path, extra=extra)}.get)


class _Faults:
    """Another git stands before the real one, and does what a file says."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        script = f"""#!/bin/sh
n=$(($(cat {folder}/count) + 1))
echo $n > {folder}/count
what=
if [ -f {folder}/armed ] && [ "$(cut -d' ' -f1 {folder}/armed)" = $n ]; then
  what=$(cut -d' ' -f2 {folder}/armed); pid=$(cut -d' ' -f3 {folder}/armed)
fi
case "$what" in
  before) exit 128 ;;
  kill_before) kill -9 $pid; sleep 5 ;;
esac
{GIT} "$@"
code=$?
case "$what" in
  after) exec sleep 5 ;;
  kill_after) kill -9 $pid ;;
esac
exit $code
"""
        (folder / "git").write_text(script)
        (folder / "git").chmod(stat.S_IRWXU)
        (folder / "count").write_text("0")

    def arm(self, number: int, what: str, pid: int) -> None:
        (self.folder / "armed").write_text(f"{self.calls() + number} {what} {pid}")

    def calls(self) -> int:
        return int((self.folder / "count").read_text())

    def disarm(self) -> None:
        (self.folder / "armed").unlink(missing_ok=True)


class _Git(ConditionsStoreConformance, WritableStoreConformance):
    layout = "intervals"
    some = 3

    @pytest.fixture(autouse=True)
    def repository(self, tmp_path: Path) -> Iterator[Path]:
        path = tmp_path / "conditions.git"
        git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(path))
        connect(path=str(path), layout=self.layout)
        yield path
        look_up_with(lambda name: None)

    @pytest.fixture
    def name(self) -> str:
        return "git"

    @pytest.fixture
    def place(self) -> str:
        return "conditions/main"

    @pytest.fixture
    def no_place(self) -> str:
        return "conditions/../main"

    @pytest.fixture
    def put(self, repository: Path, tmp_path: Path) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            clone = tmp_path / "clone"
            if not clone.exists():
                git(tmp_path, "clone", "--quiet", str(repository), str(clone))
            elif git(repository, "branch", "--list", "main"):
                git(clone, "fetch", "--quiet")
                git(clone, "reset", "--quiet", "--hard", "origin/main")
            layout = LAYOUTS[self.layout]
            (clone / f"{tag}{layout.suffix}").write_text(layout.write([PlacedPayload(*one) for one in intervals]))
            git(clone, "add", ".")
            git(clone, "commit", "--quiet", "--allow-empty", "-m", "by hand")
            git(clone, "push", "--quiet", "origin", "HEAD:main")

        return write

    @pytest.fixture
    def breaks(self, repository: Path) -> Callable[[], None]:
        return lambda: shutil.rmtree(repository)

    @pytest.fixture
    def ready_tags(self) -> Callable[[], tuple[str, str]]:
        numbers = iter(range(1000))

        def make() -> tuple[str, str]:
            number = next(numbers)
            return f"Scale{number}", f"Errors{number}"

        return make

    @pytest.fixture
    def faults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Faults:
        made = _Faults(tmp_path / "faults")
        monkeypatch.setenv("PATH", f"{tmp_path / 'faults'}:{os.environ['PATH']}")
        monkeypatch.setattr(conditions_git, "SECONDS", 1.0)
        return made


class TestBareOfIntervals(_Git):
    pass


class TestOfFirstRuns(_Git):
    layout = "since"

    # Without ends it is another listing, and nothing can contradict itself but two that begin at one run.
    def test_a_listing_is_in_order_with_ends(self, store, put):
        put("Laser", [(20, None, "c"), (1, None, "a"), (40, None, "e")])
        assert [(one.first_run, one.last_run) for one in store.listing("Laser")] == [(1, 19), (20, 39), (40, None)]

    @pytest.mark.parametrize("intervals", [[(1, None, "a"), (1, None, "b")]], ids=str)
    def test_what_contradicts_itself_is_never_listed(self, store, put, intervals):
        super().test_what_contradicts_itself_is_never_listed(store, put, intervals)

    def test_what_waits_for_it(self, ledger, name, place, put, breaks):
        pytest.skip("the last one is open: no run waits")

    def test_several_may_ask_at_once(self, store, put):
        put("Laser", [(run, None, "a") for run in range(1, 200)])
        assert len(store.listing("Laser")) == 199

    def test_tags_are_apart(self, store, put):
        put("Laser", [(1, None, "a")])
        put("LaserOther", [(5, None, "b")])
        assert [one.first_run for one in store.listing("LaserOther")] == [5]

    def test_it_says_the_same_again_and_what_is_new(self, store, put):
        put("Laser", [(1, None, "a"), (9, None, "b")])
        first = store.listing("Laser")
        put("Laser", [(1, None, "a"), (9, None, "b"), (20, None, "c")])
        assert store.listing("Laser")[:1] == first[:1]

    def test_what_somebody_has_changed_is_told_and_refused(self, store, publish, put, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        put(tags[0], [(100, None, "by-hand")])
        conflicts = publish(expected, "b", 200, 299, tags, group=2).conflicts
        assert any("by-hand" in said for said in conflicts), conflicts

    def test_what_was_processed_is_kept_or_the_start_is_moved(self, store, publish, ready_tags):
        tags, expected = ready_tags(), {}
        publish(expected, "a", 100, 199, tags)
        assert publish(expected, "b", 100, 199, tags, guard=Guard(150, move=True)).moved == 150
        self.has(store, expected)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """One with a working tree, and somebody's file in it."""
    path = tmp_path / "tree"
    git(tmp_path, "init", "--quiet", "--initial-branch=main", str(path))
    (path / "README").write_text("x")
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "first")
    connect(path=str(path), author="Cal Ib", email="calib@example.org", folder="ecal")
    yield path
    look_up_with(lambda name: None)


def _published(
    text: str, first: int, last: int, folder: Path, store: GitStore, had: list[Placement]
) -> list[Placement]:
    path = folder / "content"
    path.write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    ref = store.ref("Scale", digest, "c.json")
    store.put("Scale", path, ref, "c.json")
    plan = store.plan([WantedPlacement("Scale", first, last, ref, first)], {"Scale": had})
    store.apply(plan, f"pub-{first}")
    return applied(had, plan.tags[0])


def test_a_working_tree_has_the_commit_and_its_own_changes(tree, tmp_path):
    store = GitStore("conditions")
    (tree / "README").write_text("changed, not committed")
    had = _published("one", 1, 9, tmp_path, store, [])
    _published("two", 10, 19, tmp_path, store, had)
    lines = (tree / "ecal" / "Scale.csv").read_text().splitlines()
    assert [line.rpartition(",")[0].partition(",payloads")[0] for line in lines[1:]] == ["1,9", "10,19"]
    for line in lines[1:]:
        assert (tree / "ecal" / line.split(",")[2]).read_text() in ("one", "two")
    assert (tree / "README").read_text() == "changed, not committed"
    assert git(tree, "log", "-1", "--format=%an <%ae>") == "Cal Ib <calib@example.org>"
    assert "Calib-Publication: pub-10" in git(tree, "log", "-1", "--format=%B")
    assert git(tree, "for-each-ref", "refs/calib-payloads") == ""


def test_changes_in_the_tree_that_are_in_the_way_are_refused(tree, tmp_path):
    store = GitStore("conditions")
    had = _published("one", 1, 9, tmp_path, store, [])
    (tree / "ecal" / "Scale.csv").write_text("somebody edits it\n")
    with pytest.raises(StoreRefused, match="would be overwritten"):
        _published("two", 10, 19, tmp_path, store, had)
    assert len(store.listing("Scale")) == 1, "nothing was moved"


def test_with_a_remote_that_one_counts_and_nobody_is_overwritten(tree, tmp_path):
    remote = tmp_path / "remote.git"
    git(tmp_path, "clone", "--quiet", "--bare", str(tree), str(remote))
    connect(path=str(tree), remote=str(remote))
    store = GitStore("conditions")
    had = _published("one", 1, 9, tmp_path, store, [])
    assert "Scale.csv" in git(remote, "ls-tree", "--name-only", "main")
    other = tmp_path / "other"
    git(tmp_path, "clone", "--quiet", str(remote), str(other))
    (other / "NOTES").write_text("of somebody else")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "notes")
    git(other, "push", "--quiet")
    _published("two", 10, 19, tmp_path, store, had)
    assert {"NOTES", "Scale.csv"} <= set(git(remote, "ls-tree", "--name-only", "main").splitlines())
    shutil.rmtree(remote)
    with pytest.raises(OutsideError):
        store.listing("Scale")


def test_what_it_had_earlier(tree, tmp_path, monkeypatch):
    store = GitStore("conditions")
    _published("one", 1, 9, tmp_path, store, [])
    assert store.look_up("Scale", 5, datetime.now(UTC) + timedelta(minutes=1)).first_run == 1
    assert store.look_up("Scale", 5, datetime.now(UTC) - timedelta(days=1)) is None


@pytest.mark.parametrize(
    ("extra", "said"),
    [({"layout": "odd"}, "layout"), ({"where": "x"}, "unknown field"), ({"remote": "--upload-pack=x"}, "remote"),
     ({"folder": "../up"}, "folder")],
)  # fmt: skip
def test_a_connection_that_cannot_be_meant(tmp_path, extra, said):
    connect(path=str(tmp_path), **extra)
    with pytest.raises(OutsideError, match=said):
        GitStore("conditions").listing("Scale")
