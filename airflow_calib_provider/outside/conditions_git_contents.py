"""Contents in a git repository: whether they are what their hashes say."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from airflow_calib_provider.errors import StoreUnavailable

_AT_ONCE = 1 << 20


def unlike(repository: Path, commit: str, files: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Read blobs of a commit, all by one process, and compare them with their hashes.

    :param files: path in the repository → SHA-256.
    :returns: each path of which this is not so, and why.
    :raises StoreUnavailable: git does not give them.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        with subprocess.Popen(
            ["git", "-C", str(repository), "cat-file", "--batch"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=kept,
        ) as process:  # fmt: skip
            for path, expected in files.items():
                why = _fault(process, f"{commit}:{path}", expected)
                if why:
                    yield path, why
    except (OSError, ValueError) as error:  # git is not there, or has died
        raise StoreUnavailable(
            f"{repository}: git does not read the contents: {error}", "see the repository"
        ) from error


def _fault(process: subprocess.Popen[bytes], name: str, expected: str) -> str:
    """:raises ValueError: git has said something else than a content."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{name}\n".encode(errors="surrogateescape"))
    process.stdin.flush()
    said = process.stdout.readline().split()
    if said[-1:] == [b"missing"]:
        return "is not there any more"
    if len(said) != 3 or not said[2].isdigit():
        raise ValueError(f"nothing is said of {name}")
    digest, left = hashlib.sha256(), int(said[2]) + 1
    while left > 0 and (part := process.stdout.read(min(left, _AT_ONCE))):
        digest.update(part if len(part) < left else part[:-1])  # a line ends each
        left -= len(part)
    return "" if digest.hexdigest() == expected else f"has the hash {digest.hexdigest()[:12]} now"
