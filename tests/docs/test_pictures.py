"""The pictures on the pages: each is there, those of Airflow's UI are small and of the stated size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.browser.pictures import FOLDER, NAMES, SIZE
from tests.docs.grouping_pictures import PICTURES, drawn
from tests.docs.test_docs import PAGES

HOUSE = Path(__file__).parents[2]
SHOWN = re.compile(r"!\[[^\]]+\]\(([^)]+\.png)\)")
LARGEST = 60_000  # bytes


def shown() -> dict[Path, Path]:
    """Picture → a page that shows it."""
    return {(page.parent / name).resolve(): page for page in PAGES for name in SHOWN.findall(page.read_text())}


def test_what_pages_show_is_there_and_what_is_there_is_shown() -> None:
    assert set(shown()) == {file.resolve() for file in FOLDER.glob("*.png")}


def test_pictures_of_groupings_are_what_the_program_makes(tmp_path: Path) -> None:
    page = (HOUSE / "docs" / "grouping.md").read_text()
    assert set(re.findall(r"grouping-([\w-]+)\.svg", page)) == set(PICTURES)
    for name, picture in PICTURES.items():
        there = (FOLDER / f"grouping-{name}.svg").read_text()
        assert there == drawn(picture, tmp_path), "python -m tests.docs.grouping_pictures"


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_the_ui_are_small(name: str) -> None:
    file = FOLDER / f"{name}.png"
    assert file.stat().st_size < LARGEST
    with Image.open(file) as picture:
        assert (picture.format, picture.size) == ("PNG", SIZE)


def test_they_are_made_by_a_command_of_which_the_pages_tell() -> None:
    assert "-m tests.browser" in (HOUSE / "Makefile").read_text()
    assert "make pictures" in (HOUSE / "CONTRIBUTING.md").read_text()
