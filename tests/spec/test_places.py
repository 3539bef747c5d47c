"""Places in one unit, whatever a file's characters and line ends; a border around each file; bounded work and texts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from airflow_calib_provider.errors import KindError, SpecError, SpecErrors
from airflow_calib_provider.spec import loader
from airflow_calib_provider.spec.loader import load_folder, load_sources, load_workflow

SOURCES = """\
apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {fill: int, lumi: float}
"""
GOOD = """\
apiVersion: calib/v1
workflow: good
runs: {source: daq}
tasks:
  t: {group_by: run, jobs: {command: [x]}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    (tmp_path / "good.yaml").write_text(GOOD)
    return tmp_path


def errors_of(folder: Path, content: bytes | str) -> list[SpecError]:
    """The mistakes of one file, beside another one that is good and stays so."""
    file = folder / "bad.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    workflows, errors = load_folder(folder)
    assert "good" in workflows
    assert all(error.file == file for error in errors)
    return errors


@pytest.mark.parametrize(
    ("content", "place", "said"),
    [
        ("# → \x0c\n", (1, 5), "U+000C"),
        ("# 😀→é\n# →\x0c", (2, 4), "U+000C"),
        ("a: →\n\tb: →\x07", (2, 6), "U+0007"),
        ("# é\nowner: \ud7ff\x00", (2, 9), "U+0000"),
        ("# →😀\nowner: é\n\xff".encode("latin1", "replace").replace(b"?", "→".encode()), (2, 8), "byte 0xe9"),
        ("# →\n  é".encode() + b"\xff", (2, 4), "byte 0xff is not UTF-8"),
        ("\ufeff".encode() + b"owner: \xff", (1, 8), "byte 0xff is not UTF-8"),
        ("\ufeffowner: [", (1, 9), "not YAML"),
        ("a: →\rb: [", (2, 5), "not YAML"),
        ("a: \u2028 →\nb: {", (2, 5), "not YAML"),
        ("a: \u2028→\nb: {", (2, 1), "not YAML"),
    ],
)
def test_what_is_no_yaml(folder: Path, content: bytes | str, place: tuple[int, int], said: str) -> None:
    (error,) = errors_of(folder, content)
    assert (error.line, error.column) == place
    assert said in error.message


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "before", ["", "\ufeff", "# → 😀\n", "# \x85 \u2028 \u2029\n", 'description: "x\u2028y"\n', "# a\tb\n\n"]
)
def test_places_are_those_of_an_editor(folder: Path, end: str, before: str) -> None:
    runs = '{since: "→😀é", source: daqq}'
    text = before + GOOD.replace("good", "bad").replace("{source: daq}", runs).replace("[x]", '["→", "{{ a }}"]')
    lines = text.removeprefix("\ufeff").split("\n")
    errors = errors_of(folder, text.replace("\n", end))
    found = {error.message.split(";")[0]: error for error in errors}
    for message, words in (
        ("unknown run source 'daqq'", "daqq"),
        ("unknown variable 'a'", "a }}"),
    ):
        error = found.pop(message)
        number, line = next((number, line) for number, line in enumerate(lines, 1) if words in line)
        assert (error.line, error.column, error.context) == (number, line.index(words) + 1, line)


def test_a_condition_in_a_file_with_other_line_ends(folder: Path) -> None:
    text = GOOD.replace("{source: daq}", '{source: daq, where: "run.nope == 3"}').replace("good", "bad")
    (error,) = errors_of(folder, text.replace("\n", "\r"))
    assert (error.line, error.column) == (3, 29)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{{ 1e9999 }}", "a number that is too large"),
        ("{{ 1/0 }}/runs.csv", "division by zero"),
        ("{{ none }}", "a null where text is needed"),
        ("{{ env.CALIB_DATA.upper() }}", "a call of upper()"),
        ("{{ env.HOME }}", "unknown variable 'env.HOME'"),
        ("x{{ env.CALIB_A", "an expression does not end"),
    ],
)
def test_paths_of_sources(folder: Path, path: str, said: str) -> None:
    (folder / "sources.yaml").write_text(SOURCES.replace("path: runs.csv", f'path: "{path}"'))
    with pytest.raises(SpecErrors) as caught:
        load_sources(folder / "sources.yaml")
    (error,) = caught.value.errors
    assert said in error.message
    assert error.line == 4
    assert error.column >= 17


