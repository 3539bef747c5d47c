"""The Kubernetes backend: see :mod:`airflow_calib_provider.backends.kubernetes`."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from airflow_calib_provider import settings as installation
from airflow_calib_provider.backends.kubernetes import classify, numbering, rights, rounds
from airflow_calib_provider.backends.kubernetes.client import Api, Object
from airflow_calib_provider.backends.kubernetes.folder import Created, End, Plan, RoundFolder
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.backends.kubernetes.state import RoundState, as_ending
from airflow_calib_provider.backends.kubernetes.survey import elsewhere, of_installation
from airflow_calib_provider.backends.kubernetes.watch import JobWatch, append
from airflow_calib_provider.backends.log import LogCursor
from airflow_calib_provider.domain.observation import FailureClass, RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError, SubmissionRefused

_REMOVAL_PATIENCE = 60.0

_DEAD = 20.0
"""Seconds after which a pod that should be gone is taken as gone: its node does not answer."""

_STALE = 60.0
"""Seconds after which nobody is about to submit what was prepared."""

_AT_ONCE = 200
"""Indexes that one request asks about."""

_REMOVED = End(state="removed", reason="removed", failure=FailureClass.PERSON.value)


class _NotGoneError(BackendError):
    """Pods whose deletion was asked for are there still."""


class _Shared:
    """What all backends of one connection in this process use together."""

    def __init__(self, settings: KubernetesSettings, place: tuple[int, str, str]) -> None:
        self.place = place
        self.api = Api(settings)
        self.watch = JobWatch(settings.name, self.api)


_shared: dict[str, _Shared] = {}


def _shared_by(settings: KubernetesSettings) -> _Shared:
    # A forked process must not use its parent's connections: they would read each other's answers.
    key = json.dumps([os.getpid(), str(installation.calib_home()), dataclasses.asdict(settings)], sort_keys=True)
    if key not in _shared:
        place = os.getpid(), str(installation.calib_home()), settings.name
        for old in [one for one, shared in _shared.items() if shared.place == place]:
            # The connection was edited: nobody asks for what it was before.
            _shared.pop(old).api.close()
        _shared[key] = _Shared(settings, place)
    return _shared[key]


class KubernetesBackend:
    """Runs jobs on a Kubernetes cluster.

    :param settings: how to reach it; default: the pod's service account, else the usual kubeconfig.
    :param spool: folder of the rounds, which the pods see too; default ``kubernetes`` in
        :func:`settings.spool_folder`.
    """

    name = "kubernetes"

    def __init__(self, settings: KubernetesSettings | None = None, spool: Path | None = None) -> None:
        self.settings = settings or KubernetesSettings()
        self.spool = (spool or installation.spool_folder() / "kubernetes").absolute() / self.settings.name
        shared = _shared_by(self.settings)
        self._api = shared.api
        self._watch = shared.watch

    def _folder(self, key: RoundKey) -> RoundFolder:
        return RoundFolder(self.spool / str(key))

    def jobs_make_folders(self, options: Mapping[str, object]) -> bool:
        """They do: they share a file system with this machine."""
        return True

    def as_there(self, jobs: Sequence[JobSubmission], options: Mapping[str, object]) -> Sequence[JobSubmission]:
        """The same jobs with the paths that pods have, where ``spool.mount`` says another one than ``CALIB_HOME``."""
        return rounds.for_pods(jobs, options, str(installation.calib_home().absolute()))

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """Submit the jobs under this key, or find that they already are: the second call changes nothing.

        :param options: the task's block ``kubernetes``.
        :raises SubmissionRefused: the cluster will not have these jobs as they are.
        :raises BackendError: they cannot be submitted now.
        """
        folder = self._folder(key)
        if folder.submitted() is not None:
            return
        # Before all files of a large round are written for nothing.
        self._api.check()
        with self._writing(key):
            self._clear(key, folder)
            if not folder.path.is_dir():
                self._prepare(key, folder, jobs, dict(options or {}))
            with folder.lock(wait=True):
                if not folder.path.is_dir():
                    raise BackendError(f"{key} was removed while it was submitted")
                if folder.submitted() is None:
                    self._create(folder)

    def _clear(self, key: RoundKey, folder: RoundFolder) -> None:
        """Delete the folder of a submission of which nothing came: what it was to be may be another thing by now.

        One that was just written is somebody's who goes on with it.
        """
        if not folder.path.is_dir() or folder.age() < _STALE:
            return
        with folder.lock(wait=True):
            known = folder.submitted() is not None or (
                folder.tried() and of_installation(self._api, self._of_round(key))
            )
            if not known:
                folder.delete()

    @contextmanager
    def _writing(self, key: RoundKey) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = "is the disk full, or the folder not writable?"
            raise BackendError(f"{key} cannot be submitted from {self.spool}: {error}", hint) from error

    def _prepare(
        self, key: RoundKey, folder: RoundFolder, jobs: Sequence[JobSubmission], options: dict[str, Any]
    ) -> None:
        home = str(installation.calib_home().absolute())
        if jobs:
            rounds.check(options, Path(home))
        where = {
            "home": home,
            "installation": self._watch.installation(),
            "connection": self.settings.name,
            "namespace": self._api.namespace,
            "host": self._api.host,
        }
        groups = rounds.classes(jobs)
        plan = rounds.plan(key, folder.path, groups, options, where)
        folder.prepare(
            plan, [rounds.for_pods(group, options, home) for group in groups], shell=rounds.has_shell(options)
        )

    def _create(self, folder: RoundFolder) -> None:
        plan = folder.plan()
        folder.note_tried()
        created: dict[str, Created] = {}
        try:
            for part, manifest in zip(plan.parts, plan.manifests, strict=True):
                made, warnings = rounds.create(self._api, manifest)
                created[part.name] = Created(uid=str(made["metadata"]["uid"]), warnings=warnings)
        except SubmissionRefused:
            for name in created:
                self._api.delete(f"jobs/{name}", propagationPolicy="Background")
            folder.delete()
            raise
        folder.note_submitted(created)

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        """Look at several rounds at once: at the records of their pods, and every few seconds at all Jobs.

        :param rounds: the rounds of interest with the cursor of the last poll, ``""`` at the first.
        :returns: one entry for each round. A round that the spool does not have is finished, without observations.
            What kept the cluster from being asked stands in ``trouble``.
        :raises BackendError: a round's folder is damaged.
        """
        return self._watch.look({key: (self._folder(key), LogCursor.parse(text)) for key, text in rounds.items()})

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        """Nothing is ever held here."""

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        """Remove these jobs (all without a list) of a round, and return when they are gone; what has ended stays.

        :raises BackendError: they could not be removed, or were not gone after a minute.
        """
        self._remove_of(key, jobs, _REMOVAL_PATIENCE)

    def dismiss(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        """As :meth:`remove`, but what is not gone then is left to the cluster.

        :raises BackendError: their removal could not be asked for.
        """
        self._remove_of(key, jobs, patience, later=True)

    def _remove_of(self, key: RoundKey, jobs: Iterable[int] | None, patience: float, *, later: bool = False) -> None:
        folder = self._folder(key)
        if folder.submitted() is None and (jobs is not None or self._remove_unknown(key, folder)):
            return
        with self._writing(key):
            state = RoundState.of(folder, 0.0)
            assert state is not None
            with folder.lock(wait=True):
                state.catch_up()
                for part in state.parts:
                    append(state, list(part.from_records()))
                wanted = {
                    part.part.number: None if jobs is None else set(part.part.indexes_of(jobs)) - part.ended
                    for part in state.parts
                    if part.open
                }
                for number, indexes in wanted.items():
                    if indexes is None or indexes:
                        folder.decide(number, indexes, _REMOVED)
            with suppress(_NotGoneError) if later else nullcontext():
                self._remove(key, state.plan, wanted, patience)
            with folder.lock(wait=True):
                self._note_removed(state, wanted)

    def _remove(self, key: RoundKey, plan: Plan, wanted: Mapping[int, set[int] | None], patience: float) -> None:
        said = elsewhere(self._api, plan)
        if said and wanted and not of_installation(self._api, self._of_round(key)):
            hint = f"change it back; if that cluster is gone for good, move {self._folder(key).path} out of the spool"
            raise BackendError(f"{key} cannot be removed: {said}", hint)
        waited_for: list[str] = []
        for part in plan.parts:
            if part.number not in wanted:
                continue
            indexes = wanted[part.number]
            if indexes is None:
                self._api.delete(f"jobs/{part.name}", propagationPolicy="Background")
                waited_for.append(f"{numbering.JOB_NAME}={part.name}")
            elif indexes:
                listed = sorted(indexes)
                selectors = [
                    f"{numbering.JOB_NAME}={part.name},"
                    + numbering.one_of(numbering.INDEX, listed[first : first + _AT_ONCE])
                    for first in range(0, len(listed), _AT_ONCE)
                ]
                for pod in self._live(selectors):
                    self._api.delete(f"pods/{pod['metadata']['name']}")
                waited_for += selectors
        self._wait_until_gone(key, waited_for, patience)

    def _live(self, selectors: Sequence[str]) -> list[Object]:
        """Pods that run or may run."""
        now = self._api.now().timestamp()
        return [
            pod
            for selector in selectors
            for pod in self._api.items("pods", labelSelector=selector)
            if pod["status"].get("phase") in ("Pending", "Running", "Unknown") and not _given_up(pod, now)
        ]

    def _wait_until_gone(self, key: RoundKey, selectors: Sequence[str], patience: float = _REMOVAL_PATIENCE) -> None:
        deadline = time.monotonic() + patience
        pause = 0.2
        while left := self._live(selectors):
            if time.monotonic() > deadline:
                raise _NotGoneError(
                    f"{len(left)} pods of {key} are not gone after {patience:g} s, "
                    f"such as {left[0]['metadata']['name']}",
                    "the cluster goes on with it",
                )
            pause = min(3.0, 1.5 * pause)
            time.sleep(pause)

    def _note_removed(self, state: RoundState, wanted: Mapping[int, set[int] | None]) -> None:
        state.catch_up()
        for part in state.parts:
            if part.part.number not in wanted:
                continue
            # What had ended well before its pod was removed has ended well.
            append(state, list(part.from_records()))
            indexes = wanted[part.part.number]
            left = range(len(part.part.jobs)) if indexes is None else sorted(indexes)
            append(state, [part.end(n, as_ending(_REMOVED), None) for n in left if n not in part.ended])

    def _remove_unknown(self, key: RoundKey, folder: RoundFolder) -> bool:
        """Remove Jobs that were created by somebody who did not live to note it, or whose folder is gone.

        :returns: whether that was all; else they were noted meanwhile.
        """
        # Whoever is creating them now is waited for: of what comes afterwards nobody would know.
        with self._writing(key), folder.lock(wait=True) if folder.path.is_dir() else nullcontext():
            if folder.submitted() is not None:
                return False
            for name in of_installation(self._api, self._of_round(key)):
                self._api.delete(f"jobs/{name}", propagationPolicy="Background")
                self._wait_until_gone(key, [f"{numbering.JOB_NAME}={name}"])
            folder.delete()
            return True

    def _of_round(self, key: RoundKey) -> str:
        digest = numbering.digest(self._watch.installation(), key)
        return f"{self._watch.selector()},{numbering.ROUND}={digest}"

    def rounds(self) -> Sequence[RoundKey]:
        """All rounds of this installation of which the cluster has Jobs that have not ended.

        :raises BackendError: the server does not answer.
        """
        found = set()
        for job in of_installation(self._api, self._watch.selector()).values():
            with suppress(ValueError):  # an annotation that somebody made by hand
                key = RoundKey.parse(job["metadata"].get("annotations", {}).get(numbering.KEY, ""))
                if _is_live(job) and not self._has_ended(key):
                    found.add(key)
        return sorted(found)

    def _has_ended(self, key: RoundKey) -> bool:
        """Whether all that the round's folder knows of has ended."""
        with self._writing(key):
            state = RoundState.of(self._folder(key), 0.0)
            if state is not None:
                state.catch_up()
            return state is not None and not state.open

    def forget(self, key: RoundKey) -> None:
        """Delete the Jobs and the folder of a round whose jobs have all ended.

        :raises BackendError: jobs have not ended, or what is there cannot be deleted.
        """
        folder = self._folder(key)
        if not folder.path.is_dir():
            return
        noted = folder.submitted()
        known = folder.tried() if noted is None else not self._has_ended(key)
        if known and (noted is not None or of_installation(self._api, self._of_round(key))):
            raise BackendError(
                f"{key} cannot be forgotten: it has jobs that have not ended", "poll it, or remove its jobs first"
            )
        for name in noted or ():
            self._api.delete(f"jobs/{name}", propagationPolicy="Background")
        with self._writing(key):
            folder.delete()

    def check(self) -> str:
        """Who answers, as whom one is known there, and which right is missing.

        :raises BackendError: what is wrong.
        """
        return rights.check(self._api)

    def close(self) -> None:
        """Close the connections to the API server, of all backends of the connection; a later call opens others."""
        self._api.close()


def _is_live(job: Object) -> bool:
    status = job.get("status", {})
    ended = [numbering.indexes(status.get(name, "")) for name in ("completedIndexes", "failedIndexes")]
    return sum(map(len, ended)) < job["spec"]["completions"] and "deletionTimestamp" not in job["metadata"]


def _given_up(pod: Object, now: float) -> bool:
    """Whether a pod should have been gone for long: whoever is to say so is a node that does not answer."""
    due = classify.moment(pod["metadata"].get("deletionTimestamp"))
    return due is not None and now - due.timestamp() > _DEAD
