"""The fixture ``person``: somebody in front of the module's Airflow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.browser.person import Person, browsing
from tests.cache import UnavailableError
from tests.integration.harness import Installation


@pytest.fixture(scope="module")
def visitor(installation: Installation) -> Iterator[Person]:
    """Whose browser is open as long as the module runs: its driver has an event loop, beside which no other may run."""
    try:
        with browsing(installation.airflow.url, installation.folder) as made:
            yield made
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def person(visitor: Person) -> Person:
    """At home."""
    visitor.go_home()
    return visitor
