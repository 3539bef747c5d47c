"""Files in a git repository: each publication is a commit, of all of its tags at once.

A tag is a file, and the payloads lie below ``payloads/``. Either it lists intervals as a folder of conditions does
(``<tag>.csv``), or it has lines of a first run and a file, each of which holds until the next one (``<tag>.txt``).
Commits are made beside the working tree, and become visible by moving the branch.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

from airflow_calib_provider.errors import (
    NoSuchTag,
    OutsideError,
    StoreBusy,
    StoreError,
    StoreRefused,
    StoreUnauthorised,
    StoreUnavailable,
    StoreUnknown,
)
from airflow_calib_provider.outside.conditions import PlacedPayload, checked
from airflow_calib_provider.outside.conditions_git_contents import unlike
from airflow_calib_provider.outside.conditions_git_files import LAYOUTS, Layout
from airflow_calib_provider.outside.connections import outside_connection
from airflow_calib_provider.outside.contents import with_hashes
from airflow_calib_provider.outside.limits import without_secrets
from airflow_calib_provider.outside.placing import Capabilities, Ref
from airflow_calib_provider.outside.writing import TagChange, WritableStore, ending_of

SECONDS = 60.0
"""Seconds that one call of git may take, one over a network as well."""
LARGEST = 10_000_000
"""Bytes of a tag's file."""

_PAYLOADS = "payloads"
_TRAILER = "Calib-Publication:"
_FIELDS = ("layout", "folder", "remote", "author", "email")
_BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]*")


@dataclass(frozen=True)
class Repository:
    """What a connection says of a repository.

    :ivar path: of the repository on this machine, bare or with a working tree.
    :ivar layout: of a tag's file. :ivar folder: in the repository, where the tags are; empty: at its top.
    :ivar remote: where each commit is pushed to; empty: nowhere.
    """

    name: str
    path: Path
    layout: Layout
    folder: str = ""
    remote: str = ""
    author: str = "calib"
    email: str = "calib@localhost"

    @classmethod
    def of(cls, name: str) -> Repository:
        """:raises OutsideError: there is no such connection, or it does not say which repository is meant."""
        found = outside_connection(name)
        extra = found.extra
        if unknown := sorted(set(extra) - set(_FIELDS)):
            said = f"the connection {name} has the unknown field {unknown[0][:60]!r}"
            raise OutsideError(said, f"there are {', '.join(_FIELDS)}")
        if not found.host.startswith("/"):
            raise OutsideError(f"the connection {name} has no absolute path as its host", "name the repository there")
        layout = str(extra.get("layout") or "intervals")
        if layout not in LAYOUTS:
            raise OutsideError(f"the connection {name}: layout is none of {', '.join(LAYOUTS)}")
        folder = str(extra.get("folder") or "").strip("/")
        remote = str(extra.get("remote") or "")
        if ".." in PurePosixPath(folder).parts or remote.startswith("-"):
            raise OutsideError(f"the connection {name}: folder or remote cannot be meant")
        who = {key: str(extra.get(key) or "").replace("\n", " ") for key in ("author", "email")}
        author, email = who["author"] or found.login or cls.author, who["email"] or cls.email
        return cls(name, Path(found.host), LAYOUTS[layout], folder, remote, author, email)


