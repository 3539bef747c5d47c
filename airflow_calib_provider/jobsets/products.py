"""Whether a file is what its attempt made: looked at link by link, since a path that is resolved tells it no more."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from airflow_calib_provider.errors import ProductError

MAX_ENTRIES = 100_000
"""Files and folders in a product that is a folder."""

_ABOVE = 3
"""Levels above ``out`` that belong to the generation: the attempt's folder, ``attempts``, its own."""


def check_folder(folder: Path) -> None:
    """Make sure that the folder is where it was made.

    :param folder: an attempt's.
    :raises ProductError: it, its ``out`` or what they lie in was replaced, for example by a link to elsewhere.
    """
    for path in (f"{folder}/out", str(folder), *map(str, folder.parents[: _ABOVE - 1])):
        about = _about(path)
        if about is not None and not stat.S_ISDIR(about.st_mode):
            raise ProductError(
                f"{path} was replaced by {_kind(about)}",
                "a job leaves its folder, CALIB_OUT, where it is, and as it is",
            )


def check_product(out: Path, name: str, file: str) -> int:
    """The size of a product in bytes, of a folder that of its files.

    :raises ProductError: it is missing, empty, or lies outside ``out`` (also through a symbolic link).
    """
    try:
        check_folder(out.parent)
    except ValueError as error:
        raise _no_name(name, file, error) from error
    return check_file(out, name, file)


def check_file(out: Path, name: str, file: str) -> int:
    """As :func:`check_product`, where the folder was checked."""
    if size := _plain_size(out, file):
        return size
    try:
        path = Path(os.path.normpath(out / file))
        if not path.is_relative_to(out) or not (out / file).resolve().is_relative_to(out.resolve()):
            raise ProductError(f"product {name}: {file} leaves its folder")
        _check_links(out, path, f"product {name}: {file}")
        if not path.exists():
            raise ProductError(f"product {name}: {file} is missing")
        return _check_content(out, path, f"product {name}: {file}")
    except (ValueError, RuntimeError) as error:  # a NUL in the name, or a loop of symbolic links
        raise _no_name(name, file, error) from error


def _no_name(name: str, file: str, error: Exception) -> ProductError:
    return ProductError(f"product {name}: {file!r} is not the name of a file: {error}")


def _plain_size(out: Path, file: str) -> int:
    """The size of a file with something in it that lies where its name says, without any link, as nearly all are; or 0.

    Of such a one there is no more to ask, and nothing else has to be looked at.
    """
    names = file.split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        return 0
    path = str(out)
    try:
        for name in names[:-1]:
            path = f"{path}/{name}"
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                return 0
        about = os.lstat(f"{path}/{names[-1]}")
    except (OSError, ValueError):
        return 0
    return about.st_size if stat.S_ISREG(about.st_mode) else 0


def check_published(products: Path, path: Path, shown: str) -> Path:
    """A file below the products folder, compared before links are followed.

    :param path: absolute, without ``..``.
    :returns: the file itself.
    :raises ProductError: a link on the way leads out of the folder of what its attempt made.
    """
    # campaign/workflow/task/group/generation/job/out
    parts = path.relative_to(products).parts
    own = products.joinpath(*parts[:7])
    for depth in (5, 6, 7):
        about = _about(products.joinpath(*parts[:depth])) if len(parts) > depth else None
        if about is not None and stat.S_ISLNK(about.st_mode):
            raise ProductError(f"{shown} is not a product: {products.joinpath(*parts[:depth])} was replaced by a link")
    try:
        found = path.resolve()
    except (ValueError, RuntimeError, OSError) as error:
        raise ProductError(f"{shown} is not the name of a file: {error}") from error
    inside = own if len(parts) > 7 else products
    if not found.is_relative_to(inside.resolve()):
        raise ProductError(f"{shown} is not a product: it is a link to {found}, outside {inside}")
    return found


def _about(path: Path | str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _check_links(out: Path, path: Path, what: str) -> None:
    """An absolute link leads nowhere as soon as the accepted attempt is moved into its place."""
    for step in [*reversed(path.relative_to(out).parents), path.relative_to(out)]:
        _check_link(out, out / step, what)


def _check_link(out: Path, path: Path, what: str) -> None:
    if not path.is_symlink():
        return
    if not path.resolve().is_relative_to(out.resolve()):
        raise ProductError(f"{what} leaves its folder: {path.relative_to(out)} is a link to {path.resolve()}")
    if path.readlink().is_absolute():
        raise ProductError(
            f"{what}: {path.relative_to(out)} is a link to an absolute path, which leads nowhere when the products are "
            "moved into their place",
            "make it relative, or copy the file",
        )


def _check_content(out: Path, path: Path, what: str) -> int:
    about = path.stat()
    if not stat.S_ISDIR(about.st_mode):
        if not stat.S_ISREG(about.st_mode):
            raise ProductError(f"{what} is {_kind(about)}, not a file")
        if not about.st_size:
            raise ProductError(f"{what} is empty")
        return about.st_size
    count = size = 0
    for folder, folders, files in os.walk(path, onerror=_raised):
        count += len(folders) + len(files)
        if count > MAX_ENTRIES:
            raise ProductError(
                f"{what} has more than {MAX_ENTRIES:,} files", "pack them into one, for example with tar"
            )
        size += sum(_check_entry(out, path, Path(folder, entry), what) for entry in (*folders, *files))
    if not count:
        raise ProductError(f"{what} is empty")
    return size


def _check_entry(out: Path, product: Path, path: Path, what: str) -> int:
    """The bytes of a file in a product that is a folder."""
    about = path.lstat()
    if stat.S_ISLNK(about.st_mode):
        _check_link(out, path, what)
    elif stat.S_ISREG(about.st_mode):
        return about.st_size
    elif not stat.S_ISDIR(about.st_mode):
        raise ProductError(f"{what}: {path.relative_to(product)} in it is {_kind(about)}, not a file")
    return 0


def _raised(error: OSError) -> None:
    """What cannot be looked into is no product that others could read."""
    raise error


def _kind(about: os.stat_result) -> str:
    kinds = {
        stat.S_IFLNK: "a link",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFDIR: "a folder",
    }
    return kinds.get(stat.S_IFMT(about.st_mode), "a file")
