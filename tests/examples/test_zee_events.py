"""The layout of event files, the mass, the selection, blocks, and what is said about broken files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from zee.events import (
    KEPT_WINDOW,
    Pairs,
    Selected,
    block,
    pair_mass,
    read_pairs,
    read_selected,
    select,
    write_pairs,
    write_selected,
)
from zee.jobio import JobError

GOOD = "7,{event},40.5,0.5,1.0,1,EB,45.25,-1.8,-2.0,-1,EE"


def four_vector_mass(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    total = np.zeros(4)
    for pt, eta, phi in (one, two):
        momentum = np.array([pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)])
        total += np.array([np.linalg.norm(momentum), *momentum])
    return float(np.sqrt(max(total[0] ** 2 - total[1:] @ total[1:], 0.0)))


def pairs(pt: float, charges: tuple[int, int] = (1, -1), region: tuple[int, int] = (0, 0)) -> Pairs:
    """One pair, back to back at eta 0: its mass is 2 pt."""
    return Pairs(
        run=np.array([1]), event=np.array([1]), pt=np.array([[pt, pt]]), eta=np.zeros((1, 2)),
        phi=np.array([[0.0, np.pi]]), charge=np.array([charges]), region=np.array([region]),
    )  # fmt: skip


momenta = st.tuples(st.floats(25, 200), st.floats(-2.5, 2.5), st.floats(-3.1, 3.1))


class TestMass:
    def test_back_to_back(self) -> None:
        assert pairs(45.5).mass() == pytest.approx([91.0])

    @given(momenta, momenta)
    def test_is_that_of_four_vectors(self, one: tuple[float, float, float], two: tuple[float, float, float]) -> None:
        arguments = [np.array([value]) for value in (*one, *two)]
        assert pair_mass(*arguments)[0] == pytest.approx(four_vector_mass(one, two), rel=1e-6, abs=1e-3)

    @given(momenta, momenta, st.floats(0.9, 1.1), st.floats(0.9, 1.1))
    def test_scales_with_the_root_of_the_product(
        self, one: tuple[float, float, float], two: tuple[float, float, float], s1: float, s2: float
    ) -> None:
        arguments = [np.array([value]) for value in (*one, *two)]
        scaled = pair_mass(arguments[0] * s1, *arguments[1:3], arguments[3] * s2, *arguments[4:])
        assert scaled[0] == pytest.approx(pair_mass(*arguments)[0] * np.sqrt(s1 * s2))


class TestSelection:
    def test_same_sign_is_dropped(self) -> None:
        assert len(select(pairs(45.0, (1, 1)))) == 0
        assert len(select(pairs(45.0, (-1, -1)))) == 0
        assert len(select(pairs(45.0, (-1, 1)))) == 1

    @pytest.mark.parametrize(("region", "category"), [((0, 0), 0), ((0, 1), 1), ((1, 0), 1), ((1, 1), 2)])
    def test_category_is_the_number_of_endcap_electrons(self, region: tuple[int, int], category: int) -> None:
        assert select(pairs(45.0, region=region)).category.tolist() == [category]

    def test_window(self) -> None:
        lower, upper = KEPT_WINDOW
        assert [len(select(pairs(mass / 2))) for mass in (lower - 0.1, lower + 0.1, upper - 0.1, upper + 0.1)] == [
            0, 1, 1, 0,
        ]  # fmt: skip


class TestBlocks:
    @given(st.integers(0, 5000), st.integers(1, 60))
    def test_disjoint_and_complete(self, total: int, jobs: int) -> None:
        parts = [list(range(total))[block(total, job, jobs)] for job in range(jobs)]
        assert [item for part in parts for item in part] == list(range(total))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1

    @pytest.mark.parametrize(("job", "jobs"), [(-1, 3), (3, 3), (0, 0)])
    def test_no_such_job(self, job: int, jobs: int) -> None:
        with pytest.raises(JobError, match="does not exist"):
            block(10, job, jobs)

    def test_blocks_of_a_file_are_its_run(self, event_file: Callable[..., Path]) -> None:
        rows = [GOOD.format(event=i) if i % 3 else GOOD.format(event=i).replace("7,", "8,", 1) for i in range(50)]
        file = event_file(*rows)
        whole = read_pairs([file], 7).event.tolist()
        assert whole == [i for i in range(50) if i % 3]
        parts = [read_pairs([file], 7, job, 4).event.tolist() for job in range(4)]
        assert [event for part in parts for event in part] == whole

    def test_more_jobs_than_events(self, event_file: Callable[..., Path]) -> None:
        file = event_file(GOOD.format(event=1))
        assert [len(read_pairs([file], 7, job, 3)) for job in range(3)] == [0, 0, 1]


class TestFiles:
    def test_columns_are_found_by_name(self, event_file: Callable[..., Path]) -> None:
        file = event_file(
            "EE,-1,x,-2.0,-1.8,45.25,EB,1,1.0,0.5,40.5,5,7",
            header="type2,Q2,ignored,phi2,eta2,pt2,type1,Q1,phi1,eta1,pt1,Event,Run",
        )
        read = read_pairs([file], 7)
        assert read.pt.tolist() == [[40.5, 45.25]]
        assert read.eta.tolist() == [[0.5, -1.8]]
        assert read.charge.tolist() == [[1, -1]]
        assert read.region.tolist() == [[0, 1]]

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            (",-1,EE", "", r"events\.csv:3: 10 fields where the header has 12; is the file truncated"),
            (",EE", ",E", r"events\.csv:3: type2 is 'E'"),
            ("40.5", "forty", r"events\.csv:3: pt1 is 'forty', not a number"),
            ("40.5", "nan", r"events\.csv:3: pt1 is 'nan', not a number"),
            ("40.5", "-40.5", r"events\.csv:3: pt1 is -40\.5, not positive"),
            (",1,EB", ",0,EB", r"events\.csv:3: Q1 is '0'"),
            ("7,2,", "x,2,", r"events\.csv:3: Run is 'x', not a whole number"),
        ],
    )
    def test_broken_row(self, event_file: Callable[..., Path], old: str, new: str, message: str) -> None:
        broken = GOOD.format(event=2).replace(old, new, 1)
        file = event_file(GOOD.format(event=1), broken)
        with pytest.raises(JobError, match=message):
            read_pairs([file], 7)

    def test_missing_columns(self, event_file: Callable[..., Path]) -> None:
        with pytest.raises(JobError, match=r"events\.csv:1: the header lacks the column type1, Q2"):
            read_pairs([event_file(header="Run,Event,pt1,eta1,phi1,Q1,pt2,eta2,phi2,type2")], 7)

    def test_empty(self, event_file: Callable[..., Path]) -> None:
        with pytest.raises(JobError, match=r"events\.csv:1: the header lacks"):
            read_pairs([event_file(content=b"")], 7)

    def test_not_utf8(self, event_file: Callable[..., Path]) -> None:
        good = (",".join(["Run"]) + "\nfoo\n").encode()
        with pytest.raises(JobError, match=r"events\.csv:3: is not UTF-8"):
            read_pairs([event_file(content=good + b"\xff\xfe\n")], 7)

    def test_no_such_file(self, tmp_path: Path) -> None:
        with pytest.raises(JobError, match="cannot be read: No such file"):
            read_pairs([tmp_path / "absent.csv"], 7)

    def test_no_event_of_the_run(self, event_file: Callable[..., Path]) -> None:
        with pytest.raises(JobError, match="no event of run 9 in"):
            read_pairs([event_file(GOOD.format(event=1))], 9)

    def test_round_trip(self, event_file: Callable[..., Path], tmp_path: Path) -> None:
        first = read_pairs([event_file(GOOD.format(event=1), GOOD.format(event=2))], 7)
        write_pairs(tmp_path / "again.csv", first)
        second = read_pairs([tmp_path / "again.csv"], 7)
        for name in ("run", "event", "pt", "eta", "phi", "charge", "region"):
            np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


class TestSelectedFiles:
    def test_round_trip_from_file_and_folder(self, tmp_path: Path) -> None:
        one = Selected(np.array([1]), np.array([2]), np.array([91.0]), np.array([0]))
        two = Selected(np.array([3, 3]), np.array([4, 5]), np.array([90.0, 80.0]), np.array([1, 2]))
        write_selected(tmp_path / "one.npz", one)
        write_selected(tmp_path / "two" / "events.npz", two)
        both = read_selected([tmp_path / "one.npz", tmp_path / "two"])
        assert both.run.tolist() == [1, 3, 3]
        assert both.mass.tolist() == [91.0, 90.0, 80.0]
        assert both.category.tolist() == [0, 1, 2]
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]

    def test_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 not an archive")
        with pytest.raises(JobError, match=r"bad\.npz: is not a file of selected events"):
            read_selected([tmp_path / "bad.npz"])
        with pytest.raises(JobError, match=r"absent\.npz: does not exist"):
            read_selected([tmp_path / "absent.npz"])