class GitStore(WritableStore):
    """A branch of a repository; its place is ``connection/branch``."""

    name = "git"
    place_key = "branch"
    place_default = "main"

    @classmethod
    def fault(cls, place: str) -> str:
        """The branch is one that git takes."""
        branch = place.partition("/")[2] or cls.place_default
        if found := super().fault(place):
            return found
        good = _BRANCH.fullmatch(branch) and ".." not in branch and not branch.endswith(("/", ".lock", "."))
        return "" if good else "names no branch"

    def capabilities(self) -> Capabilities:
        """By the layout."""
        ends = self._repository().layout.ends
        return Capabilities(ends, "refuse" if ends else "hide", True, True, self.last_run)

    def listing(self, tag: str) -> list[PlacedPayload]:
        """What the branch has now; with a remote, there."""
        repository = self._repository()
        return self._listed(repository, tag, self._head(repository))

    def altered(self, tag: str, listing: Sequence[PlacedPayload], *, quickly: bool = False) -> list[str]:
        """By the newest commit; quickly: which files were touched since our last commit of the tag."""
        repository = self._repository()
        files = {_path(repository, file): digest for file, digest in with_hashes(listing).items()}
        head = self._head(repository) if files else ""
        if head and quickly:
            mine = f"--grep=^{_TRAILER} "
            place = _path(repository, f"{tag}{repository.layout.suffix}")
            ours = _git(repository, "log", "-1", "--format=%H", mine, head, "--", place).strip()
            below = _path(repository, f"{_PAYLOADS}/{tag}")
            # What was there before us is not ours to judge.
            said = _git(repository, "diff", "--name-only", "-z", ours, head, "--", below) if ours else ""
            touched = set(said.split("\0"))
            files = {file: digest for file, digest in files.items() if file in touched}
        return [f"{file} {why}" for file, why in unlike(repository.path, head, files)] if head and files else []

    def ref(self, tag: str, digest: str, file_name: str) -> Ref:
        """Below ``payloads/``, by its hash, with the ending that it had."""
        return Ref(f"{_PAYLOADS}/{tag}/{digest}{ending_of(file_name)}", digest)

    def put(self, tag: str, content: Path, ref: Ref, file_name: str) -> None:
        """A blob that no commit has yet; a name of its own keeps git from removing it."""
        repository = self._repository()
        blob = _git(repository, "hash-object", "-w", "--no-filters", "--", str(content)).strip()
        _git(repository, "update-ref", _waiting(ref), blob)

    def change(self, changes: Mapping[str, TagChange], key: str) -> str:
        """One commit on what was just listed; whoever commits between is not overwritten."""
        repository = self._repository()
        head = self._head(repository)
        for tag, one in changes.items():
            found = self._current(repository, tag, head)
            if found != list(one.current):
                raise StoreBusy(f"{tag} in {repository.name} was changed just now", "it is looked at again")
        commit = self._commit(repository, head, changes, key)
        self._publish(repository, head, commit)
        for ref in {one.file for change in changes.values() for one in change.missing}:
            with suppress(StoreError):
                _git(repository, "update-ref", "-d", _waiting(Ref(ref, "")))
        return commit

    def look_up(self, tag: str, run: int, as_of: datetime | None = None) -> PlacedPayload | None:
        """By the newest commit of that time, by its committer's clock."""
        if as_of is None:
            return super().look_up(tag, run)
        from airflow_calib_provider.outside.conditions import look_up

        repository = self._repository()
        head = self._head(repository)
        if head:
            head = _git(repository, "rev-list", "-1", f"--before={as_of.isoformat()}", head).strip()
        return look_up(self._current(repository, tag, head), run)

    def _repository(self) -> Repository:
        return Repository.of(self.connection(self.place))

    def _head(self, repository: Repository) -> str:
        """The newest commit of the branch; empty: there is none yet."""
        if not repository.path.is_dir():
            raise OutsideError(f"{repository.path}: there is no repository", "create it, or correct the connection")
        branch = f"refs/heads/{self.inside}"
        if repository.remote:
            ours = f"refs/calib/{self.inside}"
            if not _git(repository, "ls-remote", "--", repository.remote, branch).strip():
                return ""
            _git(repository, "fetch", "--quiet", "--no-tags", "--", repository.remote, f"+{branch}:{ours}")
            branch = ours
        return _git(repository, "rev-parse", "--verify", "--quiet", f"{branch}^{{commit}}", fails=True).strip()

    def _current(self, repository: Repository, tag: str, head: str) -> list[PlacedPayload]:
        try:
            return self._listed(repository, tag, head)
        except NoSuchTag:
            return []

    def _listed(self, repository: Repository, tag: str, head: str) -> list[PlacedPayload]:
        path = _path(repository, f"{tag}{repository.layout.suffix}")
        said = _git(repository, "cat-file", "--batch-check", given=f"{head}:{path}\n").split() if head else []
        if len(said) != 3 or said[1] != "blob":
            raise NoSuchTag(f"there is no {path} on {self.inside} in {repository.path}")
        if int(said[2]) > LARGEST:
            raise OutsideError(f"{path} has more than {LARGEST:,} bytes")
        text = _git(repository, "cat-file", "blob", said[0])
        try:
            return checked(tag, repository.layout.read(text))
        except ValueError as error:
            raise OutsideError(f"{path} on {self.inside} in {repository.path} cannot be read: {error}") from error

    def _commit(self, repository: Repository, head: str, changes: Mapping[str, TagChange], key: str) -> str:
        with tempfile.TemporaryDirectory(prefix="calib-git-") as folder:
            more = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
            _git(repository, "read-tree", *([head] if head else ["--empty"]), more=more)
            entries = io.StringIO()
            for tag, change in changes.items():
                listed = {one.file for one in change.current}  # with another interval: nothing is to be brought
                for one in change.missing:
                    if one.file not in listed and (blob := self._blob(repository, head, one.file)):
                        entries.write(f"100644 {blob}\t{_path(repository, one.file)}\n")
                text = repository.layout.write(change.target)
                blob = _git(repository, "hash-object", "-w", "--stdin", given=text).strip()
                entries.write(f"100644 {blob}\t{_path(repository, f'{tag}{repository.layout.suffix}')}\n")
            _git(repository, "update-index", "--add", "--index-info", given=entries.getvalue(), more=more)
            tree = _git(repository, "write-tree", more=more).strip()
        who = {
            **{f"GIT_{role}_NAME": repository.author for role in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{role}_EMAIL": repository.email for role in ("AUTHOR", "COMMITTER")},
        }
        said = _message(changes, key)
        return _git(repository, "commit-tree", tree, *(["-p", head] if head else []), given=said, more=who).strip()

    def _blob(self, repository: Repository, head: str, file: str) -> str:
        """The blob of a payload that was put; empty: the tree has it already."""
        waiting = _git(repository, "rev-parse", "--verify", "--quiet", _waiting(Ref(file, "")), fails=True).strip()
        if waiting:
            return waiting
        there = f"{head}:{_path(repository, file)}"
        if head and _git(repository, "rev-parse", "--verify", "--quiet", there, fails=True).strip():
            return ""
        raise StoreUnavailable(f"{file} is not in {repository.path} any more", "it is brought there again")

    def _publish(self, repository: Repository, head: str, commit: str) -> None:
        """Move the branch, if it still is where it was."""
        branch = f"refs/heads/{self.inside}"
        if repository.remote:
            lease = f"--force-with-lease={branch}:{head}"
            _git(repository, "push", "--quiet", lease, "--", repository.remote, f"{commit}:{branch}")
            with suppress(StoreError):  # only a copy: the remote is what counts
                self._move(repository, commit, None)
            return
        self._move(repository, commit, head)

    def _move(self, repository: Repository, commit: str, head: str | None) -> None:
        branch = f"refs/heads/{self.inside}"
        bare = _git(repository, "rev-parse", "--is-bare-repository").strip() == "true"
        if not bare and _git(repository, "symbolic-ref", "--quiet", "HEAD", fails=True).strip() == branch:
            _git(repository, "merge", "--quiet", "--ff-only", commit)  # with the working tree
            return
        was = [] if head is None else [head or "0" * len(commit)]
        _git(repository, "update-ref", "-m", "calib", branch, commit, *was)


def _path(repository: Repository, file: str) -> str:
    return f"{repository.folder}/{file}" if repository.folder else file


def _waiting(ref: Ref) -> str:
    return f"refs/calib-{ref.file}"


def _message(changes: Mapping[str, TagChange], key: str) -> str:
    lines = [f"{', '.join(changes)}: {key}" if len(changes) < 4 else f"{len(changes)} tags: {key}", ""]
    for tag, change in changes.items():
        for sign, those in (("-", change.extra), ("+", change.missing)):
            lines += [f"{sign} {tag} [{one.first_run}, {one.last_run or '…'}] {one.hash[:12]}" for one in those[:50]]
    return "\n".join([*lines, "", f"{_TRAILER} {key}", ""])


def _git(
    repository: Repository,
    *arguments: str,
    given: str | None = None,
    more: Mapping[str, str] | None = None,
    fails: bool = False,
) -> str:
    """What git says.

    :param fails: that it finds nothing is no trouble: an empty text.
    :raises StoreError: it cannot do it.
    """
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment = {**kept, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(more or {})}
    try:
        done = subprocess.run(
            ["git", "-C", str(repository.path), *arguments],
            input=given, text=True, capture_output=True, timeout=SECONDS, env=environment, check=False,
            encoding="utf-8", errors="surrogateescape",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = f"git {arguments[0]} in {repository.path} was not ready within {SECONDS:g} s"
        raise StoreUnknown(said, "it is looked at again") from error
    except OSError as error:
        raise StoreUnavailable(f"git cannot be run: {error.strerror or error}", "is git installed here?") from error
    if done.returncode == 0:
        return done.stdout
    if fails and done.returncode == 1:
        return ""
    raise _fault(repository, arguments, done.stderr)


_SAID: Sequence[tuple[type[StoreError], Sequence[str]]] = (
    (StoreUnauthorised, ("Permission denied", "Authentication failed", "could not read Username")),
    (StoreUnauthorised, ("error: 403", "error: 401")),
    (StoreBusy, ("cannot lock ref", "index.lock", "shallow.lock", "stale info", "non-fast-forward", "fetch first")),
    (StoreRefused, ("hook declined", "protected branch", "would be overwritten", "remote rejected", "unmerged")),
    (StoreRefused, ("ot possible to fast-forward", "not a git repository", "dubious ownership")),
    (StoreRefused, ("does not appear to be a git repository",)),
)
"""What git writes, by what is to be done about it; anything else is tried again."""


def _fault(repository: Repository, arguments: Sequence[str], said: str) -> StoreError:
    kind = next((kind for kind, signs in _SAID if any(sign in said for sign in signs)), StoreUnavailable)
    clean = without_secrets(re.sub(r"://[^\s'\"]*@", "://***@", said), ())
    return kind(f"{repository.path}: git {arguments[0]}: {clean}", "see the repository, and its connection")


STORE = GitStore
