"""Loading workflows and run sources from YAML files.

All mistakes of a file are found at once, each with its line and column; nothing is guessed and nothing is ignored.
"""

from __future__ import annotations

import hashlib
import os
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from airflow_calib_provider.errors import Place, SpecError, SpecErrors
from airflow_calib_provider.spec.border import reading, unforeseen
from airflow_calib_provider.spec.categories_file import Categories, CategoriesFile, resolved
from airflow_calib_provider.spec.crossfile import connect
from airflow_calib_provider.spec.known import workflow_files
from airflow_calib_provider.spec.language import CATEGORIES_FILE, SOURCES_FILE
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.places import Lines
from airflow_calib_provider.spec.positions import Document, parse_document, read_document, read_text
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.recalled import Memory, NeededInFull, is_recalled
from airflow_calib_provider.spec.sources_file import SourcesFile
from airflow_calib_provider.spec.stated import stated_name
from airflow_calib_provider.spec.workflow_file import Loaded, Sources, read_workflow

FEW = 10
"""So many recalled files are read one by one where something is wrong with them; then all are."""


def load_workflow(path: Path, *, sources: Mapping[str, RunSource] | None = None, deep: bool = True) -> Workflow:
    """Load one workflow.

    Needs in other workflows keep ``grouping=None``, and whether they exist is not checked: see :func:`load_folder`.

    :param path: the YAML file.
    :param sources: the run sources; otherwise those of ``sources.yaml`` next to the file.
    :param deep: check conditions, templates and fields too. Workers, which get files that were checked before, save the
        time; they need no ``sources.yaml`` either.
    :raises SpecErrors: all mistakes of the file; after them those of ``sources.yaml``, and of ``categories.yaml`` if it
        names any.
    """
    errors: list[SpecError] = []
    of_categories: list[SpecError] = []
    if sources is not None:
        available = Sources(sources)
    elif deep:
        available, errors, of_categories = _sources_next_to(path)
    else:
        available = Sources(None)
    try:
        with reading(path):
            loaded = read_workflow(read_document(path), available, deep=deep)
    except SpecError as error:
        raise SpecErrors([error, *errors, *of_categories]) from None  # Airflow would show it twice
    if loaded.workflow is None or loaded.workflow.runs.categories:
        errors = [*errors, *of_categories]
    if loaded.workflow is None or errors:
        raise SpecErrors([*loaded.errors, *errors])
    return loaded.workflow


def load_text(text: str, path: Path, categories: Mapping[str, str] | None = None) -> Workflow:
    """Load a workflow from a text that was checked before, as workers do.

    :param path: where the text stood.
    :param categories: category → its condition, for what decides about runs.
    :raises SpecErrors: it is none any more.
    """
    try:
        loaded = read_workflow(parse_document(text, path), Sources(None), deep=False)
    except SpecError as error:
        raise SpecErrors([error]) from None
    if loaded.workflow is None:
        raise SpecErrors(loaded.errors)
    return loaded.workflow if categories is None else with_categories(loaded.workflow, categories)


def with_categories(workflow: Workflow, known: Mapping[str, str]) -> Workflow:
    """A workflow that was read from its text alone, with the conditions of its categories.

    :param known: category → its condition.
    """
    if not workflow.runs.categories:
        return workflow
    selection = workflow.runs.model_copy(update={"categories": resolved(workflow.runs.categories, known)})
    return workflow.model_copy(update={"runs": selection})


def load_categories(path: Path) -> dict[str, str]:
    """Load the categories of a ``categories.yaml``: their conditions by name.

    :raises SpecErrors: all mistakes of the file.
    """
    found, _, errors = _categories(path, None)
    if not found.is_there:
        errors = [SpecError("there is no such file", Place(path))]
    if errors:
        raise SpecErrors(errors)
    return found.texts


def load_sources(path: Path) -> dict[str, RunSource]:
    """Load the run sources of a ``sources.yaml``.

    :raises SpecErrors: all mistakes of the file.
    """
    try:
        with reading(path):
            file = SourcesFile(read_document(path))
    except SpecError as error:
        raise SpecErrors([error]) from None
    if file.errors:
        raise SpecErrors(file.errors)
    return file.sources


