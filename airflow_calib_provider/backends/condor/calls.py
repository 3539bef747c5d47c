"""The helper process: ``python -m airflow_calib_provider.backends.condor.calls FOLDER``.

It reads calls from its standard input and writes answers to its standard output, each a length and JSON, one after the
other, and ends with its standard input. Nothing else of this package talks to a pool.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypedDict

from airflow_calib_provider.backends.condor.constraints import chunks, few_ranges, history_end, of_clusters, ranges
from airflow_calib_provider.backends.left import write_durably

Ad: TypeAlias = Mapping[str, bool | int | float | str]
"""The plain values of an ad or of an event: the only ones that leave the process with the bindings."""

if TYPE_CHECKING:
    from airflow_calib_provider.backends.condor.analysis import FullAd

_LENGTH = struct.Struct("!Q")

ATTRIBUTES = (
    "CalibRound",
    "ClusterId",
    "ProcId",
    "JobStatus",
    "ExitCode",
    "ExitBySignal",
    "ExitSignal",
    "RemoteHost",
    "LastRemoteHost",
    "HoldReason",
    "HoldReasonCode",
    "HoldReasonSubCode",
    "RemoveReason",
    "JobCurrentStartDate",
    "CompletionDate",
    "EnteredCurrentStatus",
    "MemoryUsage",
    "JobRunCount",
    "JobMaterializeNextProcId",
    "JobMaterializePaused",
    "JobFactoryPaused",
    "JobMaterializePauseReason",
    "TotalSubmitProcs",
)
"""What is asked of a job's ad."""

_NO_ANSWER = (
    "connect",
    "communicat",
    "timeout",
    "timed out",
    "locate",
    "unable to",
    "failed to fetch",
    "failed to send",
)
"""Words of errors after which the next call would only wait in vain again."""

_REFUSALS = re.compile(
    r"failed to (create job ad|create a cluster ad|make submit digest|append queue statement)"
    # With a reason of the schedd's own, such as a SUBMIT_REQUIREMENT; without one the connection broke.
    r"|unable to commit\w* transaction\W+(SCHEDD|QMGMT):",
    re.IGNORECASE,
)
"""What the bindings say of jobs that the pool will not have; whatever else fails in a submission may pass."""


class Submit(TypedDict):
    """What a round's ``submit.json`` holds."""

    description: dict[str, str]
    names: list[str]


class PoolRefused(Exception):
    """The pool will not have these jobs as they are."""


