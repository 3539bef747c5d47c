"""What ``{{ spec.folder }}`` stands for: a copy of the commit that a generation was made from (rule 44).

A checkout changes under a running job set, and Airflow removes those of its bundles. A copy lies below ``CALIB_HOME``,
where the jobs' own folders are: whoever sees these sees it too.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import stat
import subprocess
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from airflow_calib_provider.settings import code_folder, number

GRACE = timedelta(days=1)
"""For which a copy stays that nothing in the ledger uses: somebody may be about to."""

MOST_FILES = 200_000

_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True)
class Code:
    """Where a spec's own files are.

    :ivar folder: what ``{{ spec.folder }}`` stands for.
    :ivar commit: the commit; with ``-dirty`` if what lies there may be something else; ``None`` where there is no git.
    """

    folder: Path
    commit: str | None


@dataclass(frozen=True)
class _Tree:
    """Files that a commit consists of.

    :ivar is_bundle: a checkout of Airflow's without its repository: nobody edits it.
    """

    root: Path
    commit: str
    is_bundle: bool


def code_of(folder: Path, bundle_version: str | None = None) -> Code:
    """The code beside a spec, as it is now.

    Of a git checkout with uncommitted or unknown files, of a tree above ``CALIB_CODE_LIMIT``, and where there is no
    repository, it is the folder itself: then an edit acts on what runs.

    :param folder: of the YAML file.
    :param bundle_version: the version of the DAG bundle that it comes from.
    """
    tree = _bundle(folder, bundle_version) or _checkout(folder)
    if tree is None:
        return Code(folder, None)
    dirty = Code(folder, f"{tree.commit}-dirty")
    if not _is_clean(tree) or not (tree.is_bundle or _git(folder, "ls-files", "-z", "--", ".")):
        return dirty
    copy = _copied(tree)
    if copy is None:
        return dirty
    inside = copy / folder.relative_to(tree.root)
    return Code(inside, tree.commit) if inside.is_dir() else dirty


def lacks(texts: Iterable[str], mark: str, code: Code, folder: Path) -> bool:
    """Whether a text names a file of the spec's folder that the commit does not have, such as one that git ignores.

    :param mark: stands for the folder in the texts.
    """
    if code.folder == folder:
        return False
    for text in set(texts):
        for part in text.split(":") if mark in text else ():
            if part.startswith(mark):
                rest = part.removeprefix(mark)
                here = os.path.normpath(f"{code.folder}{rest}")
                if not Path(here).exists() and Path(os.path.normpath(f"{folder}{rest}")).exists():
                    return True
    return False


def remove_unused(used: Iterable[str], now: datetime) -> list[str]:
    """Remove the copies that no generation needs, and what a crash left of others.

    :param used: the folders that generations name.
    :returns: the commits that were removed.
    """
    root = code_folder()
    if not root.is_dir():
        return []
    needed = {part for path in used if (part := _copy_of(root, path))}
    removed = []
    for path in sorted(root.iterdir()):
        try:
            age = now.timestamp() - path.lstat().st_mtime
        except FileNotFoundError:
            continue
        if path.name in needed or age < GRACE.total_seconds():
            continue
        if path.is_dir() and not path.is_symlink():
            _remove(path)
            removed += [path.name] if _COMMIT.fullmatch(path.name) else []
        else:
            path.unlink(missing_ok=True)
    return removed


def _copy_of(root: Path, path: str) -> str | None:
    with suppress(ValueError):
        return Path(path).relative_to(root).parts[0]
    return None


# which files


def _bundle(folder: Path, version: str | None) -> _Tree | None:
    if not version or not _COMMIT.fullmatch(version):
        return None
    root = next((path for path in (folder, *folder.parents) if path.name == version), None)
    return None if root is None else _Tree(root, version, is_bundle=True)


def _checkout(folder: Path) -> _Tree | None:
    found = _git(folder, "rev-parse", "--show-toplevel", "HEAD")
    if found is None:
        return None
    lines = found.decode(errors="surrogateescape").splitlines()
    if len(lines) != 2:
        return None
    root = Path(lines[0])
    return _Tree(root, lines[1], is_bundle=False) if folder.is_relative_to(root) else None


def _is_clean(tree: _Tree) -> bool:
    if tree.is_bundle:
        return True
    # Whatever a configuration says about what is to be shown.
    said = _git(tree.root, "status", "--porcelain", "-z", "--untracked-files=normal", "--ignore-submodules=none")
    # What Python leaves where it imports from makes no difference.
    shown = said is None or any(
        not (line.startswith(b"?? ") and b"__pycache__/" in line) for line in said.split(b"\0") if line
    )
    return not shown and not _hides_edits(tree.root)


def _hides_edits(root: Path) -> bool:
    """Whether a file is edited that git was told not to look at (``git update-index --skip-worktree``).

    Such are also the files of a sparse checkout, which are not there.
    """
    listed = _git(root, "ls-files", "-v", "-z")
    if listed is None:
        return True
    flagged = (line[2:] for line in listed.split(b"\0") if line[:1] == b"S" or line[:1].islower())
    names = [name for name in flagged if (root / os.fsdecode(name)).is_symlink() or (root / os.fsdecode(name)).exists()]
    if not names:
        return False
    if any(b"\n" in name or (root / os.fsdecode(name)).is_symlink() for name in names):
        return True  # of which git tells no hash
    known = _git(root, "ls-files", "-s", "-z") or b""
    staged = {
        name: about.split()[1] for about, _, name in (line.partition(b"\t") for line in known.split(b"\0")) if name
    }
    found = _git(root, "hash-object", "--stdin-paths", given=b"".join(name + b"\n" for name in names)) or b""
    return [staged.get(name) for name in names] != found.split()


def _git(folder: Path, *arguments: str, given: bytes = b"") -> bytes | None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        result = subprocess.run(
            # A file system monitor is a program that the repository names.
            ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=60,
            check=False,
            env={**environment, "GIT_OPTIONAL_LOCKS": "0"},
            input=given,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def _files(tree: _Tree) -> list[str] | None:
    """The files and links of a tree, relative to its root; submodules' too. ``None``: git does not say."""
    if tree.is_bundle:
        return sorted(_walk(tree.root))
    # From the work tree, which is clean: large files and line ends are as the checkout has made them.
    listed = _git(tree.root, "ls-files", "-z", "--recurse-submodules")
    if listed is None:
        return None
    return [name for name in listed.decode(errors="surrogateescape").split("\0") if name]


