"""Who does what, who is lost, and which results are not used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.domain.iteration.reserving import (
    Beat,
    HandedOver,
    Order,
    Worker,
    current_text,
    leaving,
    lost,
    serial_of,
    share_out,
)

NUMBERS = st.sets(st.integers(0, 7))


@given(jobs=NUMBERS, alive=NUMBERS, data=st.data())
def test_everybody_does_his_own_and_then_what_nobody_else_can(
    jobs: set[int], alive: set[int], data: st.DataObject
) -> None:
    idle = data.draw(st.sets(st.sampled_from(sorted(alive)))) if alive else set()
    orders = [Order(1, job, 1) for job in jobs]
    given_out = share_out(orders, idle, alive)
    assert len(set(given_out.values())) == len(given_out), "one order each"
    assert set(given_out.values()) <= idle
    for order, number in given_out.items():
        assert number == order.job or order.job not in alive
    for job in jobs & idle:
        assert given_out[Order(1, job, 1)] == job
    lonely, free = {job for job in jobs if job not in alive}, idle - jobs
    assert len([order for order in given_out if order.job in lonely]) == min(len(lonely), len(free)), "nobody waits"


def test_names() -> None:
    order = Order(19, 7, 2)
    assert Order.parse(str(order)) == order
    name = HandedOver(order, Worker(7, 3))
    assert (str(name), HandedOver.parse(str(name))) == ("s19.j7.a2.w7.e3", name)


def beat(worker: Worker, age: float, state: str = "running") -> Beat:
    return Beat(worker, "-", state, "host", age)


def test_lost() -> None:
    """Only whom the batch system takes for running, and by the mailbox's clock and that of the watcher."""
    fresh, old, former = Worker(0, 1), Worker(1, 2), Worker(2, 2)
    beats = {0: beat(fresh, 3), 1: beat(old, 301), 2: beat(Worker(2, 1), 1)}
    assert lost(beats, dict.fromkeys([fresh, old, former], 1000.0), 300) == [old, former]
    assert lost(beats, {old: 10.0}, 300) == [], "it was started again just now"
    assert lost({}, {Worker(3, 1): 299.0}, 300) == []
    assert lost({}, {Worker(3, 1): 301.0}, 300) == [Worker(3, 1)]
    # Of whatever clock runs a day ahead or behind.
    assert lost(beats, {fresh: 86_400.0 + 3}, 300) == []
    assert lost(beats, {fresh: -86_400.0}, 300) == []


def test_leaving() -> None:
    one, other = Worker(0, 1), Worker(1, 1)
    beats = {0: beat(one, 1, "leaving"), 1: beat(other, 1, "leaving")}
    assert leaving(beats, [one, other], {1}) == [one], "not in the midst of something"
    assert leaving(beats, [Worker(0, 2)], set()) == [], "another one is there"


def test_what_the_mailbox_says() -> None:
    text = current_text(5, {1: 1, 0: 2}, {1: Order(1, 1, 1)})
    assert text == "state go\nserial 5\nworker 0 2 -\nworker 1 1 s1.j1.a1\nend\n"
    before = serial_of(3, [1, 1], [1, 2], 2)
    later = [serial_of(3, [1, 2], [1, 2], 2), serial_of(3, [1, 1], [2, 2], 2), serial_of(3, [1, 1], [1, 2], 3)]
    assert min(later) > before
    assert serial_of(4, [1, 1], [0, 0], 0) > max(later)