class Calls:
    """The calls, each with JSON-able arguments and result."""

    def __init__(self) -> None:
        import classad2
        import htcondor2

        self._condor = htcondor2
        self._classad = classad2
        # What the bindings complain about goes to standard error, and from there into answers.
        htcondor2.enable_debug()
        self._found: Any = None  # the bindings have no types
        self._name = ""

    def _schedd(self) -> Any:
        if self._found is None:
            condor = self._condor
            collector = condor.Collector()
            name = condor.param.get("SCHEDD_HOST")
            ad = (
                collector.locate(condor.DaemonType.Schedd, name) if name else collector.locate(condor.DaemonType.Schedd)
            )
            self._found = condor.Schedd(ad)
            self._name = str(ad.get("Name", "") or "")
        return self._found

    def forget_address(self) -> None:
        """A schedd that was started again may have another one."""
        self._found = None

    def ping(self) -> dict[str, str]:
        """Whether the schedd answers and knows this user, for a connection's test."""
        schedd = self._schedd()
        ad = self._condor.ping(schedd._addr, "WRITE")
        return {"version": schedd._version, "identity": str(ad.get("MyRemoteUserName", "") or "")}

    def schedd_name(self) -> str:
        """What the collector calls the schedd that is asked."""
        self._schedd()
        return self._name

    def submit(self, folder: str, find: str) -> int:
        """Submit the round in this folder, or find that it is submitted.

        All of it happens under a lock that this process holds: whoever asked for it may die without a second process
        submitting the same meanwhile.

        :param find: a constraint that is true for this round's jobs only.
        :returns: the cluster's number.
        """
        path = Path(folder)
        with (path / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = _known_cluster(path)
            cluster = known if known is not None else self._find(find, path)
            if cluster is None:
                write_durably(path / "tried", "")
                cluster = self._submit_now(json.loads((path / "submit.json").read_text()), path / "items")
            if known is None:
                write_durably(path / "schedd", self.schedd_name())
                write_durably(path / "cluster", str(cluster))
        return cluster

    def _find(self, constraint: str, path: Path) -> int | None:
        """The cluster of a submission that somebody did not live to note."""
        clusters = self.find([constraint])
        tried = path / "tried"
        if not clusters and tried.exists():
            # Without a try there is nothing to be found, and all of a long history would be searched for it.
            since = history_end(tried.stat().st_mtime)
            ads = self._schedd().history(constraint, ["ClusterId"], 1, since=since)
            clusters = [int(ad["ClusterId"]) for ad in ads]
        return min(clusters) if clusters else _cluster_in_log(self._condor, path / "log")

    def _submit_now(self, wanted: Submit, items: Path) -> int:
        try:
            submit = self._condor.Submit(wanted["description"])
        except (ValueError, RuntimeError, TypeError) as error:
            raise PoolRefused(str(error)) from error
        schedd = self._schedd()
        try:
            # A file, not the parameter itemdata: with that the bindings copy all items once for each of them.
            result = schedd.submit(submit, queue=f"1 {','.join(wanted['names'])} from {items}")
        except (ValueError, TypeError) as error:
            raise PoolRefused(_plain(error)) from error
        except Exception as error:
            if _REFUSALS.search(str(error)) is None:
                raise
            raise PoolRefused(_plain(error)) from error
        return int(result.cluster())

    def find(self, constraints: Sequence[str]) -> list[int]:
        """The clusters in the queue that fulfil one of these, in order."""
        options = self._condor.QueryOpts.IncludeClusterAd
        joined = " || ".join(f"({one})" for one in constraints)
        ads = self._schedd().query(joined, ["ClusterId"], opts=options)
        return sorted({int(ad["ClusterId"]) for ad in ads})

    def rounds(self, constraint: str) -> list[str]:
        """The keys of the rounds of which jobs are in the queue, or will be."""
        options = self._condor.QueryOpts.IncludeClusterAd
        ads = self._schedd().query(constraint, list(ATTRIBUTES), opts=options)
        return sorted({str(ad["CalibRound"]) for ad in ads if "CalibRound" in ad and is_live(ad)})

    def query(self, clusters: Sequence[int]) -> list[Ad]:
        """What the queue has of these clusters; an ad without ``ProcId`` is a cluster's own."""
        options = self._condor.QueryOpts.IncludeClusterAd
        return self._plain(self._schedd().query(of_clusters(clusters), list(ATTRIBUTES), opts=options))

    def history(self, procs: Sequence[tuple[int, Sequence[int]]], since: float) -> list[Ad]:
        """What the history has of these procs, and perhaps of some between them.

        :param procs: cluster and procs.
        :param since: they were submitted after that (seconds since 1970).
        """
        parts, match = [], 0
        for cluster, numbers in procs:
            of_procs, count = few_ranges("ProcId", numbers)
            parts.append(f"(ClusterId == {cluster} && ({of_procs}))")
            match += count
        ads = self._schedd().history(" || ".join(parts), list(ATTRIBUTES), match, since=history_end(since))
        return self._plain(ads)

    def act(self, action: str, cluster: int, procs: Sequence[int] | None, reason: str, within: str = "true") -> int:
        """Remove or release jobs; those that are not there are no error.

        :param within: a constraint: nothing else is touched, whatever has the cluster's number now.
        :param procs: all of the cluster without a list: then nothing more is materialized either.
        :returns: on how many jobs it had an effect.
        """
        act = {"remove": self._condor.JobAction.Remove, "release": self._condor.JobAction.Release}[action]
        done = 0
        for some in [None] if procs is None else list(chunks(procs, 500)):
            constraint = f"ClusterId == {cluster} && ({within})"
            if some is not None:
                constraint += f" && ({ranges('ProcId', some)})"
            ad = self._schedd().act(act, constraint, (reason, 0))
            if int(ad.get("TotalPermissionDenied", 0)):
                raise RuntimeError(
                    f"the schedd does not let this user {action} jobs of cluster {cluster}: permission denied"
                )
            done += int(ad.get("TotalSuccess", 0))
        return done

    def idle_reason(self, cluster: int, proc: int, seconds: int = 5) -> str | None:
        """Why an idle job does not start, as the pool's ads tell it; ``None`` if that was not to be learned in time.

        :param seconds: the time that collector and analysis may take: a pool may be large, and its collector silent,
            which no time-out of the bindings ends.
        """
        jobs = self._schedd().query(f"ClusterId == {cluster} && ProcId == {proc}")
        if not jobs:
            return ""
        # In a process of its own, which alone can be ended: this one has the schedd's address, and answers.
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            with contextlib.suppress(BaseException):
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(seconds)
                said = ""
                with contextlib.suppress(Exception):  # such as an expression that cannot be read
                    said = self._idle_reason(jobs[0])
                os.write(writing, b"." + said.encode(errors="replace")[:4000])
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as stream:
            told = stream.read()
        os.waitpid(child, 0)
        return told[1:].decode(errors="ignore") if told else None

    def _idle_reason(self, job: FullAd) -> str:
        from airflow_calib_provider.backends.condor.analysis import why_idle

        condor = self._condor
        try:
            machines = condor.Collector().query(condor.AdType.Startd, 'SlotType =!= "Dynamic"')
        except Exception:  # noqa: BLE001 - the schedd answers: the connection is not in trouble, nor its address wrong
            return ""
        return why_idle(self._classad, job, machines)

    def _plain(self, ads: Iterable[FullAd]) -> list[Ad]:
        plain: list[Ad] = []
        for ad in ads:
            one: dict[str, bool | int | float | str] = {}
            for name in ATTRIBUTES:
                if name in ad:
                    value = ad.eval(name)
                    if isinstance(value, bool | int | float | str):
                        one[name] = value
            plain.append(one)
        return plain


def of_round(ads: Iterable[Ad], key: object) -> list[Ad]:
    """The ads of a round's own jobs: a schedd that lost its spool gives numbers of clusters again."""
    return [ad for ad in ads if ad.get("CalibRound") == str(key)]


def is_live(ad: Ad) -> bool:
    """Whether an ad in the queue is a job that has not ended, or a cluster of which jobs are to be materialized.

    A job that has ended, and its cluster, stay in the queue for a moment.
    """
    if int(ad.get("ProcId", -1)) >= 0:
        return int(ad.get("JobStatus", 0)) != 4
    return int(ad.get("JobMaterializeNextProcId", 0)) < int(ad.get("TotalSubmitProcs", 0))


def _known_cluster(path: Path) -> int | None:
    try:
        return int((path / "cluster").read_text())
    except FileNotFoundError:
        return None


def _cluster_in_log(condor: ModuleType, log: Path) -> int | None:
    """The first cluster that an event log tells of: the schedd writes it together with the jobs."""
    if not log.is_file() or not log.stat().st_size:
        return None
    with condor.JobEventLog(str(log)) as events:
        for event in events.events(0):
            return int(event.cluster)
    return None


def _plain(error: BaseException) -> str:
    return " ".join(str(error).split()).rstrip(" ,;:") or type(error).__name__


def _no_answer(error: BaseException) -> bool:
    text = str(error).lower()
    return any(word in text for word in _NO_ANSWER)


_HINTS = (
    (("authenticat", "auth method", "permission", "denied", "not authorized", "unauthorized"),
     "does the token, or the authentication method, of the connection fit this schedd?"),
    (("locate",), "do the collector and the name of the schedd in the connection fit, and does the schedd run?"),
    (("connect", "communicat", "fetch"), "does the schedd run, and can this machine reach it?"),
    (("no space", "quota", "disk full", "item data", "commit"), "is the disk of the schedd's spool full?"),
)  # fmt: skip


def _hint(text: str) -> str:
    return next((hint for words, hint in _HINTS if any(word in text.lower() for word in words)), "")


def _complaints(file: Path) -> str:
    """What the bindings said on standard error during a call: their exceptions alone tell little."""
    lines = file.read_text(errors="replace").splitlines()
    told = [re.sub(r"^\d\d/\d\d/\d\d \d\d:\d\d:\d\d ", "", line) for line in lines if line.strip()]
    return " | ".join(dict.fromkeys(told))[-600:]


def _answer(calls: Calls, message: Mapping[str, object], complaints: Path) -> dict[str, object]:
    function: Callable[..., object] = getattr(calls, str(message["call"]))
    arguments = message["arguments"]
    assert isinstance(arguments, dict)
    os.truncate(complaints, 0)
    try:
        return {"result": function(**arguments)}
    except PoolRefused as error:
        return {"refused": str(error), "hint": _hint(str(error))}
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        calls.forget_address()
        text = " | ".join(part for part in (_plain(error), _complaints(complaints)) if part)
        return {"error": text, "hint": _hint(text), "silent": _no_answer(error)}


def _read(stream: BinaryIO) -> dict[str, object] | None:
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    return json.loads(body) if len(body) == length else None


def _write(stream: BinaryIO, message: Mapping[str, object]) -> None:
    body = json.dumps(message).encode()
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def main(arguments: Sequence[str]) -> int:
    """Answer calls until the standard input ends, then remove the private folder."""
    (private,) = arguments
    # Whatever the bindings print must not get between the answers.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        calls = Calls()
    except ImportError as error:
        _write(
            output,
            {
                "error": f"the HTCondor bindings cannot be loaded: {error}",
                "hint": "pip install 'airflow-calib-provider[condor]'",
            },
        )
        return 1
    _write(output, {"result": "ready"})
    with contextlib.suppress(BrokenPipeError):
        while (message := _read(sys.stdin.buffer)) is not None:
            _write(output, _answer(calls, message, Path(private) / "errors"))
    _remove(Path(private))
    return 0


def _remove(private: Path) -> None:
    import shutil

    shutil.rmtree(private, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
