"""Loading workflows and run sources from YAML files.

All mistakes of a file are found at once, each with its line and column; nothing is guessed and nothing is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from airflow_calib_provider.errors import Place, SpecError, SpecErrors
from airflow_calib_provider.spec.crossfile import connect
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.positions import read_document
from airflow_calib_provider.spec.sources_file import SourcesFile
from airflow_calib_provider.spec.workflow_file import Loaded, Sources, read_workflow


def load_workflow(path: Path, *, sources: Mapping[str, RunSource] | None = None, deep: bool = True) -> Workflow:
    """Load one workflow.

    Needs in other workflows keep ``grouping=None``, and whether they exist is not checked: see :func:`load_folder`.

    :param path: the YAML file.
    :param sources: the run sources; otherwise those of ``sources.yaml`` next to the file.
    :param deep: check conditions, templates and fields too. Workers, which get files that were checked before, save the
        time; they need no ``sources.yaml`` either.
    :raises SpecErrors: all mistakes of the file; mistakes of ``sources.yaml`` after them.
    """
    errors: list[SpecError] = []
    if sources is not None:
        available = Sources(sources)
    elif deep:
        available, errors = _sources_next_to(path)
    else:
        available = Sources(None)
    try:
        loaded = read_workflow(read_document(path), available, deep=deep)
    except SpecError as error:
        raise SpecErrors([error, *errors]) from error
    if loaded.workflow is None or errors:
        raise SpecErrors([*loaded.errors, *errors])
    return loaded.workflow


def load_sources(path: Path) -> dict[str, RunSource]:
    """Load the run sources of a ``sources.yaml``.

    :raises SpecErrors: all mistakes of the file.
    """
    try:
        file = SourcesFile(read_document(path))
    except SpecError as error:
        raise SpecErrors([error]) from error
    if file.errors:
        raise SpecErrors(file.errors)
    return file.sources


def load_folder(folder: Path) -> tuple[dict[str, Workflow], list[SpecError]]:
    """Load every ``*.yaml`` of a folder except ``sources.yaml``, and check the files against each other.

    A file with mistakes does not keep the others from being loaded, unless these need it.

    :returns: the workflows without mistakes by name, in the order of their files, and all mistakes.
    """
    if not folder.is_dir():
        return {}, [SpecError("there is no such folder", Place(folder), expected="a folder with workflows")]
    paths = sorted(path for path in folder.glob("*.yaml") if path.name != SOURCES_FILE)
    if not paths:
        return {}, []
    available, source_errors = _sources_next_to(folder / "any")
    files: list[Loaded] = []
    unreadable: list[SpecError] = []
    for path in paths:
        try:
            files.append(read_workflow(read_document(path), available, deep=True))
        except SpecError as error:
            unreadable.append(error)
    workflows = connect(files)
    errors = [*unreadable, *(error for loaded in files for error in loaded.errors)]
    errors.sort(key=lambda error: str(error.file))
    return workflows, [*errors, *source_errors]


def _sources_next_to(path: Path) -> tuple[Sources, list[SpecError]]:
    """The sources of a file's folder. Where they cannot be read at all, workflows are not blamed for it."""
    try:
        file = SourcesFile(read_document(path.parent / SOURCES_FILE))
    except SpecError as error:
        return Sources(None), [error]
    if not file.sources and not file.broken:
        return Sources(None), file.errors
    return Sources(file.sources, frozenset(file.broken)), file.errors
