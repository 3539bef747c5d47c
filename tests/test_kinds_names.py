"""A member of a kind is named in its own files and in its table: adding one, or taking one away, edits nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import airflow_calib_provider
from airflow_calib_provider import kinds

PACKAGE = Path(airflow_calib_provider.__file__).parent
TABLES = (
    kinds.BACKENDS,
    kinds.GROUPINGS,
    kinds.LOCKS,
    kinds.RUN_SOURCES,
    kinds.PAYLOAD_STORES,
    kinds.CHANNELS,
)

OWN = {
    "condor": r"(backends/condor/.*|hooks/condor|operators/condor)\.py",
    "kubernetes": r"(backends/kubernetes/.*|hooks/kubernetes|operators/kubernetes)\.py",
    "local": r"backends/local/.*\.py",
    "run": r"domain/groupings/run\.py",
    "fill": r"domain/groupings/fill\.py",
    "sum": r"domain/groupings/sum\.py",
    "count": r"domain/groupings/count\.py",
    "window": r"domain/groupings/window\.py",
    "boundaries": r"(domain/groupings/boundaries|spec/boundaries_file)\.py",
    "until": r"domain/groupings/until\.py",
    "task": r"(domain|ledger)/locks/task\.py",
    "payload": r"(domain|ledger)/locks/(stored_)?payload\.py",
    "stored_payload": r"(domain|ledger)/locks/(stored_)?payload\.py",
    "delay": r"(domain|ledger)/locks/delay\.py",
    "time": r"(domain|ledger)/locks/time\.py",
    "product": r"(domain|ledger)/locks/product\.py",
    "file": r"(domain|ledger)/locks/file\.py",
    "csv": r"runsources/csv_(kind|file)\.py",
    "events": r"runsources/events?_(kind|file)\.py",
    "json": r"runsources/json_(kind|file)\.py",
    "http": r"(runsources/http_(kind|pages)|(domain|ledger)/locks/http)\.py",
    "sql": r"runsources/sql_(kind|rows)\.py",
    "embedded": r"payloads/embedded\.py",
    "mattermost": r"(messages/mattermost(_kind|_keys)?|hooks/mattermost)\.py",
    "email": r"messages/email(_kind|_keys)?\.py",
}
"""The files of each member."""

COMMON = {
    "run",
    "task",
    "payload",
    "time",
    "delay",
    "file",
    "product",
    "sum",
    "events",
    "local",
    "fill",
    "json",
    "http",
    "sql",
    "count",
    "window",
    "until",
    "email",
}
"""Words of the language and of Python too, so that a name with one of them in it says nothing."""

OF_THE_LANGUAGE = {
    "run", "task", "payload", "time", "file", "product", "json", "http", "sql", "count", "window", "until", "email",
}  # fmt: skip
"""Names that are tables, keys, variables, or modules of Python as well: only their files are looked for."""

ALLOWED = {
    ("domain/run.py", "fill"): "a field of runs",
    ("spec/filters.py", "sum"): "a filter of templates",
    ("spec/comparisons.py", "sum"): "the same filter",
    ("domain/run_facts.py", "sum"): "of values, in conditions",
    ("cli/new_workflow.py", "fill"): "a field of its example",
    ("cli/new_workflow.py", "events"): "a field of its example",
    ("cli/new_workflow.py", "sum"): "the short words in which a person answers",
    ("cli/new_workflow.py", "csv"): "Python's own module",
    ("cli/mirror_commands.py", "sum"): "the last line of a table",
    ("cli/mirror_commands.py", "events"): "those of the ledger",
    ("runsources/values.py", "events"): "a field that counts",
    ("runsources/event_file.py", "csv"): "Python's own module",
    ("outside/conditions_folder.py", "csv"): "Python's own module",
    ("outside/conditions_git_files.py", "csv"): "Python's own module",
    ("spec/boundaries_file.py", "csv"): "Python's own module",
    **dict.fromkeys(
        [
            ("cli/step_commands.py", "events"),
            ("jobsets/publish.py", "events"),
            ("jobsets/step_jobs.py", "events"),
            ("ledger/step_tables.py", "events"),
            ("ledger/steps.py", "events"),
        ],
        "those of a detector",
    ),
    ("backends/kubernetes/rights.py", "events"): "those of Kubernetes",
    ("backends/kubernetes/survey.py", "events"): "those of Kubernetes",
}
"""Where the word means something else."""


def names() -> list[str]:
    return list(dict.fromkeys(name for table in TABLES for name in table.own))


@cache
def files() -> dict[str, ast.Module]:
    every = {str(path.relative_to(PACKAGE)): path for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        name: ast.parse(path.read_text())
        for name, path in every.items()
        if name != "kinds.py" and "migrations" not in path.parts
    }


def leads_to(path: str, name: str) -> bool:
    """Whether a dotted path, or ``module:attribute``, is a file of a member, or something in one."""
    package, _, rest = path.partition(":")[0].partition(".")
    if package != PACKAGE.name:
        return False
    file = rest.replace(".", "/")
    candidates = [f"{file}.py", f"{file}/__init__.py", f"{file.rpartition('/')[0]}.py"]
    return any(re.fullmatch(OWN[name], candidate) for candidate in candidates)


def words(identifier: str) -> list[str]:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", identifier).lower().split("_")


@cache
def nodes(tree: ast.Module) -> list[ast.AST]:
    return list(ast.walk(tree))


def identifiers(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in nodes(tree):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, ast.alias):
                yield line, value


def texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in nodes(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in nodes(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{item.name}") for item in node.names)
            yield node.lineno, node.module
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, item.name) for item in node.names)


def test_every_member_says_which_files_are_its_own() -> None:
    assert sorted(OWN) == sorted(names())
    for name, own in OWN.items():
        assert any(re.fullmatch(own, file) for file in files()), name


@pytest.mark.parametrize("name", names())
def test_a_member_is_named_in_its_own_files_and_its_table_only(name: str) -> None:
    found = []
    for file, tree in files().items():
        if re.fullmatch(OWN[name], file) or (file, name) in ALLOWED:
            continue
        found += [f"{file}:{line}: {path}" for line, path in imports(tree) if leads_to(path, name)]
        if name not in OF_THE_LANGUAGE:
            found += [f"{file}:{line}: {text!r}" for line, text in texts(tree) if re.fullmatch(rf"{name}(:.*)?", text)]
        found += [f"{file}:{line}: {text!r}" for line, text in texts(tree) if leads_to(text, name)]
        if name not in COMMON:
            found += [f"{file}:{line}: {word}" for line, word in identifiers(tree) if name in words(word)]
    assert found == []


def test_nothing_is_allowed_that_is_not_there() -> None:
    trees = files()
    for file, name in ALLOWED:
        said = [text for _, text in (*texts(trees[file]), *identifiers(trees[file]))]
        assert any(re.fullmatch(rf"{name}(:.*)?", text) for text in said), (file, name)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("from airflow_calib_provider.backends.condor.backend import CondorBackend", "condor"),
        ("from airflow_calib_provider.domain.groupings import fill", "fill"),
        ("if kind == 'fill': pass", "fill"),
        ("if backend.startswith('condor:'): pass", "condor"),
        ("def f(csv_options): pass", "csv"),
    ],
)
def test_this_test_can_fail(source: str, name: str) -> None:
    tree = ast.parse(source)
    hits = [path for _, path in imports(tree) if leads_to(path, name)]
    hits += [text for _, text in texts(tree) if re.fullmatch(rf"{name}(:.*)?", text)]
    hits += [word for _, word in identifiers(tree) if name not in COMMON and name in words(word)]
    assert hits
