"""The helper process of a connection, seen from the process that needs it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_calib_provider import settings as installation
from airflow_calib_provider.backends import environment
from airflow_calib_provider.backends.condor.settings import CondorSettings
from airflow_calib_provider.errors import BackendError, SubmissionRefused

_LENGTH = struct.Struct("!Q")
_PATIENT = {"submit": 3.0, "history": 3.0}
"""Calls that may take so many times longer than the others: their work grows with the number of jobs."""

_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0

_BEING_MADE = 60.0
"""Seconds for which a helper's folder may not be locked yet."""

_START_PATIENCE = 30.0
"""Seconds for the helper to import the bindings, on a machine that does much else."""


class Helper:
    """Makes the calls of one connection, one after the other, in a process that is killed when it does not answer.

    After a call without an answer others fail at once, for a while that grows: callers hear what is wrong instead of
    waiting for it again. The first answer ends that.
    """

    def __init__(self, settings: CondorSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._private: Path | None = None
        self._trouble: BackendError | None = None
        self._pause = 0.0
        self._not_before = 0.0

    def call(self, name: str, **arguments: object) -> Any:
        """Have a call made, and wait for its answer.

        :param name: a function of :mod:`airflow_calib_provider.backends.condor.calls`.
        :raises SubmissionRefused: the pool will not have these jobs as they are.
        :raises BackendError: the pool did not answer in time, or refused.
        """
        with self._lock:
            self.check()
            try:
                answer = self._call(name, arguments)
            except BackendError as error:
                self._note_trouble(error)
                raise
            self._trouble, self._pause = None, 0.0
        hint = str(answer.get("hint", ""))
        if refused := answer.get("refused"):
            raise SubmissionRefused(str(refused), hint)
        if said := answer.get("error"):
            raise BackendError(f"{self.settings.address}: {said}", hint)
        return answer["result"]

    def check(self) -> None:
        """Whether a call would be tried now.

        :raises BackendError: not yet again, and why.
        """
        trouble = self._trouble
        if trouble is not None and time.monotonic() < self._not_before:
            raise BackendError(trouble.message, trouble.hint)

    def _note_trouble(self, error: BackendError) -> None:
        self._pause = min(_LONGEST_PAUSE, max(_FIRST_PAUSE, 2 * self._pause))
        self._not_before = time.monotonic() + self._pause
        self._trouble = error

    def _call(self, name: str, arguments: Mapping[str, object]) -> dict[str, object]:
        limit = self.settings.timeout * _PATIENT.get(name, 1.0)
        process = self._running()
        try:
            self._send(process, {"call": name, "arguments": arguments}, limit)
            answer = self._receive(process, limit)
        except TimeoutError:
            self._kill()
            raise BackendError(
                f"{self.settings.address} did not answer within {limit:g} s",
                f"is it overloaded or stopped? (connection {self.settings.name})",
            ) from None
        except (OSError, EOFError, ValueError) as error:
            said = self._last_words()
            self._kill()
            raise BackendError(
                f"the helper process of the connection {self.settings.name} died: {said or error}"
            ) from None
        if answer.get("silent"):
            # An error of the network: the next caller need not wait for it again.
            raise BackendError(f"{self.settings.address}: {answer['error']}", str(answer.get("hint", "")))
        return answer

    # The process

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._kill()
        self._private = self._private_folder()
        command = [sys.executable, "-m", "airflow_calib_provider.backends.condor.calls", str(self._private)]
        try:
            with (self._private / "errors").open("ab") as errors, (self._private / "alive").open("w") as alive:
                # Held for as long as the helper lives, which has it from here.
                fcntl.flock(alive, fcntl.LOCK_EX)
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=self._environment(self._private),
                    pass_fds=[alive.fileno()],
                    # A signal to the group of a task, or of a terminal, must not end a submission in the middle.
                    start_new_session=True,
                )
        except (OSError, ValueError) as failed:
            # No file or process is left to this one, or a setting cannot be passed on.
            self._kill()
            raise BackendError(
                f"the helper process of the connection {self.settings.name} cannot be started: {failed}"
            ) from None
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
        try:
            started = self._receive(self._process, _START_PATIENCE)
        except (TimeoutError, OSError, EOFError, ValueError):
            said = self._last_words()
            self._kill()
            raise BackendError(
                f"the helper process of the connection {self.settings.name} does not start: {said or 'no answer'}"
            ) from None
        if error := started.get("error"):
            self._kill()
            raise BackendError(str(error), str(started.get("hint", "")))
        return self._process

    def _private_folder(self) -> Path:
        """A folder that nobody else can look into, for the token and for what the helper complains about."""
        parent = installation.calib_home() / "private"
        try:
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _clean(parent)
            folder = Path(tempfile.mkdtemp(prefix=f"condor-{os.getpid()}-", dir=parent))
            tokens = folder / "tokens.d"
            tokens.mkdir(mode=0o700)
            if self.settings.token:
                file = os.open(tokens / "calib", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(file, "w") as stream:
                    stream.write(self.settings.token.strip() + "\n")
            elif self.settings.token_file:
                token = Path(self.settings.token_file).expanduser()
                if not os.access(token, os.R_OK):
                    raise BackendError(
                        f"the token file {token} of the connection {self.settings.name} cannot be read",
                        "does it exist, and may this user read it?",
                    )
                # A link, so that a token that is renewed in its place is the renewed one here.
                (tokens / "calib").symlink_to(token)
        except OSError as error:
            raise BackendError(f"{parent} cannot be written: {error}") from error
        return folder

    def _environment(self, private: Path) -> dict[str, str]:
        settings = self.settings
        made = environment.for_helper(os.environ)
        if "CONDOR_CONFIG" not in made and not Path("/etc/condor/condor_config").exists():
            made["CONDOR_CONFIG"] = "ONLY_ENV"
        own = dict(settings.configuration)
        if settings.collector:
            own["COLLECTOR_HOST"] = settings.collector
        if settings.schedd:
            own["SCHEDD_HOST"] = settings.schedd
        if settings.methods:
            own["SEC_CLIENT_AUTHENTICATION_METHODS"] = ",".join(settings.methods)
        if settings.token or settings.token_file:
            own["SEC_TOKEN_DIRECTORY"] = str(private / "tokens.d")
            if "SCITOKENS" in settings.methods:
                own["SCITOKENS_FILE"] = str(private / "tokens.d" / "calib")
        own.setdefault("TOOL_DEBUG", "D_ERROR")
        # Of the collector: one that is silent must not use up the time in which the schedd is to answer.
        own.setdefault("QUERY_TIMEOUT", str(max(1, int(settings.timeout / 3))))
        return {
            **made,
            **{f"_CONDOR_{name}": value for name, value in own.items()},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def _last_words(self) -> str:
        if self._private is None:
            return ""
        with contextlib.suppress(OSError):
            lines = (self._private / "errors").read_text(errors="replace").strip().splitlines()
            return lines[-1][:500] if lines else ""
        return ""

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
            process.wait()
            for stream in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    stream and stream.close()
        private, self._private = self._private, None
        if private is not None:
            shutil.rmtree(private, ignore_errors=True)

    def close(self) -> None:
        """End the helper process; a later call starts another."""
        with self._lock:
            self._kill()

    @property
    def pid(self) -> int | None:
        """The helper's process id, while there is one."""
        return None if self._process is None else self._process.pid

    # Messages: a length, then JSON

    def _send(self, process: subprocess.Popen[bytes], message: Mapping[str, object], limit: float) -> None:
        assert process.stdin is not None
        body = json.dumps(message).encode()
        data = memoryview(_LENGTH.pack(len(body)) + body)
        deadline = time.monotonic() + limit
        while data:
            _wait(process.stdin.fileno(), select.POLLOUT, deadline)
            data = data[os.write(process.stdin.fileno(), data) :]

    def _receive(self, process: subprocess.Popen[bytes], limit: float) -> dict[str, object]:
        deadline = time.monotonic() + limit
        (length,) = _LENGTH.unpack(self._read(process, _LENGTH.size, deadline))
        answer = json.loads(self._read(process, length, deadline))
        if not isinstance(answer, dict):
            raise ValueError("an answer that is no object")
        return answer

    def _read(self, process: subprocess.Popen[bytes], size: int, deadline: float) -> bytes:
        assert process.stdout is not None
        parts: list[bytes] = []
        while size:
            _wait(process.stdout.fileno(), select.POLLIN, deadline)
            part = os.read(process.stdout.fileno(), min(size, 1 << 20))
            if not part:
                raise EOFError("it ended without an answer")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _wait(file: int, event: int, deadline: float) -> None:
    # poll, not select: a triggerer may have more than a thousand open files.
    waiting = select.poll()
    waiting.register(file, event)
    if not waiting.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise TimeoutError


def _clean(parent: Path) -> None:
    """Remove what helpers left that were killed; those of other hosts and containers may live: no number tells."""
    for folder in parent.glob("condor-*-*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime < _BEING_MADE:
                continue
            with (folder / "alive").open("a") as alive:
                fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
