"""The page lists exactly what a job inherits."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_calib_provider.backends.environment import JOB

PAGE = Path(__file__).parents[2] / "docs" / "specification.md"


def test_the_page_lists_what_a_job_inherits() -> None:
    listed = re.search(r"Locally it also has, where they are set, (.*?), which say where", PAGE.read_text())
    assert listed is not None
    assert set(re.findall(r"`([A-Z0-9_*]+)`", listed[1])) == set(JOB)