@dataclass(frozen=True)
class FileCheck:
    """What became of one file of a folder.

    :ivar name: the workflow's name, as far as it could be read.
    :ivar hash: SHA-256 of the file's text; empty where it cannot be read.
    :ivar workflow: ``None`` when the file has mistakes, also such as only the folder's files together show.
    :ivar alone: it has no mistakes of its own.
    :ivar clashes: another file has the same name.
    """

    file: Path
    name: str | None
    hash: str
    workflow: Workflow | None
    errors: tuple[SpecError, ...]
    alone: bool
    clashes: bool


@dataclass(frozen=True)
class FolderCheck:
    """All files of a folder, checked against each other.

    :ivar files: in their order.
    :ivar sources: the run sources without mistakes.
    :ivar sources_text: ``None`` where it cannot be read.
    :ivar source_errors: the mistakes of ``sources.yaml``, or that there is no such folder.
    :ivar categories: the conditions of the categories without mistakes, by name.
    :ivar categories_text: ``None`` where there is no ``categories.yaml``, or it cannot be read.
    :ivar category_errors: its mistakes.
    """

    folder: Path
    files: tuple[FileCheck, ...]
    sources: Mapping[str, RunSource]
    sources_text: str | None
    source_errors: tuple[SpecError, ...]
    categories: Mapping[str, str] = field(default_factory=dict)
    categories_text: str | None = None
    category_errors: tuple[SpecError, ...] = ()

    @property
    def workflows(self) -> dict[str, Workflow]:
        """Those without mistakes, by name."""
        return {item.workflow.name: item.workflow for item in self.files if item.workflow is not None}

    @property
    def errors(self) -> list[SpecError]:
        """Every mistake once, in the order of the files and of each file."""
        found = [*(error for item in self.files for error in item.errors), *self.source_errors, *self.category_errors]
        return list({str(error): error for error in found}.values())


def load_folder(folder: Path) -> tuple[dict[str, Workflow], list[SpecError]]:
    """Load every ``*.yaml`` of a folder but run sources and categories, and check the files against each other.

    A file with mistakes does not keep the others from being loaded, unless these need it.

    :returns: the workflows without mistakes by name, in the order of their files, and all mistakes.
    """
    check = check_folder(folder)
    return check.workflows, check.errors


def check_folder(
    folder: Path, *, sources_text: str | None = None, categories_text: str | None = None, recall: bool = False
) -> FolderCheck:
    """As :func:`load_folder`, told by file.

    :param sources_text: instead of what ``sources.yaml`` says.
    :param categories_text: instead of what ``categories.yaml`` says.
    :param recall: read only those files of which the cache does not know that they have no mistakes.
    """
    if not folder.is_dir():
        error = SpecError("there is no such folder", Place(folder), expected="a folder with workflows")
        return FolderCheck(folder, (), {}, None, (error,))
    paths = workflow_files(folder)
    if not paths and sources_text is None:
        return FolderCheck(folder, (), {}, None, ())
    available, text, source_errors = _sources(folder / SOURCES_FILE, sources_text)
    available.categories, category_text, category_errors = _categories(folder / CATEGORIES_FILE, categories_text)
    memory = Memory(text, category_text) if recall else None
    read = [_read(path, available, memory) for path in paths]
    alone, good = _fitted(read, available)
    files = [
        _unreadable(path, item) if isinstance(item, SpecError) else _checked(item, good, is_good)
        for path, item, is_good in zip(paths, read, alone, strict=True)
    ]
    return FolderCheck(
        folder,
        tuple(files),
        available.known or {},
        text,
        tuple(source_errors),
        available.categories.texts,
        category_text,
        tuple(category_errors),
    )


def _read(path: Path, available: Sources, memory: Memory | None = None) -> Loaded | SpecError:
    try:
        if (name := path.name.encode(errors="surrogateescape").decode(errors="backslashreplace")) != path.name:
            # The ledger and Airflow keep names as text.
            place = Place(path.with_name(name))
            raise SpecError("the file's name is not UTF-8", place, expected="expected a name that is text")
        if memory is not None and (recalled := memory.recall(path)) is not None:
            return recalled
        with reading(path):
            loaded = read_workflow(read_document(path), available, deep=True)
    except SpecError as error:
        return _named(path, error) or error
    if loaded.name is None and (stated := stated_name(loaded.document.text)) is not None:
        loaded.name, loaded.name_node = stated.text, stated
    if memory is not None:
        memory.keep(loaded)
    return loaded