def _walk(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        links = [name for name in folders if (here / name).is_symlink()]
        yield from (str((here / name).relative_to(root)) for name in (*names, *links) if name != ".git")


# copying


def _copied(tree: _Tree) -> Path | None:
    """The copy of a commit, made once. ``None``: it is too large, or changes all the time."""
    copy = code_folder() / tree.commit
    if _touch(copy):
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    with _alone(tree.commit):
        if _touch(copy):
            return copy
        part = copy.with_name(f".part-{uuid.uuid4().hex}")
        try:
            if not _fill(part, tree):
                return None
            # Who finds the folder relies on what is in it, also after the machine went down.
            os.sync()
            part.rename(copy)
        except OSError:
            if _touch(copy):
                return copy
            raise
        finally:
            _remove(part)
    return copy


def _touch(copy: Path) -> bool:
    """Say that a copy is in use, if it is there."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    except OSError:
        return copy.is_dir()
    return True


@contextmanager
def _alone(commit: str) -> Iterator[None]:
    """One process copies, the others wait for it; where locks do not work, each makes its own and the first counts."""
    with (code_folder() / f".lock-{commit}").open("w") as stream:
        with suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _fill(part: Path, tree: _Tree) -> bool:
    names = _files(tree)
    if names is None or len(names) > MOST_FILES:
        return False
    limit = number("CODE_LIMIT") * 1_000_000
    if sum(_size(tree.root / name) for name in names) > limit:
        return False
    part.mkdir()
    for name in names:
        _copy(tree.root, name, part)
    # What was copied while somebody pulled belongs to no commit.
    if not tree.is_bundle and not (_checkout(tree.root) == tree and _is_clean(tree)):
        return False
    for folder, _, files in os.walk(part, topdown=False):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        Path(folder).chmod(0o555)
    return True


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except FileNotFoundError:
        return 0


def _copy(root: Path, name: str, part: Path) -> None:
    source, target = root / name, part / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(_link(root, source))
    elif source.is_dir():  # a submodule that is not checked out
        target.mkdir(exist_ok=True)
    elif source.is_file():
        shutil.copy2(source, target)


def _link(root: Path, source: Path) -> str:
    """Where a link of the copy points: inside the tree to the copy's own file, outside to what it pointed to."""
    stated = os.readlink(source)  # noqa: PTH115 (the text as it stands)
    aim = Path(os.path.normpath(source.parent / stated))
    if aim.is_relative_to(root):
        return os.path.relpath(aim, source.parent)
    return str(aim)


def _remove(path: Path) -> None:
    """Remove a folder that nobody may write to. Under another name first, so that no part of it is ever found."""
    if not path.exists():
        return
    path.chmod(0o755)
    gone = path.with_name(f".gone-{uuid.uuid4().hex}")
    path.rename(gone)
    for folder, _, _ in os.walk(gone):
        Path(folder).chmod(0o755)
    shutil.rmtree(gone)
