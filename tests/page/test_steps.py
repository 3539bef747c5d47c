"""What the page of a group shows of a task that iterates."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from airflow_calib_provider.page.app import make_app
from tests.jobsets.iterations import Iterations
from tests.page.conftest import asking
from tests.page.test_views import Text


def test_steps_and_their_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path / "calib"))
    monkeypatch.delenv("CALIB_LEDGER", raising=False)
    place = Iterations(tmp_path)
    generation = place.begin()
    assert place.finish(generation, 60).state == "done"
    client = TestClient(make_app(lambda: place.ledger, asking), headers={"dags": "zee__run"})
    found = client.get("/group?name=run-r1")
    assert found.status_code == 200
    text = str(Text(found.text))
    assert "Steps of scale" in text
    (last,) = place.masses(generation)[-1:]
    assert f"mass {last:.5g}" in text
    assert '<figure class="picture" role="img" aria-label="metrics of scale over its steps"><svg ' in found.text
    assert found.text.count("<circle ") == len(place.masses(generation)) > 1
    place.ledger.close()
