"""Opening files that people name: only what is a file, so that nobody waits for a pipe, or reads a device for ever."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_BYTES = 1_000_000
"""Of a file of the language."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    :raises OSError: it cannot be read, or is no file: a folder, a named pipe, a device.
    """
    # Without O_NONBLOCK opening a pipe waits until somebody writes to it.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe, a socket or a device", str(path))
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_bytes(file: Path) -> bytes:
    """What a file of the language holds; of one that is too large a byte more than is allowed.

    :raises OSError: it cannot be read.
    """
    with open_regular(file) as stream:
        return stream.read(MAX_BYTES + 1)
