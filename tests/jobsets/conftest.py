from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.jobsets.scripted import Story
from tests.jobsets.world import World


@pytest.fixture
def database() -> str:
    """SQLite alone: the modules that take the time for both databases import the fixture that has both."""
    return "sqlite"


@pytest.fixture
def make_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str) -> Iterator[Callable[..., World]]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made: list[World] = []

    def make(*arguments: Any, **options: Any) -> World:
        made.append(World(tmp_path, *arguments, **options))
        return made[-1]

    yield make
    for world in made:
        for key in world.backend.rounds():
            world.backend.remove(key)
        world.ledger.close()


@pytest.fixture
def tell(make_world: Callable[..., World]) -> Callable[..., Story]:
    """Begins a story on a scripted batch system."""

    def start(n_jobs: int = 1, **options: Any) -> Story:
        story = Story(make_world("true", n_jobs, **{"retries": 1, **options}))
        story.step()
        return story

    return start
