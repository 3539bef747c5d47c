"""Rubin's butler as an outside store, with a real one on SQLite."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("lsst.daf.butler", reason="the extra `butler` is not installed")

from lsst.daf.butler import Butler, CollectionType, DatasetRef, DatasetType, FileDataset
from lsst.daf.butler._registry_shim import RegistryShim
from lsst.daf.butler.direct_butler import DirectButler
from lsst.daf.butler.registry import ConflictingDefinitionError

from airflow_calib_provider.errors import OutsideError, StoreRefused
from airflow_calib_provider.outside import conditions_butler
from airflow_calib_provider.outside.conditions import PlacedPayload
from airflow_calib_provider.outside.conditions_butler import ButlerStore
from airflow_calib_provider.outside.connections import OutsideConnection, look_up_with
from tests.outside.conformance import ConditionsStoreConformance, Interval, Put
from tests.outside.faults import CallFaults
from tests.outside.writing import KeptContentsConformance, WritableStoreConformance


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to copy."""
    path = tmp_path_factory.mktemp("butler") / "empty"
    Butler.makeRepo(str(path))
    with Butler.from_config(str(path), writeable=True) as butler:
        butler.collections.register("calib/prompt", CollectionType.CALIBRATION)
        of_instruments = butler.dimensions.conform(["instrument"])
        butler.registry.registerDatasetType(
            DatasetType("Flat", of_instruments, "StructuredDataDict", isCalibration=True)
        )
        butler.registry.registerDatasetType(DatasetType("Raw", butler.dimensions.conform([]), "StructuredDataDict"))
    return path


@pytest.fixture(autouse=True)
def repository(empty: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "repository"
    shutil.copytree(empty, path)
    look_up_with({"rubin": OutsideConnection("rubin", "calib_butler", host=str(path))}.get)
    yield path
    look_up_with(lambda name: None)


def _register(path: Path, *tags: str) -> None:
    with Butler.from_config(str(path), writeable=True) as butler:
        for tag in tags:
            kind = DatasetType(tag, butler.dimensions.conform([]), "StructuredDataDict", isCalibration=True)
            butler.registry.registerDatasetType(kind)


class _Faults(CallFaults):
    """What changes something in the butler fails, or whoever calls it dies."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        away = "the disk of the repository"
        super().__init__(OSError(f"{away} is away"), OSError(f"{away} was away for a moment"))
        for owner, name in ((DirectButler, "ingest"), (RegistryShim, "certify"), (RegistryShim, "decertify")):
            monkeypatch.setattr(owner, name, self.wrapped(getattr(owner, name)))
        real = DirectButler.transaction

        @contextmanager
        def transaction(butler: DirectButler) -> Iterator[None]:
            with real(butler):
                yield
            self.wrapped(lambda: None)()  # it is committed, and whoever did it does not get to know

        monkeypatch.setattr(DirectButler, "transaction", transaction)


class TestButler(ConditionsStoreConformance, WritableStoreConformance, KeptContentsConformance):
    some = 3

    @pytest.fixture
    def name(self) -> str:
        return "butler"

    @pytest.fixture
    def place(self) -> str:
        return "rubin/calib/prompt"

    @pytest.fixture
    def no_place(self) -> str:
        return "rubin"

    @pytest.fixture
    def put(self, repository: Path, tmp_path: Path) -> Put:
        def write(tag: str, intervals: Iterable[Interval]) -> None:
            store = ButlerStore("rubin/calib/prompt")
            file = tmp_path / "by-hand.yaml"
            file.write_text("by: hand")
            with Butler.from_config(str(repository), writeable=True) as butler:
                kind = DatasetType(tag, butler.dimensions.conform([]), "StructuredDataDict", isCalibration=True)
                butler.registry.registerDatasetType(kind)
                if store.current(tag):  # of a type that it never had, the butler dies
                    butler.registry.decertify(store.inside, tag, conditions_butler._span(0, None))
                known: dict[str, DatasetRef] = {}
                ordered = sorted(intervals)
                for (first, last, name), (following, *_) in zip(ordered, [*ordered[1:], (None,)], strict=True):
                    if last is None and following is not None:
                        last = following - 1
                    if last is not None and last < first:
                        raise ValueError("the butler takes no such time span")
                    if name not in known:
                        run = f"hand/{tag}/{name}"
                        butler.collections.register(run, CollectionType.RUN)
                        known[name] = butler.find_dataset(kind, collections=[run]) or DatasetRef(kind, {}, run=run)
                        if not butler.stored(known[name]):
                            butler.ingest(FileDataset(path=str(file), refs=[known[name]]), transfer="copy")
                    try:
                        butler.registry.certify(store.inside, [known[name]], conditions_butler._span(first, last))
                    except ConflictingDefinitionError as error:
                        raise ValueError(str(error)) from error

        return write

    @pytest.fixture
    def breaks(self, repository: Path) -> Callable[[], None]:
        return lambda: shutil.rmtree(repository)

    @pytest.fixture
    def ready_tags(self, repository: Path) -> Callable[[], tuple[str, str]]:
        numbers = iter(range(1000))

        def make() -> tuple[str, str]:
            number = next(numbers)
            tags = f"Scale{number}", f"Errors{number}"
            _register(repository, *tags)
            return tags

        return make

    @pytest.fixture
    def faults(self, monkeypatch: pytest.MonkeyPatch) -> _Faults:
        return _Faults(monkeypatch)

    @pytest.fixture
    def spoil(self, repository: Path) -> Callable[[ButlerStore, PlacedPayload, str | None], None]:
        def change(_: ButlerStore, one: PlacedPayload, text: str | None) -> None:
            (file,) = (file for file in (repository / one.file).rglob("*") if file.is_file())
            file.unlink()
            if text is not None:
                file.write_text(text)

        return change

    # A listing is read in a thread by locks; each opens a butler of its own, which takes a second.
    def test_several_may_ask_at_once(self, store, put):
        put("Laser", [(run, run, "a") for run in range(1, 20)])
        assert len(store.listing("Laser")) == 19


def test_types_of_other_shape_are_refused():
    store = ButlerStore("rubin/calib/prompt")
    for tag, said in (("Flat", "dimensions instrument"), ("Raw", "none of calibrations"), ("Other", "no dataset type")):
        with pytest.raises(StoreRefused, match=said):
            store.ready([tag])


def test_a_time_span_that_is_no_runs_is_told(repository, tmp_path):
    from lsst.daf.butler import Timespan

    _register(repository, "Scale")
    file = tmp_path / "x.yaml"
    file.write_text("a: 1")
    with Butler.from_config(str(repository), writeable=True) as butler:
        butler.collections.register("mine", CollectionType.RUN)
        ref = DatasetRef(butler.get_dataset_type("Scale"), {}, run="mine")
        butler.ingest(FileDataset(path=str(file), refs=[ref]), transfer="copy")
        butler.registry.certify("calib/prompt", [ref], Timespan(None, None, _nsec=(1500, 2700)))
    with pytest.raises(OutsideError, match="no run's"):
        ButlerStore("rubin/calib/prompt").listing("Scale")


def test_a_file_of_another_form_is_refused(repository, tmp_path):
    _register(repository, "Scale")
    file = tmp_path / "x"
    file.write_text("a")
    store = ButlerStore("rubin/calib/prompt")
    with pytest.raises(StoreRefused, match="storage class"):
        store.put("Scale", file, store.ref("Scale", "ab" * 32, "x.root"), "x.root")
    assert store.listing("Scale") == []
