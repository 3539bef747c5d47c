"""The butler of the Rubin Observatory: datasets that are certified in a calibration collection for a time span.

A tag is a dataset type. Its axis is time; here a run is a microsecond of it, counted from 1970: run 7 is
[7 µs, 8 µs). Each payload is a dataset of a RUN collection of its own, named by its content.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from airflow_calib_provider.errors import (
    NoSuchTag,
    OutsideError,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnauthorised,
    StoreUnavailable,
)
from airflow_calib_provider.outside.conditions import PlacedPayload, checked
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.contents import StoredFile, altered_files, with_hashes
from airflow_calib_provider.outside.limits import without_secrets
from airflow_calib_provider.outside.placing import Capabilities, Ref
from airflow_calib_provider.outside.writing import TagChange, WritableStore

UNIT = 1_000
"""Nanoseconds of a run."""
LATEST = 4_102_444_800_000_000_000
"""Nanoseconds: the butler's time ends with the year 2099."""


class ButlerStore(WritableStore):
    """A calibration collection of a repository; the place is ``connection/collection``."""

    name = "butler"
    place_key = "collection"
    last_run = LATEST // UNIT - 2

    def capabilities(self) -> Capabilities:
        """Ends; what overlaps is refused; several tags in one transaction."""
        return Capabilities(True, "refuse", True, False, self.last_run)

    def listing(self, tag: str) -> list[PlacedPayload]:
        """The certified datasets."""
        with self._butler() as butler:
            return self._listed(butler, tag)

    def ready(self, tags: Sequence[str]) -> None:
        """The collection and the dataset types must be there."""
        with self._butler() as butler:
            for tag in tags:
                try:
                    self._listed(butler, tag)
                except NoSuchTag as error:
                    said = (
                        "make it: `butler register-dataset-type <repository> <tag> StructuredDataDict --is-calibration`"
                    )
                    raise StoreRefused(error.message, said) from error

    def ref(self, tag: str, digest: str, file_name: str) -> Ref:
        """A RUN collection below the calibration collection."""
        return Ref(f"{self.inside}/{tag}/{digest}", digest)

    def put(self, tag: str, content: Path, ref: Ref, file_name: str) -> None:
        """A dataset in its RUN collection, which nobody looks at."""
        from lsst.daf.butler import CollectionType, DatasetRef, FileDataset

        with self._butler(writeable=True) as butler, tempfile.TemporaryDirectory(prefix="calib-butler-") as folder:
            kind = self._type(butler, tag)
            butler.collections.register(ref.file, CollectionType.RUN)
            if butler.find_dataset(kind, collections=[ref.file]) is not None:
                return
            # Its formatter goes by the ending.
            named = Path(folder) / f"{tag}{PurePosixPath(file_name).suffix}"
            shutil.copyfile(content, named)
            butler.ingest(FileDataset(path=str(named), refs=[DatasetRef(kind, {}, run=ref.file)]), transfer="copy")

    def altered(self, tag: str, listing: Sequence[PlacedPayload], *, quickly: bool = False) -> list[str]:
        """Of the files of datasets, where they are as they were brought."""
        hashes = with_hashes(listing)
        if not hashes:
            return []
        with self._butler() as butler:
            found = {one.ref.run: one.ref for one in self._certified(butler, tag) if one.ref.run in hashes}
            places = butler.get_many_uris(found.values(), allow_missing=True)
            known = {run: places[ref].primaryURI for run, ref in found.items() if ref in places}
            gone = [f"{run} has no file any more" for run in found if known.get(run) is None]
            files = [
                StoredFile(run, Path(uri.ospath), hashes[run])
                for run, uri in known.items()
                if uri is not None and uri.isLocal
            ]
            return [*gone, *altered_files(files, quickly=quickly)]

    def change(self, changes: Mapping[str, TagChange], key: str) -> str:
        """One transaction: what must go is decertified, what is missing certified."""
        from lsst.daf.butler.registry import ConflictingDefinitionError

        with self._butler(writeable=True) as butler:
            try:
                with butler.transaction():
                    for tag, change in changes.items():
                        if self._listed(butler, tag) != list(change.current):
                            raise StoreBusy(f"{tag} in {self.inside} was changed just now", "it is looked at again")
                        for one in change.extra:
                            butler.registry.decertify(self.inside, tag, _span(one.first_run, one.last_run))
                        for one in change.missing:
                            found = butler.find_dataset(tag, collections=[one.file])
                            if found is None:
                                raise StoreUnavailable(f"{one.file} has no dataset", "it is brought there again")
                            butler.registry.certify(self.inside, [found], _span(one.first_run, one.last_run))
            except ConflictingDefinitionError as error:
                raise StoreBusy(
                    f"{self.inside}: {error}", "somebody else certifies there: it is looked at again"
                ) from error
        return ""

    def _type(self, butler: Any, tag: str) -> Any:
        from lsst.daf.butler import MissingDatasetTypeError

        try:
            found = butler.get_dataset_type(tag)
        except (KeyError, MissingDatasetTypeError) as error:
            raise NoSuchTag(f"the repository has no dataset type {tag}") from error
        if not found.isCalibration():
            raise NoSuchTag(f"the dataset type {tag} is none of calibrations")
        if found.dimensions.names:
            named = ", ".join(found.dimensions.names)
            raise NoSuchTag(f"the dataset type {tag} has the dimensions {named}, and a payload has none")
        return found

    def _listed(self, butler: Any, tag: str) -> list[PlacedPayload]:
        return checked(tag, [_placed(one) for one in self._certified(butler, tag)])

    def _certified(self, butler: Any, tag: str) -> list[Any]:
        from lsst.daf.butler import CollectionType, MissingCollectionError

        kind = self._type(butler, tag)
        try:
            return list(
                butler.registry.queryDatasetAssociations(
                    kind, collections=[self.inside], collectionTypes=[CollectionType.CALIBRATION]
                )
            )
        except MissingCollectionError as error:
            raise StoreRefused(f"the repository has no collection {self.inside}", "make it, or correct it") from error

    @contextmanager
    def _butler(self, *, writeable: bool = False) -> Iterator[Any]:
        name = self.connection(self.place)
        host = outside_connection(name).host
        if not host.startswith("/"):
            raise OutsideError(f"the connection {name} has no absolute path as its host", "name the repository there")
        try:
            from lsst.daf.butler import Butler
        except ImportError as error:
            raise OutsideError(f"the butler is not installed here: {error}", "install the extra `butler`") from error
        try:
            butler = Butler.from_config(host, writeable=writeable)
            try:
                yield butler
            finally:
                butler.close()
        except OutsideError:
            raise
        except Exception as error:  # whatever the butler, its database or its files raise
            raise _fault(host, error) from error


def _fault(host: str, error: Exception) -> StoreError:
    said = f"{host}: {without_secrets(f'{type(error).__name__}: {error}', ())}"
    if "ReadOnly" in type(error).__name__ or isinstance(error, PermissionError):
        return StoreUnauthorised(said, "see who may write the repository")
    if "is not supported by Formatter" in str(error):
        return StoreRefused(said, "make the dataset type with a storage class for this file")
    return StoreUnavailable(said, "see the repository, and its connection")


def _span(first: int, last: int | None) -> Any:
    from lsst.daf.butler import Timespan

    return Timespan(None, None, _nsec=(first * UNIT, LATEST if last is None else (last + 1) * UNIT))


def _placed(one: Any) -> PlacedPayload:
    begin, end = one.timespan.nsec
    if begin % UNIT or (end < LATEST and end % UNIT):
        raise OutsideError(f"{one.ref.datasetType.name} has a time span that is no run's", "certified by hand?")
    digest = one.ref.run.rpartition("/")[2]
    known = len(digest) == 64 and set(digest) <= set("0123456789abcdef")
    return PlacedPayload(
        begin // UNIT, None if end >= LATEST else end // UNIT - 1, one.ref.run, digest if known else ""
    )


STORE = ButlerStore
