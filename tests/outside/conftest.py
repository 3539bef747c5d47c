from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.outside.server import JsonServer, json_server


@pytest.fixture
def server() -> Iterator[JsonServer]:
    with json_server() as made:
        yield made
