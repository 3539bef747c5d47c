"""Event files in the layout of the CMS open data, the mass of a pair, and the selection.

An event is one recorded pair of electrons. Columns that are read: ``Run Event`` and, for each of the two electrons,
``pt`` (GeV), ``eta``, ``phi`` (rad), ``Q`` (charge, ±1) and ``type`` (``EB`` barrel, ``EE`` endcap). Others are
ignored, so that a file of the open data can be read as it is.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from zee.jobio import JobError, write_whole

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

REGIONS = ("EB", "EE")
"""Names of the regions; an electron's region is its index in this tuple."""

CATEGORIES = ("EBEB", "EBEE", "EEEE")
"""Names of the categories; an event's category is its number of endcap electrons."""

COLUMNS = ("Run", "Event", "pt1", "eta1", "phi1", "Q1", "type1", "pt2", "eta2", "phi2", "Q2", "type2")
"""The columns that an event file must have, in the order in which the simulator writes them."""

WINDOWS: Mapping[str, tuple[float, float]] = {
    "70-110": (70.0, 110.0),
    "75-105": (75.0, 105.0),
    "60-120": (60.0, 120.0),
}
"""Fit windows, GeV, by name; the first is the default, the others measure the systematic error."""

DEFAULT_WINDOW = "70-110"

KEPT_WINDOW = (55.0, 130.0)
"""Masses (GeV) kept by the selection: more than the widest fit window, so that corrections can move events into it."""


@dataclass(frozen=True)
class Pairs:
    """Recorded pairs of electrons, as arrays of length n; electron quantities have shape (n, 2).

    :param run: run numbers.
    :param event: event numbers.
    :param pt: transverse momenta, GeV.
    :param eta: pseudorapidities.
    :param phi: azimuths, rad.
    :param charge: ±1.
    :param region: 0 for EB, 1 for EE.
    """

    run: IntArray
    event: IntArray
    pt: FloatArray
    eta: FloatArray
    phi: FloatArray
    charge: IntArray
    region: IntArray

    def __len__(self) -> int:
        return len(self.run)

    def mass(self) -> FloatArray:
        """Invariant masses, GeV."""
        first, second = (0, 1)
        return pair_mass(
            self.pt[:, first], self.eta[:, first], self.phi[:, first],
            self.pt[:, second], self.eta[:, second], self.phi[:, second],
        )  # fmt: skip

    def category(self) -> IntArray:
        """Categories: the numbers of endcap electrons, indices of :data:`CATEGORIES`."""
        return np.asarray(self.region.sum(axis=1), dtype=np.int64)

    def opposite_sign(self) -> BoolArray:
        """Which pairs have opposite charges."""
        return np.asarray(self.charge[:, 0] * self.charge[:, 1] < 0)

    def take(self, which: BoolArray | IntArray | slice) -> Pairs:
        """A part of the pairs.

        :param which: a mask of length n, indices, or a slice.
        """
        return Pairs(
            self.run[which], self.event[which], self.pt[which], self.eta[which], self.phi[which],
            self.charge[which], self.region[which],
        )  # fmt: skip


@dataclass(frozen=True)
class Selected:
    """Selected events, all that the fit needs, as arrays of length n.

    :param run: run numbers.
    :param event: event numbers.
    :param mass: invariant masses, GeV.
    :param category: 0 EB–EB, 1 EB–EE, 2 EE–EE.
    """

    run: IntArray
    event: IntArray
    mass: FloatArray
    category: IntArray

    def __len__(self) -> int:
        return len(self.run)

    def take(self, which: BoolArray | IntArray | slice) -> Selected:
        """A part of the events.

        :param which: a mask of length n, indices, or a slice.
        """
        return Selected(self.run[which], self.event[which], self.mass[which], self.category[which])

    def with_mass(self, mass: FloatArray) -> Selected:
        """The same events with other masses.

        :param mass: GeV, length n.
        """
        return Selected(self.run, self.event, mass, self.category)


