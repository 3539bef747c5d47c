"""An unchanged file is not read as YAML again; what is damaged or of another time is as good as not there."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest

from airflow_calib_provider.spec import cache, known, loader
from airflow_calib_provider.spec.cache import checked
from airflow_calib_provider.spec.known import good_workflow
from airflow_calib_provider.spec.loader import FolderCheck, check_folder
from airflow_calib_provider.spec.positions import Document

GOOD = Path(__file__).parent / "good"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files that were written a while ago."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.setattr(known, "SETTLED", -1.0)
    made = tmp_path / "specs"
    shutil.copytree(GOOD, made)
    return made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were read as YAML."""
    names: list[str] = []
    real = loader.read_document

    def counted(file: Path) -> Document:
        names.append(file.name)
        return real(file)

    monkeypatch.setattr(loader, "read_document", counted)
    return names


def same(one: FolderCheck, other: FolderCheck) -> bool:
    def told(check: FolderCheck) -> object:
        files = [
            (f.file, f.name, f.hash, f.workflow, [str(e) for e in f.errors], f.alone, f.clashes) for f in check.files
        ]
        return files, check.sources, check.sources_text, [(str(e), e.context) for e in check.errors]

    return told(one) == told(other)


def test_an_unchanged_folder_is_read_once(folder: Path, reads: list[str]) -> None:
    first = checked(folder)
    assert first.errors == []
    assert reads
    reads.clear()
    assert same(checked(folder), first)
    assert good_workflow(folder / "monitor.yaml") == first.workflows["monitor"]
    assert reads == []


def test_every_change_of_a_file_is_seen(folder: Path, reads: list[str]) -> None:
    checked(folder)
    file = folder / "monitor.yaml"
    text = file.read_text()
    times = file.stat()
    for changed in (text + "# more\n", text.replace("plot", "plat"), text + "neds: x\n"):
        file.write_text(changed)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert same(checked(folder), check_folder(folder))
        found = good_workflow(file)
        assert (found is None) == bool(checked(folder).errors)
        assert found is None or found.text == changed
    (folder / "sources.yaml").unlink()
    assert checked(folder).source_errors
    assert good_workflow(file) is None


A = """\
apiVersion: calib/v1
workflow: a
runs: {source: daq}
tasks:
  fit: {group_by: run, jobs: {command: [fit]}, products: {out: o.txt}}
  tell: {needs: [fit], publish: {tag: A, file: "{{ tasks.fit.products.out }}"}}
"""
B = """\
apiVersion: calib/v1
workflow: b
runs: {source: daq}
tasks:
  use:
    group_by: run
    needs: [a.fit]
    jobs: {command: [use, "{{ workflows.a.tasks.fit.products.out | first }}"]}
"""
C = (
    A.replace("workflow: a", "workflow: c")
    .replace("tag: A", "tag: C")
    .replace("group_by: run", "group_by: run, needs: [b.use]")
)


@pytest.fixture
def three(folder: Path) -> Path:
    """Files that need each other, checked."""
    for file in folder.glob("*.yaml"):
        file.unlink()
    sources = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}}\n"
    for name, text in {"sources": sources, "a": A, "b": B, "c": C}.items():
        (folder / f"{name}.yaml").write_text(text)
    assert checked(folder).errors == []
    return folder


def test_an_edit_of_one_file_costs_the_reading_of_one(three: Path, reads: list[str]) -> None:
    for name, text in {"a": A, "b": B, "c": C}.items():
        (three / f"{name}.yaml").write_text(text + "# more\n")
        reads.clear()
        found = checked(three)
        assert reads == ["sources.yaml", f"{name}.yaml"]
        assert same(found, check_folder(three))
        assert found.errors == []
        assert good_workflow(three / f"{name}.yaml") == found.workflows[name]
    (three / "c.yaml").unlink()
    reads.clear()
    assert list(checked(three).workflows) == ["a", "b"]
    assert reads == ["sources.yaml"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("a", "command", "comand"),
        ("a", "apiVersion", "\tapiVersion"),
        ("a", "workflow: a", "workflow: renamed"),
        ("a", "workflow: a", "workflow: b"),
        ("a", "out: o.txt", "other: o.txt"),
        ("a", "  fit", "  fitted"),
        ("a", "tag: A", "tag: C"),
        ("a", "group_by: run", "group_by: run, needs: [c.fit]"),
        ("a", "group_by: run", "group_by: {run: {name: each}}"),
        ("b", "a.fit", "a.fitt"),
        ("c", "workflow: c", "workflow: a"),
        ("sources", "daq", "other"),
        ("sources", "csv", "cvs"),
    ],
)
def test_what_is_recalled_is_judged_as_what_is_read(three: Path, name: str, old: str, new: str) -> None:
    file = three / f"{name}.yaml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    assert same(checked(three), check_folder(three))
    file.write_text(text)
    assert checked(three).errors == []


