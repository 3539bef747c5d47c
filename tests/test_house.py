"""What is read by people stays short enough to be read."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
ROOMS = ("airflow_calib_provider", "benchmarks", "deploy", "examples", "tests")

MOST_IN_FUNCTION, MOST_IN_MODULE = 60, 450

MIGRATIONS = HOUSE / "airflow_calib_provider" / "ledger" / "migrations" / "versions"
"""Each is one list of changes, which is never touched again."""


def modules() -> list[Path]:
    found = [file for room in ROOMS for file in sorted((HOUSE / room).rglob("*.py"))]
    return [file for file in found if not file.is_relative_to(MIGRATIONS)]


def long_modules(files: list[Path]) -> Iterator[str]:
    for file in files:
        lines = len(file.read_text().splitlines())
        if lines > MOST_IN_MODULE:
            yield f"{file}: {lines} lines"


def long_functions(files: list[Path]) -> Iterator[str]:
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_IN_FUNCTION:
                    yield f"{file}:{node.lineno}: {node.name} has {lines} lines"


def test_no_module_is_too_long() -> None:
    assert list(long_modules(modules())) == []


def test_no_function_is_too_long() -> None:
    assert list(long_functions(modules())) == []


def public_classes(package: Path) -> Iterator[tuple[str, str]]:
    for file in sorted(package.rglob("*.py")):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield node.name, str(file.relative_to(package))


def test_a_class_has_a_name_of_its_own() -> None:
    places: dict[str, list[str]] = {}
    for name, file in public_classes(HOUSE / "airflow_calib_provider"):
        places.setdefault(name, []).append(file)
    assert len(places) > 300
    # Each backend has a folder for a round, in which it keeps what is its own.
    assert {name: files for name, files in places.items() if len(files) > 1} == {
        "RoundFolder": [f"backends/{name}/folder.py" for name in ("condor", "kubernetes", "local")]
    }


def test_every_room_is_counted() -> None:
    assert {file.relative_to(HOUSE).parts[0] for file in modules()} == set(ROOMS)


@pytest.mark.parametrize("extra", [0, 1])
def test_the_last_line_that_is_allowed(tmp_path: Path, extra: int) -> None:
    file = tmp_path / "some.py"
    function = ["class Some:", "    async def long(self) -> None:", *["        pass"] * (MOST_IN_FUNCTION - 1 + extra)]
    file.write_text("\n".join([*function, *["pass"] * (MOST_IN_MODULE + extra - len(function))]) + "\n")
    found = [*long_modules([file]), *long_functions([file])]
    told = [f"{file}: {MOST_IN_MODULE + 1} lines", f"{file}:2: long has {MOST_IN_FUNCTION + 1} lines"]
    assert found == (told if extra else [])