def _named(path: Path, error: SpecError) -> Loaded | None:
    """A file that cannot be read, as one that states a name, by which it is one of two if another has it (rule 43)."""
    with suppress(SpecError):
        text = read_text(path)
        if (name := stated_name(text)) is not None:
            document = Document(error.file or path, text, Lines(text).lines, name, [error])
            return Loaded(document, Problems(document), name=name.text, name_node=name)
    return None


def _fitted(read: list[Loaded | SpecError], available: Sources) -> tuple[list[bool], Mapping[str, Workflow]]:
    """Check the files against each other; a recalled one is read, in place, if anything is wrong between it and others.

    :returns: for each whether it has no mistakes of its own; the workflows without any.
    """
    left = FEW
    while True:
        loaded = [item for item in read if isinstance(item, Loaded)]
        own = {id(item): len(item.problems.errors) for item in loaded}
        alone = [isinstance(item, Loaded) and item.workflow is not None and not own[id(item)] for item in read]
        try:
            return alone, _connected(loaded)
        except NeededInFull as needed:
            left -= 1
            for number, item in enumerate(read):
                if not isinstance(item, Loaded):
                    continue
                if is_recalled(item) and (left < 0 or item.document.file == needed.file):
                    read[number] = _read(item.document.file, available)
                else:
                    del item.problems.errors[own[id(item)] :]
                    item.clashes = False


def _connected(files: list[Loaded]) -> Mapping[str, Workflow]:
    """The files checked against each other; one that cannot be, for a reason that was not foreseen, hides no other."""
    try:
        return connect(files)
    except NeededInFull:
        raise
    except Exception as error:
        broken = _looked_at(error, files)
        if broken is None:
            raise
        broken.problems.errors.append(unforeseen(error, broken.document.file))
        broken.workflow = None
        return _connected([item for item in files if item is not broken])


def _looked_at(error: Exception, files: list[Loaded]) -> Loaded | None:
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        found = next((value for value in frame.f_locals.values() if isinstance(value, Loaded)), None)
        if found is not None and any(found is item for item in files):
            return found
    return None


def _unreadable(path: Path, error: SpecError) -> FileCheck:
    return FileCheck(error.file or path, None, "", None, (error,), alone=False, clashes=False)


def _checked(loaded: Loaded, good: Mapping[str, Workflow], alone: bool) -> FileCheck:
    workflow = None if loaded.problems.errors or loaded.name is None else good.get(loaded.name)
    text_hash = hashlib.sha256(loaded.document.text.encode()).hexdigest()
    return FileCheck(
        loaded.document.file, loaded.name, text_hash, workflow, tuple(loaded.errors), alone, loaded.clashes
    )


def _sources_next_to(path: Path) -> tuple[Sources, list[SpecError], list[SpecError]]:
    """Run sources and categories beside a workflow, and the mistakes of either."""
    available, _, errors = _sources(path.parent / SOURCES_FILE, None)
    available.categories, _, more = _categories(path.parent / CATEGORIES_FILE, None)
    return available, errors, more


def _categories(path: Path, text: str | None) -> tuple[Categories, str | None, list[SpecError]]:
    """The categories of a folder and their text; a folder need have none."""
    if text is None and not os.path.lexists(path):
        return Categories({}, is_there=False), None, []
    try:
        with reading(path):
            document = read_document(path) if text is None else parse_document(text, path)
            file = CategoriesFile(document)
    except SpecError as error:
        return Categories({}, is_readable=False), text, [error]
    return Categories(file.categories, frozenset(file.broken)), document.text, file.errors


def _sources(path: Path, text: str | None) -> tuple[Sources, str | None, list[SpecError]]:
    """The sources of a folder and their text. Where they cannot be read at all, workflows are not blamed for it."""
    try:
        with reading(path):
            document = read_document(path) if text is None else parse_document(text, path)
            file = SourcesFile(document)
    except SpecError as error:
        return Sources(None), text, [error]
    if not file.sources and not file.broken:
        return Sources(None), document.text, file.errors
    available = Sources(file.sources, frozenset(file.broken), approvers=file.approvers)
    return available, document.text, file.errors
