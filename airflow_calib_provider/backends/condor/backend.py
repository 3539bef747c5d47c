"""The HTCondor backend: see :mod:`airflow_calib_provider.backends.condor`."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from airflow_calib_provider import settings as installation
from airflow_calib_provider.backends.condor import submission
from airflow_calib_provider.backends.condor.calls import Ad, Submit, is_live, of_round
from airflow_calib_provider.backends.condor.cursor import Cursor
from airflow_calib_provider.backends.condor.folder import RoundFolder
from airflow_calib_provider.backends.condor.helper import Helper
from airflow_calib_provider.backends.condor.names import over
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.backends.condor.watch import Watch
from airflow_calib_provider.domain.observation import RoundObservations
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission
from airflow_calib_provider.errors import BackendError

_REMOVAL_PATIENCE = 60.0


class _NotGoneError(BackendError):
    """Jobs whose removal was asked for are there still."""


class _Shared:
    """What all backends of one connection in this process use together."""

    def __init__(self, settings: CondorSettings) -> None:
        self.helper = Helper(settings)
        self.watch = Watch(settings, self.helper)


_shared: dict[str, _Shared] = {}


def _shared_by(settings: CondorSettings) -> _Shared:
    # A forked process must not use its parent's helper: they would read each other's answers.
    values = dataclasses.asdict(settings) | {"defaults": dict(settings.defaults)}
    key = json.dumps([os.getpid(), str(installation.calib_home()), values], sort_keys=True, default=str)
    if key not in _shared:
        for old in [one for one in _shared if one != key and _same_connection(one, settings)]:
            # The connection was edited: nobody asks for what it was before.
            _shared.pop(old).helper.close()
        _shared[key] = _Shared(settings)
    return _shared[key]


def _same_connection(key: str, settings: CondorSettings) -> bool:
    pid, home, values = json.loads(key)
    return bool(pid == os.getpid() and home == str(installation.calib_home()) and values["name"] == settings.name)


class CondorBackend:
    """Runs jobs on an HTCondor pool.

    :param settings: how to reach it; default: this machine's schedd.
    :param spool: folder of the rounds; default ``condor`` in :func:`settings.spool_folder`.
    """

    name = "condor"

    def __init__(self, settings: CondorSettings | None = None, spool: Path | None = None) -> None:
        self.settings = settings or CondorSettings()
        self.spool = (spool or installation.spool_folder() / "condor").absolute() / self.settings.name
        shared = _shared_by(self.settings)
        self._helper = shared.helper
        self._watch = shared.watch

    def _folder(self, key: RoundKey) -> RoundFolder:
        return RoundFolder(self.spool / str(key))

    def jobs_make_folders(self, options: Mapping[str, object]) -> bool:
        """Those that share a file system do; where HTCondor carries files, it begins with what is in the folder."""
        return not self._transfers(over(self.settings.defaults, options))

    def _transfers(self, options: Mapping[str, object]) -> bool:
        return bool(options.get("transfer", self.settings.transfer))

    def submit(self, key: RoundKey, jobs: Sequence[JobSubmission], options: Mapping[str, object] | None = None) -> None:
        """Submit the jobs under this key, or find that they already are: the second call changes nothing.

        :param options: the task's block ``condor``.
        :raises SubmissionRefused: the pool will not have these jobs as they are.
        :raises BackendError: they cannot be submitted now.
        """
        folder = self._folder(key)
        if folder.cluster() is not None:
            return
        # Before all files of a large round are written again for nothing.
        self._helper.check()
        try:
            if not jobs:
                folder.prepare(jobs, {"description": {}, "names": []}, "")
                (folder.path / "cluster").write_text("0")
                return
            folder.prepare(jobs, *self._submission(key, folder, jobs, over(self.settings.defaults, options or {})))
        except OSError as error:
            hint = "is the disk full, or the folder not writable?"
            raise BackendError(f"{key} cannot be prepared in {self.spool}: {error}", hint) from error
        self._helper.call("submit", folder=str(folder.path), find=submission.this_round(key, self.spool))

    def _submission(
        self, key: RoundKey, folder: RoundFolder, jobs: Sequence[JobSubmission], options: Mapping[str, object]
    ) -> tuple[Submit, str]:
        transfer = self._transfers(options)
        if transfer:
            for job in jobs:
                submission.gather_inputs(job)
        text = submission.description(key, self.spool, folder.path, self.settings, options)
        names, items = submission.table(submission.items(jobs, transfer=transfer))
        return {"description": {**submission.extra_commands(jobs, transfer=transfer), **text}, "names": names}, items

    def poll(self, rounds: Mapping[RoundKey, str]) -> Mapping[RoundKey, RoundObservations]:
        """Look at several rounds at once: their event logs, and one query for all that these do not explain.

        :param rounds: the rounds of interest with the cursor of the last poll, ``""`` at the first.
        :returns: one entry for each round. A round that the spool does not have is finished, without observations.
            What kept the schedd from being asked stands in ``trouble``.
        :raises BackendError: a round's folder is damaged.
        """
        return self._watch.look({key: (self._folder(key), Cursor.parse(text)) for key, text in rounds.items()})

    def release(self, key: RoundKey, jobs: Iterable[int]) -> None:
        """Let held jobs of a round try again; nothing happens to those that are not held.

        :raises BackendError: they could not be released.
        """
        folder = self._folder(key)
        cluster = folder.cluster() if folder.path.is_dir() else None
        if cluster is None:
            self._check_unknown(key, folder)
        elif cluster and (procs := folder.procs().of_jobs(jobs)):
            folder.check_schedd(self._helper.call("schedd_name"))
            self._act("release", key, cluster, procs)
            # Taken for held still, it would be released again, or removed while it runs.
            self._watch.ask_soon(key)

    def remove(self, key: RoundKey, jobs: Iterable[int] | None = None) -> None:
        """Remove these jobs (all without a list) of a round, and return when they are gone; what has ended stays.

        :raises BackendError: they could not be removed, or were not gone after a minute.
        """
        self._remove(key, jobs, _REMOVAL_PATIENCE)

    def dismiss(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        """As :meth:`remove`, but what is not gone then is left to the schedd.

        :raises BackendError: their removal could not be asked for.
        """
        with suppress(_NotGoneError):
            self._remove(key, jobs, patience)

    def _remove(self, key: RoundKey, jobs: Iterable[int] | None, patience: float) -> None:
        folder = self._folder(key)
        cluster = folder.cluster() if folder.path.is_dir() else None
        if cluster is None and jobs is not None:
            self._check_unknown(key, folder)
            return
        if cluster is None:
            # Submitted by somebody who did not live to note it, or the spool was deleted.
            clusters = self._helper.call("find", constraints=[submission.this_round(key, self.spool)])
        else:
            clusters = [cluster] if cluster else []
            folder.check_schedd(self._helper.call("schedd_name") if clusters else "")
        procs = None if jobs is None else folder.procs().of_jobs(jobs)
        if procs is None or procs:
            for one in clusters:
                self._act("remove", key, one, procs)
            for one in clusters:
                self._wait_until_gone(key, folder, one, procs, patience)

    def _check_unknown(self, key: RoundKey, folder: RoundFolder) -> None:
        """:raises BackendError: the queue has the round; only its folder says which of its procs are which jobs."""
        if self._helper.call("find", constraints=[submission.this_round(key, self.spool)]):
            raise BackendError(
                f"{folder.path} is gone, or empty, though jobs of it are in the queue",
                "bring it back: it says which of them is which",
            )

    def _act(self, action: str, key: RoundKey, cluster: int, procs: list[int] | None) -> None:
        within = submission.this_key(key)
        self._helper.call(
            "act", action=action, cluster=cluster, procs=procs, reason=f"{action}d by calib", within=within
        )

    def _wait_until_gone(
        self, key: RoundKey, folder: RoundFolder, cluster: int, procs: list[int] | None, patience: float
    ) -> None:
        deadline = time.monotonic() + patience
        pause = 0.2
        while True:
            ads = of_round(self._helper.call("query", clusters=[cluster]), key)
            left = [int(ad["ProcId"]) for ad in ads if int(ad.get("ProcId", -1)) >= 0 and is_live(ad)]
            if procs is None:
                gone = not any(is_live(ad) for ad in ads)
            else:
                gone = not set(left) & set(procs)
                later = _not_materialized(ads, procs)
                if gone and later:
                    folder.note_removed(later)
            if gone:
                return
            if time.monotonic() > deadline:
                raise _NotGoneError(
                    f"cluster {cluster} of {key} has jobs that are not gone after {patience:g} s",
                    f"`condor_q {cluster}` shows them; the schedd goes on with it",
                )
            if procs is not None and (late := _untouched(ads, procs)):
                self._act("remove", key, cluster, late)
            # Each look fetches all that is left.
            pause = min(3.0, 1.5 * pause)
            time.sleep(pause)

    def rounds(self) -> Sequence[RoundKey]:
        """All rounds of this installation of which the queue has jobs.

        :raises BackendError: the schedd does not answer.
        """
        found = self._helper.call("rounds", constraint=submission.this_spool(self.spool))
        keys = []
        for text in found:
            with suppress(ValueError):  # an attribute that somebody made by hand
                keys.append(RoundKey.parse(text))
        return keys

    def forget(self, key: RoundKey) -> None:
        """Delete the folder of a round whose jobs have all ended.

        :raises BackendError: jobs have not ended, or the folder cannot be deleted.
        """
        folder = self._folder(key)
        if not folder.path.is_dir():
            return
        cluster = folder.cluster()
        if cluster:
            folder.check_schedd(self._helper.call("schedd_name"))
        if cluster and any(map(is_live, of_round(self._helper.call("query", clusters=[cluster]), key))):
            raise BackendError(
                f"{key} cannot be forgotten: its cluster {cluster} is in the queue", "poll it, or remove its jobs first"
            )
        try:
            folder.delete()
        except OSError as error:
            raise BackendError(f"{folder.path} cannot be deleted: {error}") from error

    def check(self) -> str:
        """For a connection's test: who this user is to the schedd, and which version that has.

        :raises BackendError: what is wrong.
        """
        said = self._helper.call("ping")
        version = str(said["version"]).replace("$", "").replace("CondorVersion:", "HTCondor").strip()
        return f"{self.settings.address} answers as {said['identity'] or 'an unknown user'} ({version})"

    def close(self) -> None:
        """End the helper process of the connection; a later call starts another."""
        self._helper.close()


def _untouched(ads: Iterable[Ad], procs: Iterable[int]) -> list[int]:
    """Those of these procs that are in the queue as if nobody had removed them: materialized in the meantime."""
    wanted = set(procs)
    return [
        int(ad["ProcId"]) for ad in ads if int(ad.get("ProcId", -1)) in wanted and int(ad["JobStatus"]) not in (3, 4)
    ]


def _not_materialized(ads: Iterable[Ad], procs: Iterable[int]) -> list[int]:
    following = [int(ad["JobMaterializeNextProcId"]) for ad in ads if "JobMaterializeNextProcId" in ad]
    return [number for number in procs if following and number >= max(following)]
