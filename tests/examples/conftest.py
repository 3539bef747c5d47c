"""Makes the example package importable, and gives tests a small simulated data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
EXAMPLES = TOP / "examples"
sys.path.insert(0, str(EXAMPLES))

from zee import simulate  # noqa: E402

HEADER = "Run,Event,pt1,eta1,phi1,Q1,type1,pt2,eta2,phi2,Q2,type2"


@pytest.fixture
def event_file(tmp_path: Path) -> Callable[..., Path]:
    """Writes an event file of the given rows, or of given bytes."""

    def write(*rows: str, header: str = HEADER, content: bytes | None = None) -> Path:
        path = tmp_path / "events.csv"
        path.write_bytes(content if content is not None else ("\n".join([header, *rows]) + "\n").encode())
        return path

    return write


@pytest.fixture(scope="session")
def data_set(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated data set of four runs in two fills, as the command line writes it."""
    folder = tmp_path_factory.mktemp("zee")
    simulate.main(["--out", str(folder), "--runs", "4", "--fills", "2", "--short", "1", "--seed", "7"])
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The CMS open data, or a skip with its reason."""
    path = Path(os.environ.get("CALIB_ZEE_DATA") or TOP / "../shared/data/cms-open-data/Zee_Run2011A.csv").resolve()
    if not path.is_file():
        pytest.skip(f"no real data: {path} does not exist (name the file in CALIB_ZEE_DATA)")
    return path
