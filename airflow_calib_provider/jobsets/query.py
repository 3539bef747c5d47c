"""Asking a catalogue for inputs: a command of the spec, which may take so long and say so much, and no more."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

from airflow_calib_provider.backends.environment import for_job
from airflow_calib_provider.errors import RenderError

INPUTS_TIMEOUT = 300.0
"""Seconds that a catalogue query may take."""

MAX_OUTPUT = 100_000_000
"""Bytes that it may print."""

_TAIL = 500
"""Characters of what it says on standard error."""


def query(command: Sequence[str]) -> list[str]:
    """The lines that a command prints, without blank ones.

    :raises RenderError: it fails, takes too long, prints nothing, too much, or what is no text.
    """
    name = f"the query for inputs {command[0]}"
    try:
        code, output, said = _run(command, name)
        text = output.decode()
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise RenderError(f"{name} failed: {error}") from error
    if code:
        raise RenderError(f"{name} ended with exit code {code}: {said}")
    if broken := next((sign for sign in "\0\r" if sign in text.replace("\r\n", "\n")), None):
        raise RenderError(f"{name} printed the control character {broken!r}", "print one path or URL on each line")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise RenderError(f"{name} printed nothing")
    return lines


def _run(command: Sequence[str], name: str) -> tuple[int, bytearray, str]:
    """Exit code, what was printed, and the end of what was said on standard error."""
    environment = for_job(os.environ, {})
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            output, said = _read(process, name)
            _wait(process)
        finally:
            # Not reaped yet, so that the number is still its own: with all that it has left in its group.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        code = process.wait()
    return code, output, said.decode(errors="replace").strip()[-_TAIL:]


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has ended, and leave it to be reaped.

    :raises subprocess.TimeoutExpired: it does not end.
    """
    until = time.monotonic() + INPUTS_TIMEOUT
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > until:
            raise subprocess.TimeoutExpired(process.args, INPUTS_TIMEOUT)
        time.sleep(0.005)


def _read(process: subprocess.Popen[bytes], name: str) -> tuple[bytearray, bytearray]:
    until = time.monotonic() + INPUTS_TIMEOUT
    output, said = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream, into in ((process.stdout, output), (process.stderr, said)):
            assert stream is not None
            selector.register(stream, selectors.EVENT_READ, into)
        while selector.get_map():
            left = until - time.monotonic()
            if left <= 0:
                raise RenderError(f"{name} did not end within {INPUTS_TIMEOUT:g} seconds")
            for key, _ in selector.select(left):
                if content := os.read(key.fd, 65_536):
                    key.data.extend(content)
                else:
                    selector.unregister(key.fileobj)
            del said[: -4 * _TAIL]
            if len(output) > MAX_OUTPUT:
                raise RenderError(f"{name} printed more than {MAX_OUTPUT:,} bytes", "ask for fewer inputs")
    return output, said