def test_where_very_many_are_concerned_all_are_read(three: Path) -> None:
    for number in range(15):
        (three / f"b{number}.yaml").write_text(B.replace("workflow: b", f"workflow: b{number}"))
    assert checked(three).errors == []
    (three / "a.yaml").write_text(A.replace("command", "comand"))
    found = checked(three)
    assert len(found.errors) > 15
    assert same(found, check_folder(three))


def test_a_file_whose_name_is_no_text_is_not_recalled_as_its_twin(three: Path) -> None:
    (three / "c.yaml").unlink()
    (three / os.fsdecode(b"\xff.yaml")).write_text(C)
    assert same(checked(three), check_folder(three))
    assert "is not UTF-8" in str(checked(three).errors[0])


def test_mistakes_are_kept_too_and_a_copy_of_the_folder_has_its_own(folder: Path, reads: list[str]) -> None:
    (folder / "copy.yaml").write_text((folder / "monitor.yaml").read_text())
    (folder / "broken.yaml").write_bytes(b"\xff")
    first = checked(folder)
    reads.clear()
    assert same(checked(folder), first)
    assert good_workflow(folder / "monitor.yaml") is None
    assert good_workflow(folder / "ecal_zee_scale.yaml") is not None
    assert reads == []
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    assert same(checked(other), check_folder(other))


def test_the_same_files_in_another_checkout_are_not_read_again(folder: Path, reads: list[str]) -> None:
    checked(folder)
    reads.clear()
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    found = checked(other).workflows["monitor"]
    assert found.file == str(other / "monitor.yaml")
    assert reads == []


@pytest.mark.parametrize("damage", [b"", b"x", b"0\n{}"])
def test_a_damaged_cache_is_made_again(folder: Path, damage: bytes) -> None:
    first = checked(folder)
    kept = list((folder.parent / "calib" / "cache" / "specs").iterdir())
    assert len(kept) >= 4
    for file in kept:
        content = file.read_bytes()
        file.write_bytes(damage or content[:-1])
        assert same(checked(folder), first)
        assert good_workflow(folder / "monitor.yaml") in (None, first.workflows["monitor"])
    for file in kept:
        file.unlink()
    assert same(checked(folder), first)


def test_a_cache_that_cannot_be_written_costs_time_and_nothing_else(folder: Path) -> None:
    (folder.parent / "calib").write_text("a file")
    assert same(checked(folder), check_folder(folder))
    assert good_workflow(folder / "monitor.yaml") is None


def test_a_file_that_changed_a_moment_ago_is_compared_by_its_content(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "SETTLED", 1e9)
    checked(folder)
    assert not list((folder.parent / "calib" / "cache" / "specs").glob("m-*"))
    assert good_workflow(folder / "monitor.yaml") is not None


def test_the_cache_does_not_grow_without_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_FILES", 20)
    for number in range(40):
        (folder / "monitor.yaml").write_text((GOOD / "monitor.yaml").read_text() + f"# {number}\n")
        assert same(checked(folder), check_folder(folder))
    assert len(list((folder.parent / "calib" / "cache" / "specs").iterdir())) <= 30


def _many(folder: Path, until: float) -> None:
    while time.time() < until:
        assert checked(folder).workflows["monitor"].name == "monitor"


def test_many_processes_at_once(folder: Path) -> None:
    until = time.time() + 3
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_many, args=(folder, until)) for _ in range(3)]
    for process in processes:
        process.start()
    root = folder.parent / "calib" / "cache" / "specs"
    while time.time() < until:
        for file in root.glob("[!.]*"):
            file.unlink(missing_ok=True)
        time.sleep(0.01)
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
