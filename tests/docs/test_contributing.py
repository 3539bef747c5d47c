"""The recipes of CONTRIBUTING.md are a package that works."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.kinds import CONDITIONS_STORES
from airflow_calib_provider.ledger import tables
from tests.toys.installed import toys
from tests.toys.test_end_to_end import Toyland

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"


def blocks() -> dict[str, str]:
    """The files of the page, by the names in their first lines."""
    found = re.findall(r"^```\w+\n# ([\w.]+)\n(.*?)^```$", PAGE.read_text(), re.M | re.S)
    return dict(found)


@pytest.fixture
def recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a package made of the page."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "home"))
    package, info = tmp_path / "site" / "my_kinds", tmp_path / "site" / "my_kinds-1.0.dist-info"
    for folder in (package, info):
        folder.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-kinds\nVersion: 1.0\n")
    (package / "__init__.py").touch()
    files = blocks()
    points = tomllib.loads(files["pyproject.toml"])["project"]["entry-points"]
    lines = [line for kind, of in points.items() for line in (f"[{kind}]", *(f"{key} = {of[key]}" for key in of))]
    (info / "entry_points.txt").write_text("\n".join([*lines, ""]))
    for name, text in files.items():
        if name.endswith(".py"):
            (package / name).write_text(text)
    with pytest.MonkeyPatch.context() as patch, toys(patch, tmp_path / "site"):
        yield tmp_path


class Recipes(Toyland):
    def write(self, last: int = 2) -> None:
        sources = blocks()["sources.yaml"]
        assert "last: 2" in sources
        (self.specs / "sources.yaml").write_text(sources.replace("last: 2", f"last: {last}"))
        (self.specs / "mine.yaml").write_text(blocks()["workflow.yaml"])


def test_the_recipes_work(recipes: Path) -> None:
    world = Recipes(recipes)
    world.take()
    group = world.rows(tables.run_group)[0]
    assert (group.name, group.state, group.last_run) == ("pairs-r1", "closed", 2)
    assert render(world.look(group.id, "fit").reason) == "enough 3 runs: 0 of 1; missing there are 2"
    world.write(last=3)
    world.take()
    assert world.run(group.id, "fit") == "done"
    assert [row.backend for row in world.rows(tables.generation)] == ["mine"]
    (placed,) = CONDITIONS_STORES.member("fixed")("5").listing("Laser")
    assert (placed.first_run, placed.last_run, placed.file) == (5, None, "/data/Laser.json")
    world.ledger.close()


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text().splitlines()) < 220
