"""The poller and what hangs on it, without an Airflow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, TaskDeferred

from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.jobsets.advance import GenerationStanding
from airflow_calib_provider.jobsets.mailbox import AwaitedResults
from airflow_calib_provider.ledger.waiting import Look
from airflow_calib_provider.sensors import ledger_sensor
from airflow_calib_provider.sensors.ledger_sensor import RunGroupSensor
from airflow_calib_provider.triggers import job_set, ledger_wait
from airflow_calib_provider.triggers.job_set import JobSetTrigger
from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger
from airflow_calib_provider.triggers.poller import LookFailed, Poller, shared
from tests.ledger.making import task, workflow


def test_a_poller_belongs_to_its_event_loop() -> None:
    looked = []

    def look(keys: Sequence[Any]) -> Mapping[Any, Any]:
        looked.append(list(keys))
        return dict.fromkeys(keys, "news")

    async def once() -> Poller:
        poller = shared("test", lambda: Poller(look, 0.01))
        assert shared("test", lambda: Poller(look, 0.01)) is poller
        async with poller.subscribe("a") as one, poller.subscribe("b") as other:
            assert await asyncio.wait_for(one.get(), 5) == "news"
            assert await asyncio.wait_for(other.get(), 5) == "news"
        return poller

    assert asyncio.run(once()) is not asyncio.run(once())


def test_a_look_that_fails_is_told_and_repeated() -> None:
    failing = [True]

    def look(keys: Sequence[Any]) -> Mapping[Any, Any]:
        if failing.pop() if failing else False:
            raise RuntimeError("no ledger")
        return dict.fromkeys(keys, "news")

    async def wait() -> None:
        async with Poller(look, 0.01).subscribe("a") as queue:
            trouble = await asyncio.wait_for(queue.get(), 5)
            assert isinstance(trouble, LookFailed)
            assert trouble.message == "RuntimeError: no ledger"
            assert await asyncio.wait_for(queue.get(), 5) == "news"

    asyncio.run(wait())


def test_a_glance_leads_to_an_early_look_at_what_is_worth_it() -> None:
    """And at nothing else; one that fails changes nothing."""
    looked: list[tuple[float, list[str]]] = []

    def look(keys: Sequence[str]) -> Mapping[str, int]:
        looked.append((time.monotonic(), list(keys)))
        return dict.fromkeys(keys, len(looked))

    def glance(known: Mapping[str, int]) -> list[str]:
        if known["b"] > 2:
            raise RuntimeError("no mailbox")
        return ["b"]

    async def wait() -> None:
        poller = Poller(look, 3, glance)
        async with poller.subscribe("a") as one, poller.subscribe("b") as other:
            told = []
            while len([keys for _, keys in looked if keys == ["a", "b"]]) < 2:
                told.append(await asyncio.wait_for(other.get(), 20))
            assert one.qsize() == 1

    asyncio.run(wait())
    both = [n for n, (_, keys) in enumerate(looked) if keys == ["a", "b"]]
    early = [keys for _, keys in looked[both[0] + 1 : both[1]]]
    assert early == [["b"]] * len(early)
    assert 1 <= len(early) <= 2
    assert looked[both[0] + 1][0] - looked[both[0]][0] < 2
    assert looked[both[1]][0] - looked[both[0]][0] > 2.9


def test_what_is_worth_an_early_look(tmp_path: Path) -> None:
    """Results enough; but not of one in trouble, for which they lie there until somebody mends it."""
    awaited = AwaitedResults(str(tmp_path), 2)
    standings = {
        1: GenerationStanding(1, "running", None, {}, awaited=awaited),
        2: GenerationStanding(2, "running", None, {}, "the disk is full", awaited=awaited),
        3: GenerationStanding(3, "running", None, {}),
        4: GenerationStanding(4, "running", None, {}, awaited=AwaitedResults(str(tmp_path / "absent"), 1)),
    }
    (tmp_path / ".part").touch()
    (tmp_path / "s1.j0.a1.w0.e1").touch()
    assert job_set.worth_a_look(standings) == []
    (tmp_path / "s1.j1.a1.w1.e1").touch()
    assert job_set.worth_a_look(standings) == [1]


def test_what_can_never_open_goes_back_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow retries a task that a TaskFailedEvent ends."""

    async def url() -> str:
        return "sqlite://"

    monkeypatch.setattr(ledger_wait, "trigger_url", url)
    monkeypatch.setattr(ledger_wait, "look_all", lambda url, loop, keys: {key: Look("never") for key in keys})

    async def events() -> list[Any]:
        return [event async for event in LedgerWaitTrigger(1, "").run()]

    (event,) = asyncio.run(events())
    assert (type(event).__name__, event.payload) == ("TriggerEvent", {"state": "never"})


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (Look("never", {"code": "dropped"}), AirflowSkipException),
        (Look("never", {"code": "all_skipped", "needs": "a.b", "total": 1}), AirflowFailException),
        (Look("waiting", {"code": "payload", "tag": "T", "done": 0, "total": 1, "missing": []}), TaskDeferred),
    ],
)
def test_how_a_sensor_ends(look: Look, expected: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    class Instance:
        def xcom_push(self, *_: object) -> None: ...

    class Group:
        id = 1

    monkeypatch.setattr(ledger_sensor, "task_ledger", lambda: None)
    monkeypatch.setattr(ledger_sensor, "group_of", lambda *_: Group)
    monkeypatch.setattr("airflow_calib_provider.ledger.waiting.look_and_record", lambda _, keys: {keys[0]: look})
    others: list[object] = []
    monkeypatch.setattr(ledger_sensor, "open_dag_runs", lambda *_, ended: others.append(ended))
    sensor = RunGroupSensor(task_id="group", workflow=workflow("ecal", task("skim")))
    for act in (sensor.execute, lambda context: sensor.execute_complete(context, {"state": "never"})):
        with pytest.raises(expected):
            act({"ti": Instance()})  # type: ignore[operator]
    assert others == ([1, 1] if expected is AirflowFailException else []), "where one has failed another may start"


def test_job_sets_are_watched_by_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that does not answer delays nobody else, and is prepared again while it is in trouble, once for all."""
    silent, prepared = threading.Event(), []

    async def url() -> str:
        return "sqlite://"

    async def prepare(name: str) -> None:
        prepared.append(name)
        if name == "condor":
            raise RuntimeError("no connection")

    def look(url: str, ids: Sequence[int]) -> Mapping[int, GenerationStanding]:
        if 1 in ids and not silent.wait(20):
            raise RuntimeError("nobody ended the test")
        trouble = "no schedd" if 1 in ids and prepared.count("condor") < 4 else ""
        return {
            number: GenerationStanding(number, "running" if trouble else "done", None, {}, trouble) for number in ids
        }

    monkeypatch.setattr(job_set, "trigger_url", url)
    monkeypatch.setattr(job_set, "prepare", prepare)
    monkeypatch.setattr(job_set, "advance_all", look)
    monkeypatch.setattr(job_set, "PREPARE_AGAIN", 0.0)
    monkeypatch.setenv("CALIB_WATCH_INTERVAL", "0.02")

    async def events(trigger: JobSetTrigger) -> list[Any]:
        return [event.payload async for event in trigger.run()]

    async def both() -> list[Any]:
        slow = [asyncio.create_task(events(JobSetTrigger(1, "condor"))) for _ in range(2)]
        fast = await asyncio.wait_for(events(JobSetTrigger(2)), 10)
        assert not any(task.done() for task in slow)
        silent.set()
        return [fast, *await asyncio.wait_for(asyncio.gather(*slow), 10)]

    assert asyncio.run(both()) == [
        [{"generation_id": 2, "state": "done"}],
        [{"generation_id": 1, "state": "done"}],
        [{"generation_id": 1, "state": "done"}],
    ]
    assert prepared.count("local") == 1
    assert prepared.count("condor") >= 4


def test_a_job_set_trigger_survives_its_serialization() -> None:
    path, arguments = JobSetTrigger(7, "condor:calib_cern").serialize()
    assert path.endswith(".JobSetTrigger")
    again = JobSetTrigger(**arguments)
    assert (again.generation_id, again.backend) == (7, "condor:calib_cern")
    assert JobSetTrigger(7).backend == "local"


def test_trouble_prepares_a_backend_at_most_every_half_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = []

    async def prepare(name: str) -> None:
        prepared.append(name)

    monkeypatch.setattr(job_set, "prepare", prepare)

    async def many() -> None:
        await JobSetTrigger(1, "condor:x")._prepare(at_once=True)
        for number in range(5):
            await JobSetTrigger(number, "condor:x")._prepare()

    asyncio.run(many())
    assert prepared == ["condor:x"]


def test_a_kill_is_tried_again_after_airflow_has_stopped_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent schedd is silent for longer than Airflow waits; and a clear in the meantime is seen."""
    tried: list[str | None] = []
    states = iter(["failed", "failed", "queued"])

    def settle(url: str, generation_id: int, state: str | None, max_tries: int) -> str:
        tried.append(state)
        if state == "failed":
            raise BackendError("the schedd did not answer within 20 s")
        return "nothing"

    async def url() -> str:
        return "sqlite://"

    async def state(trigger: JobSetTrigger) -> str:
        return next(states)

    monkeypatch.setattr(job_set, "_settle", settle)
    monkeypatch.setattr(job_set, "_max_tries", lambda url, generation_id: 8)
    monkeypatch.setattr(job_set, "trigger_url", url)
    monkeypatch.setattr(job_set, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(JobSetTrigger, "_airflow_state", state)

    async def kill() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(JobSetTrigger(1).on_kill(), timeout=0.1)
        while job_set._settling:
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(kill(), 20))
    assert tried == ["failed", "failed", "queued"]
