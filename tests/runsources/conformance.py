"""What every run source must do. Its tests subclass :class:`RunSourceConformance` and override fixtures only."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
from airflow_calib_provider.errors import RunSourceError
from airflow_calib_provider.kinds import RUN_SOURCES
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec.kinds import run_source_kind
from airflow_calib_provider.spec.loader import load_sources
from airflow_calib_provider.spec.models import FieldType, RunSource

VALUES: Mapping[FieldType, type | tuple[type, ...]] = {
    FieldType.INT: int,
    FieldType.FLOAT: (int, float),
    FieldType.STRING: str,
    FieldType.BOOL: bool,
    FieldType.TIME: str,
}
OF_A_RECORD = ("number", "start", "end", "completed", "files")


class RunSourceConformance:
    """A source named ``it`` of ``sources.yaml`` in a folder of its own, with at least two runs."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """With ``sources.yaml``, and all that it names."""
        raise NotImplementedError

    @pytest.fixture
    def unreadable(self, folder: Path) -> Path:
        """The same folder after something happened by which the source cannot be read."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, folder: Path) -> RunSource:
        return load_sources(folder / "sources.yaml")["it"]

    def test_it_is_in_the_table(self, source):
        assert source.kind in RUN_SOURCES
        kind = run_source_kind(source.kind)
        assert kind.name == source.kind
        for key, field in kind.keys.declared.items():
            assert field.description, f"the key {key} has no sentence for the reference"

    def test_a_source_is_json(self, source):
        assert RunSource.model_validate_json(source.model_dump_json()) == source

    def test_runs_are_complete_and_in_order(self, source, folder):
        runs = read_source(source, base_folder=folder)
        numbers = [run.number for run in runs]
        assert len(runs) >= 2
        assert numbers == sorted(set(numbers))
        assert all(0 <= number <= MAX_RUN_NUMBER for number in numbers)
        timeless = run_source_kind(source.kind).timeless
        declared = {name: kind for name, kind in source.fields.items() if name not in OF_A_RECORD}
        for run in runs:
            assert set(run.fields) == set(declared)
            for name, value in run.fields.items():
                assert value is None or isinstance(value, VALUES[declared[name]]), (name, value)
            for time in (run.start, run.end):
                assert time is None or (time.utcoffset() == timedelta(0) and not timeless)
            assert all("://" in file or Path(file).is_absolute() for file in run.files)

    def test_reading_twice_gives_the_same(self, source, folder):
        assert read_source(source, base_folder=folder) == read_source(source, base_folder=folder)

    def test_what_cannot_be_read_completely_gives_nothing(self, source, unreadable):
        with pytest.raises(RunSourceError) as caught:
            read_source(source, base_folder=unreadable)
        assert caught.value.message

    def test_warnings_are_about_keys(self, source, folder):
        kind = run_source_kind(source.kind)
        assert list(kind.warnings(source, folder)) == []
        for key, message, _ in kind.warnings(source, folder / "elsewhere"):
            assert key in kind.keys.declared
            assert message