@pytest.mark.parametrize("error", [RecursionError(), MemoryError(), KeyError("x"), AssertionError("y" * 5_000)])
def test_what_nobody_foresaw_is_an_error_of_its_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real = loader.read_workflow

    def read(document: object, *args: object, **options: object) -> object:
        if "bad" in document.text:  # type: ignore[attr-defined]
            node = document.root.entries["tasks"].value  # type: ignore[attr-defined]  # noqa: F841 - what is looked at
            raise error
        return real(document, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(loader, "read_workflow", read)
    (found,) = errors_of(folder, GOOD.replace("good", "bad"))
    assert (found.line, found.column) == (5, 3)
    assert type(error).__name__ in found.message
    assert len(str(found)) < 1_000
    with pytest.raises(SpecErrors, match="was not foreseen"):
        load_workflow(folder / "bad.yaml")


def test_a_kind_that_cannot_be_loaded_is_told_in_its_own_words(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> object:
        raise KindError("two packages have a backend 'x'", "remove one")

    monkeypatch.setattr(loader, "read_workflow", read)
    with pytest.raises(SpecErrors, match=r"good.yaml:1:1: two packages have a backend 'x'; remove one"):
        load_workflow(folder / "good.yaml")


def test_what_nobody_foresaw_between_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_calib_provider.spec import crossfile

    real = crossfile._check_products

    def check(loaded: object, named: object) -> None:
        if loaded.name == "bad":  # type: ignore[attr-defined]
            raise RuntimeError("x")
        real(loaded, named)  # type: ignore[arg-type]

    monkeypatch.setattr(crossfile, "_check_products", check)
    (found,) = errors_of(folder, GOOD.replace("good", "bad"))
    assert "RuntimeError: x" in found.message


def task(name: str, needs: str = "") -> str:
    return f"  {name}: {{group_by: run, needs: [{needs}], jobs: {{command: [x]}}}}\n"


@pytest.mark.parametrize(
    ("wrong", "count"),
    [
        (task("u", ", ".join(f"task_numbr_{i}" for i in range(3_000))), 3_000),
        ("".join(task(f"u{i}", f"task_numbr_{i}") for i in range(2_000)), 2_000),
        (task("u", ", ".join(f"other_flow.task_{i}" for i in range(3_000))), 3_000),
        (task("u") + "".join(f"retires_{i}: 1\n" for i in range(3_000)), 3_000),
        (task("u").replace("[x]", "[x, " + ", ".join(f'"{{{{ grop.nme_{i} }}}}"' for i in range(3_000)) + "]"), 3_000),
    ],
)
def test_thousands_of_unknown_names(folder: Path, wrong: str, count: int) -> None:
    text = GOOD.replace("good", "bad") + "".join(task(f"task_number_{i}") for i in range(500)) + wrong
    start = time.process_time()
    errors = errors_of(folder, text)
    assert time.process_time() - start < 5, "suggestions are looked for without an end"
    assert len(errors) == 101
    assert errors[-1].message == f"and {count - 100:,} more mistakes in this file"
    assert errors[-1].line > 5
    if "task_numbr" in wrong or "grop" in wrong:
        assert "did you mean" in str(errors[0])


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("workflow: good", f'workflow: "{"é " * 5_000}"'),
        GOOD.replace("[x]", '["{{ ' + "a" * 10_000 + ' }}"]'),
        GOOD.replace("daq", "q" * 10_000),
        GOOD.replace("run,", f"{'g' * 10_000},"),
        GOOD + f"? {'k' * 900}\n: {'v' * 10_000}\n",
    ],
)
def test_very_long_texts_are_cut(folder: Path, text: str) -> None:
    errors = errors_of(folder, text.replace("good", "bad"))
    assert errors
    for error in errors:
        assert len(str(error)) < 2_000
        assert len(error.context) < 600


def test_long_chains_of_needs(folder: Path) -> None:
    chain = "".join(f"  t{i}: {{needs: [t{i - 1}], jobs: {{command: [x]}}}}\n" for i in range(1, 2_000))
    text = GOOD.replace("good", "bad").replace("  t:", "  t0:") + chain
    start = time.process_time()
    assert errors_of(folder, text) == []
    assert time.process_time() - start < 10
    (error,) = errors_of(folder, text.replace("group_by: run, ", "needs: [t1999], "))
    assert "circle" in error.message
    assert len(error.message) <= 600


def test_aliases_that_nest(folder: Path) -> None:
    text = GOOD.replace("good", "bad") + "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 100))
    (error,) = errors_of(folder, text)
    assert "nested too deeply" in error.message
