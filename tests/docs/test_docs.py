"""The pages agree with each other and with the code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider import crash, settings

TOP = Path(__file__).parents[2]
PACKAGE = TOP / "airflow_calib_provider"
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]
CODE = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def without_fences(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", without_fences(page.read_text(encoding="utf-8")), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_fences(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{page.name}: {link}"


def variables() -> set[str]:
    """Every ``CALIB_…`` that the package reads, sets or names."""
    found = {item.variable for item in settings.SETTINGS}
    for text in CODE.values():
        found |= set(re.findall(r"\bCALIB_[A-Z][A-Z_]*[A-Z]\b", text))
    return found - {"CALIB_CRASH", "CALIB_AIRFLOW"}  # the beginnings of names


def test_every_variable_is_described() -> None:
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    assert {"CALIB_HOME", "CALIB_MAX_OPEN", "CALIB_LOCAL_GRACE"} <= variables()
    assert [name for name in sorted(variables()) if f"`{name}`" not in page] == []


def test_every_described_variable_exists() -> None:
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(CALIB_[A-Z_]+)`", page)) - variables() == set()


def test_the_table_of_settings_is_that_of_the_code() -> None:
    page = (TOP / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = [f"| `{item.variable}` | {item.stated} | {item.meaning} |" for item in settings.SETTINGS]
    assert "\n".join(rows) in page, "the table of docs/operations.md must be:\n" + "\n".join(rows)


def test_every_number_asked_for_is_a_setting() -> None:
    asked = {name for text in CODE.values() for name in re.findall(r"\bnumber\(\s*\"([A-Z_]+)\"", text)}
    assert asked == {item.name for item in settings.SETTINGS}


def cited() -> Iterator[tuple[Path, int]]:
    """Each rule number in the code: ``rule 13``, ``rules 14, 15``, ``rules 2–8``."""
    for path, text in CODE.items():
        for numbers in re.findall(r"\b[Rr]ules? (\d+(?:(?:–|, | and )\d+)*)", text):
            for part in re.split(r", | and ", numbers):
                first, _, last = part.partition("–")
                for number in range(int(first), int(last or first) + 1):
                    yield path, number


def test_every_cited_rule_exists() -> None:
    text = (TOP / "docs" / "semantics.md").read_text(encoding="utf-8")
    rules = [int(number) for number in re.findall(r"^(\d+)\. ", text, re.M)]
    assert rules[:46] == list(range(1, 47))
    assert rules == sorted(set(rules))
    assert [(path.name, number) for path, number in cited() if number not in rules] == []
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    assert {int(n) for page in pages for n in re.findall(r"\brules? (\d+)", page)} <= set(rules)


def test_crash_points_are_used_and_no_others() -> None:
    used = {name for text in CODE.values() for name in re.findall(r"crash_point\(\s*\"([\w.]+)\"", text)}
    assert used == crash.POINTS


def test_layers_on_the_page_are_those_that_are_checked() -> None:
    project = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^layers = \[\n(.*?)^\]", project, re.M | re.S)
    assert block
    layers = [line.replace("airflow_calib_provider.", "") for line in re.findall(r'"(.*)"', block[1])]
    assert "\n".join(layers) in (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