def pair_mass(
    pt1: FloatArray, eta1: FloatArray, phi1: FloatArray, pt2: FloatArray, eta2: FloatArray, phi2: FloatArray
) -> FloatArray:
    """Invariant mass of two massless particles: m² = 2 pt1 pt2 (cosh(eta1 − eta2) − cos(phi1 − phi2)).

    :param pt1, pt2: transverse momenta, GeV.
    :param eta1, eta2: pseudorapidities.
    :param phi1, phi2: azimuths, rad.
    :returns: masses, GeV, of the arguments' common shape.
    """
    squared = 2.0 * pt1 * pt2 * (np.cosh(eta1 - eta2) - np.cos(phi1 - phi2))
    return np.asarray(np.sqrt(np.maximum(squared, 0.0)), dtype=np.float64)


def block(total: int, job: int, jobs: int) -> slice:
    """The part of ``total`` items that job ``job`` of ``jobs`` works on; the parts are disjoint and complete.

    :param total: number of items.
    :param job: 0 … jobs − 1.
    :param jobs: number of jobs.
    """
    if not 0 <= job < jobs:
        raise JobError(f"job {job} of {jobs} does not exist: jobs count from 0 to {jobs - 1}")
    return slice(job * total // jobs, (job + 1) * total // jobs)


def select(pairs: Pairs) -> Selected:
    """Opposite charges and a mass inside :data:`KEPT_WINDOW`.

    :param pairs: recorded pairs.
    """
    mass = pairs.mass()
    keep = pairs.opposite_sign() & in_window(mass, KEPT_WINDOW)
    return Selected(pairs.run[keep], pairs.event[keep], mass[keep], pairs.category()[keep])


def in_window(mass: FloatArray, window: tuple[float, float]) -> BoolArray:
    """Which masses lie in a window, lower edge included.

    :param mass: GeV.
    :param window: lower and upper edge, GeV.
    """
    return np.asarray((mass >= window[0]) & (mass < window[1]))


def read_pairs(files: Sequence[Path], run: int | None, job: int = 0, jobs: int = 1) -> Pairs:
    """Read one block of one run's events.

    :param files: event files; they may hold other runs too.
    :param run: the run's number; ``None`` for every event of every run.
    :param job: 0 … jobs − 1.
    :param jobs: number of blocks.
    :raises JobError: a file is broken, with file and line; or no file has an event of the run.
    """
    numbers: list[tuple[int, int]] = []
    electrons: list[tuple[float, ...]] = []
    for file in files:
        for row_run, row_event, row_electrons in _rows(file, run):
            numbers.append((row_run, row_event))
            electrons.append(row_electrons)
    if not numbers:
        wanted = "event" if run is None else f"event of run {run}"
        raise JobError(f"no {wanted} in {', '.join(str(file) for file in files)}")
    part = block(len(numbers), job, jobs)
    keys = np.array(numbers[part], dtype=np.int64).reshape(-1, 2)
    table = np.array(electrons[part], dtype=np.float64).reshape(-1, 2, 5)
    return Pairs(
        run=keys[:, 0], event=keys[:, 1], pt=table[:, :, 0], eta=table[:, :, 1], phi=table[:, :, 2],
        charge=table[:, :, 3].astype(np.int64), region=table[:, :, 4].astype(np.int64),
    )  # fmt: skip


def _rows(file: Path, run: int | None) -> Iterator[tuple[int, int, tuple[float, ...]]]:
    """The events of a file, or of one run in it, with the row's first ten electron quantities as numbers."""
    lines = _text(file).splitlines()
    reader = csv.reader(lines, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in COLUMNS if name not in header]
        if missing:
            raise JobError(f"{file}:1: the header lacks the column {', '.join(missing)}")
        places = [header.index(name) for name in COLUMNS]
        for row in reader:
            if not row:
                continue
            where = f"{file}:{reader.line_num}"
            if len(row) != len(header):
                raise JobError(f"{where}: {len(row)} fields where the header has {len(header)}; is the file truncated?")
            values = [row[place].strip() for place in places]
            number = _integer(values[0], "Run", where)
            if run is None or number == run:
                event = _integer(values[1], "Event", where)
                yield number, event, _electron(values[2:7], 1, where) + _electron(values[7:], 2, where)
    except csv.Error as error:
        raise JobError(f"{file}:{reader.line_num}: is not CSV: {error}") from error


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise JobError(f"{file}: cannot be read: {error.strerror}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise JobError(f"{file}:{line}: is not UTF-8 text (byte {error.start})") from error


def _electron(values: list[str], which: int, where: str) -> tuple[float, ...]:
    pt, eta, phi = (
        _finite(value, f"{name}{which}", where) for name, value in zip(("pt", "eta", "phi"), values[:3], strict=True)
    )
    if pt <= 0.0:
        raise JobError(f"{where}: pt{which} is {values[0]}, not positive")
    charge = _finite(values[3], f"Q{which}", where)
    if charge not in (-1.0, 1.0):
        raise JobError(f"{where}: Q{which} is {values[3]!r}, neither 1 nor -1")
    if values[4] not in REGIONS:
        raise JobError(f"{where}: type{which} is {values[4]!r}, neither EB nor EE")
    return pt, eta, phi, charge, float(REGIONS.index(values[4]))


def _integer(text: str, name: str, where: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise JobError(f"{where}: {name} is {text!r}, not a whole number") from None


def _finite(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise JobError(f"{where}: {name} is {text!r}, not a number")
    return number


def write_pairs(path: Path, pairs: Pairs) -> None:
    """Write an event file.

    :param path: the file.
    :param pairs: its events.
    """

    def write(target: Path) -> None:
        with target.open("w", encoding="utf-8", newline="") as stream:
            stream.write(",".join(COLUMNS) + "\n")
            names = np.array(REGIONS)[pairs.region]
            for i in range(len(pairs)):
                electrons = ",".join(
                    f"{pairs.pt[i, k]:.5f},{pairs.eta[i, k]:.6f},{pairs.phi[i, k]:.6f},"
                    f"{pairs.charge[i, k]},{names[i, k]}"
                    for k in (0, 1)
                )
                stream.write(f"{pairs.run[i]},{pairs.event[i]},{electrons}\n")

    write_whole(path, write)


def write_selected(path: Path, events: Selected) -> None:
    """Write selected events as a NumPy archive with the arrays ``run event mass category``.

    :param path: the file, ending in ``.npz``.
    :param events: the events.
    """

    def write(target: Path) -> None:
        np.savez(target, run=events.run, event=events.event, mass=events.mass, category=events.category)

    write_whole(path, write)


def read_selected(paths: Sequence[Path]) -> Selected:
    """Read and join files of selected events.

    :param paths: files written by :func:`write_selected`, or folders that hold one as ``events.npz``.
    :raises JobError: a file is missing or broken, or an event occurs twice.
    """
    parts: list[Selected] = []
    for path in paths:
        file = path / "events.npz" if path.is_dir() else path
        try:
            with np.load(file, allow_pickle=False) as archive:
                parts.append(
                    Selected(
                        archive["run"].astype(np.int64), archive["event"].astype(np.int64),
                        archive["mass"].astype(np.float64), archive["category"].astype(np.int64),
                    )
                )  # fmt: skip
        except FileNotFoundError as error:
            raise JobError(f"{file}: does not exist") from error
        except Exception as error:  # numpy and zipfile raise whatever the damaged bytes lead to
            raise JobError(f"{file}: is not a file of selected events: {error}") from error
    return Selected(
        np.concatenate([part.run for part in parts]), np.concatenate([part.event for part in parts]),
        np.concatenate([part.mass for part in parts]), np.concatenate([part.category for part in parts]),
    )  # fmt: skip
