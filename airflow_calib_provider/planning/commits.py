"""The specs of a folder as a git commit has them."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_calib_provider.errors import CalibError, Place, SpecError, told_once
from airflow_calib_provider.spec.loader import FolderCheck, check_folder

TIMEOUT = 60
"""Seconds for one call of git."""

_FILE, _LINK = "100", "120000"
"""How git writes the modes of files, and of links."""


@dataclass(frozen=True)
class CommitSpecs:
    """What a folder was.

    :ivar commit: its whole hash.
    :ivar check: the files, checked; places in mistakes are as git writes them, ``<commit>:<path>``.
    """

    commit: str
    check: FolderCheck
    mistakes: Sequence[SpecError]


def specs_at(folder: Path, name: str) -> CommitSpecs:
    """Read and check the YAML files of a folder as they were in a commit.

    :param name: of the commit, as git understands it: a hash, a branch, ``HEAD~1``.
    :raises CalibError: there is no such folder, it lies in no git checkout, or there is no such commit.
    """
    if not folder.is_dir():
        raise CalibError(f"there is no folder {folder}", "name the folder of the YAML files with --specs")
    prefix = _git(folder, "rev-parse", "--show-prefix").decode(errors="surrogateescape").strip("\n")
    commit = _commit(folder, name)
    blobs, links = _files(folder, commit)
    with tempfile.TemporaryDirectory(prefix="calib-plan-") as place:
        copy = Path(place)
        for file, blob in blobs.items():
            (copy / file).write_bytes(_git(folder, "cat-file", "blob", blob))
        check = check_folder(copy)
        mistakes = [_moved(error, copy, f"{commit[:12]}:{prefix}") for error in told_once(check.errors) if blobs]
    mistakes += [
        SpecError("it is a link in that commit, which is not followed", Place(Path(f"{commit[:12]}:{prefix}{file}")))
        for file in links
    ]
    return CommitSpecs(commit, check, mistakes)


def _commit(folder: Path, name: str) -> str:
    try:
        found = _git(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    except CalibError as error:
        said = f"git knows no commit {name[:100]!r}"
        hint = "`git log --oneline` lists them; a CI job that fetched only the newest one needs `git fetch` first"
        raise CalibError(said, hint) from error
    return found.decode().strip()


def _files(folder: Path, commit: str) -> tuple[dict[str, str], list[str]]:
    """The YAML files in the folder itself, each with its blob; and links of such names."""
    blobs, links = {}, []
    for entry in _git(folder, "ls-tree", "-z", "--end-of-options", commit).split(b"\0"):
        about, _, path = entry.partition(b"\t")
        name = path.decode(errors="surrogateescape")
        if not name.endswith(".yaml") or "/" in name or name.startswith("."):
            continue
        mode, _, blob = about.decode().split(" ")
        if mode.startswith(_FILE):
            blobs[name] = blob
        elif mode == _LINK:
            links.append(name)
    return blobs, links


def _moved(error: SpecError, copy: Path, before: str) -> SpecError:
    """A mistake with the place that a person knows the file by."""
    file = error.file
    if file is None:
        return error
    named = Path(f"{before}{file.name if file.parent == copy else ''}")
    place = Place(named, error.line, error.column)
    said = [text.replace(f"{copy}/", before) for text in (error.message, error.expected, error.suggestion)]
    more = {"context": error.context, "told_in": error.told_in}
    return SpecError(said[0], place, expected=said[1], suggestion=said[2], **more)


def _git(folder: Path, *arguments: str) -> bytes:
    environment = {**os.environ, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT, env=environment)
    except FileNotFoundError as error:
        raise CalibError("git is not installed, with which --against reads commits", "install git") from error
    except subprocess.TimeoutExpired as error:
        raise CalibError(f"git {arguments[0]} in {folder} took more than {TIMEOUT} s", "look at git there") from error
    if done.returncode == 0:
        return done.stdout
    said = " ".join(done.stderr.decode(errors="replace").split())
    if "not a git repository" in said:
        raise CalibError(f"{folder} lies in no git checkout", "--against compares with a commit of the folder's git")
    hint = "run the command that git names" if "safe.directory" in said else "look at git there"
    raise CalibError(f"git {arguments[0]} in {folder} failed: {said[:500]}", hint)
