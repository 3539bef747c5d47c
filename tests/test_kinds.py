"""Tables of kinds: names, what is claimed twice, what cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from airflow_calib_provider import kinds
from airflow_calib_provider.errors import KindError
from airflow_calib_provider.kinds import Kinds

TABLE = Kinds("toy", "toys", {"own": "errors:CalibError"})


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two packages that were installed, each with its toys."""
    for package, toys in {"first": ("bear", "own", "broken"), "second": ("bear", "ball")}.items():
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        lines = [f"{toy} = {package}_toys:{toy}" for toy in toys]
        (info / "entry_points.txt").write_text("\n".join(["[airflow_calib_provider.toys]", *lines, ""]))
    (tmp_path / "first_toys.py").write_text("raise ZeroDivisionError('by a toy')\n")
    (tmp_path / "second_toys.py").write_text("ball = 'round'\n")
    monkeypatch.syspath_prepend(tmp_path)
    kinds._installed.cache_clear()
    yield tmp_path
    kinds._installed.cache_clear()


def test_own_and_installed_members_are_listed_without_loading_any(installed: Path) -> None:
    assert TABLE.names() == ("own", "ball", "bear", "broken")
    assert "ball" in TABLE
    assert "car" not in TABLE
    assert TABLE.member("ball") == "round"


def test_a_name_taken_twice_names_both(installed: Path) -> None:
    with pytest.raises(KindError, match="claimed by first and second"):
        TABLE.member("bear")
    with pytest.raises(KindError, match="claimed by airflow_calib_provider and first"):
        TABLE.member("own")


def test_whatever_a_foreign_module_raises_is_an_error_of_its_member(installed: Path) -> None:
    with pytest.raises(KindError, match="'broken' cannot be loaded: ZeroDivisionError: by a toy"):
        TABLE.member("broken")


def test_an_unknown_name_says_what_is_known() -> None:
    with pytest.raises(KindError, match="known are own"):
        TABLE.member("car")


def test_this_package_names_no_entry_points_of_its_own() -> None:
    """Its members stand in the tables; entry points are for others."""
    for table in (
        kinds.BACKENDS,
        kinds.GROUPINGS,
        kinds.LOCKS,
        kinds.RUN_SOURCES,
        kinds.PAYLOAD_STORES,
        kinds.CHANNELS,
    ):
        owners = {point.dist.name for point in metadata.entry_points(group=table.group) if point.dist}
        assert "airflow-calib-provider" not in owners
