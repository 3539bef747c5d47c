"""What goes on while a file has mistakes: the last good text of its workflow (rule 43)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_calib_provider.errors import SpecError, SpecErrors
from airflow_calib_provider.spec.cache import checked
from airflow_calib_provider.spec.language import CATEGORIES_FILE, SOURCES_FILE
from airflow_calib_provider.spec.loader import FileCheck, FolderCheck, check_folder, load_text, load_workflow
from airflow_calib_provider.spec.models import Need, RunSource, Task, Workflow

if TYPE_CHECKING:
    from airflow_calib_provider.ledger.spec_files import KeptText, Trouble

    ReadKept = Callable[[], Sequence[KeptText]]

SHOWN = 20
"""How many mistakes of a file are kept in the ledger."""


@dataclass
class Served:
    """What a folder of specs comes to.

    :ivar workflows: by name: as their files say now, or as their last good texts said.
    :ivar sources: likewise.
    :ivar good: files without mistakes: name in the folder → its workflow.
    :ivar categories: the conditions of the categories, by name: likewise.
    :ivar sources_text: of the sources, where they are good.
    :ivar categories_text: of the categories, where there are any and they are good.
    :ivar troubles: what is wrong with the files, by workflow; by file where that has no name.
    :ivar errors: every mistake, in the order of the files.
    """

    workflows: dict[str, Workflow]
    sources: Mapping[str, RunSource]
    good: dict[str, Workflow]
    sources_text: str | None
    troubles: dict[str, Trouble] = field(default_factory=dict)
    errors: list[SpecError] = field(default_factory=list)
    categories: Mapping[str, str] = field(default_factory=dict)
    categories_text: str | None = None

    def refuse(self, file: str, workflow: str, error: SpecError) -> None:
        """Let nothing be decided of a file whose workflow, or whose run source, is another team's."""
        self.good.pop(file, None)
        self.workflows.pop(workflow, None)
        self.troubles.pop(workflow, None)
        self.errors.append(error)

    @property
    def to_inject(self) -> dict[str, Workflow]:
        """The workflows for which anything may be decided."""
        held = {name for name, trouble in self.troubles.items() if trouble.held}
        return {name: workflow for name, workflow in self.workflows.items() if name not in held}

    def texts(self, now: datetime) -> list[KeptText]:
        """The good texts, for the ledger."""
        from airflow_calib_provider.ledger.spec_files import CATEGORIES, SOURCES, KeptText, hash_of

        found = [KeptText(item.name, file, item.hash, item.text, now) for file, item in self.good.items()]
        for name, text in ((SOURCES, self.sources_text), (CATEGORIES, self.categories_text)):
            if text is not None:
                found.append(KeptText(name, name, hash_of(text), text, now))
        return found


def serve(folder: Path, read_kept: ReadKept) -> Served:
    """Read a folder, and fall back to the last good texts for what has mistakes.

    :param read_kept: gives the last good texts; needed to tell which workflows are gone, too.
    """
    first = check = checked(folder)
    kept = {item.workflow: item for item in read_kept()}
    sources_good, categories_good = not check.source_errors, not check.category_errors
    last, named = kept.get(SOURCES_FILE), kept.get(CATEGORIES_FILE)
    old: dict[str, str] = {}
    if last is not None and (not sources_good or _are_to_blame(check, kept, check.sources_text, last)):
        old["sources_text"] = last.text
    if named is not None and (not categories_good or _are_to_blame(check, kept, check.categories_text, named)):
        old["categories_text"] = named.text
    if old:
        # With what the workflows were checked against when they were good.
        check = check_folder(folder, **old, recall=True)
        sources_good &= "sources_text" not in old
        categories_good &= "categories_text" not in old
    # A file may have come, gone or changed between the two looks: of that the next one decides.
    faultless = {(item.file.name, item.hash) for item in first.files if not item.errors}
    served = Served(
        workflows=check.workflows,
        sources=check.sources,
        good={
            item.file.name: item.workflow
            for item in check.files
            if item.workflow is not None and (item.file.name, item.hash) in faultless
        },
        sources_text=check.sources_text if sources_good else None,
        errors=first.errors,
        categories=check.categories,
        categories_text=check.categories_text if categories_good else None,
    )
    if folder.is_dir():
        _fall_back(served, check, kept)
        _tell_of_categories(served, first)
        _tell_of_sources(served, first)
        _tell_of_gone(served, check, kept)
    return served


def serve_file(path: Path, read_kept: ReadKept, *, worker: bool) -> Workflow:
    """The workflow of one file: as it is now, or as its last good text was.

    Of a file that is known to be good, :func:`~airflow_calib_provider.spec.known.good_workflow` tells more quickly.

    :param worker: something of it is running: it goes on even if the file is gone.
    :raises SpecErrors: the file has mistakes and there is no good text before it, or it is gone.
    """
    check = checked(path.parent)
    item = next((item for item in check.files if item.file.name == path.name), None)
    if item is None and (not worker or path.exists()):
        return load_workflow(path)
    if item is None:
        last = next((last for last in read_kept() if last.file == path.name), None)
        found = None if last is None else _read_again(last, check)
        return found or load_workflow(path)
    if item.workflow is not None and not check.source_errors:
        return item.workflow
    served = serve(path.parent, read_kept)
    for workflow in served.workflows.values():
        if Path(workflow.file).name == path.name:
            return workflow
    raise SpecErrors(item.errors or served.errors)


def _are_to_blame(check: FolderCheck, kept: Mapping[str, KeptText], text: str | None, last: KeptText) -> bool:
    """Whether a workflow that nobody edited has mistakes: then an edit of what it is checked against made them.

    :param text: that of now.
    """
    return text != last.text and any(
        item.workflow is None and not item.alone and item.name in kept and kept[item.name].hash == item.hash
        for item in check.files
        if item.name is not None
    )


def _fall_back(served: Served, check: FolderCheck, kept: Mapping[str, KeptText]) -> None:
    """Serve the last good text of what has mistakes."""
    from airflow_calib_provider.ledger.spec_files import Trouble

    again: dict[str, Workflow] = {}
    taken = set(served.workflows)
    for item in check.files:
        if item.workflow is not None:
            continue
        last = _last_good(item, kept, taken)
        if last is None:
            new = Trouble(_reason("spec_refused", item.file, item.errors), held=True)
            served.troubles.setdefault(item.name or item.file.name, new)
            continue
        if last.workflow in again and last.file != item.file.name:
            continue
        taken.add(last.workflow)
        if (found := _read_again(last, check)) is not None:
            again[last.workflow] = found
        reason = _reason("spec_clash" if item.clashes else "spec_broken", item.file, item.errors)
        served.troubles[last.workflow] = Trouble(reason, held=item.clashes or found is None)
    served.workflows |= again
    for name in again:
        served.workflows[name], whole = _with_groupings(served.workflows[name], served.workflows)
        if not whole:
            served.troubles[name] = replace(served.troubles[name], held=True)


def _tell_of_sources(served: Served, first: FolderCheck) -> None:
    """What an edit of the run sources spoilt: their own file, or workflows that nobody edited."""
    from airflow_calib_provider.ledger.spec_files import SOURCES, Trouble

    for item in first.files:
        if item.errors and item.name in served.workflows and item.name not in served.troubles:
            served.troubles[item.name] = Trouble(_reason("spec_broken", item.file, item.errors))
    if first.source_errors:
        reason = _reason("spec_broken", first.folder / SOURCES_FILE, first.source_errors)
        served.troubles[SOURCES] = Trouble(reason)


def _tell_of_categories(served: Served, first: FolderCheck) -> None:
    """Mistakes in the categories are told of each workflow that names some: an edit of these does nothing."""
    from airflow_calib_provider.ledger.spec_files import CATEGORIES, Trouble

    if not first.category_errors:
        return
    reason = _reason("spec_broken", first.folder / CATEGORIES_FILE, first.category_errors)
    served.troubles[CATEGORIES] = Trouble(reason)
    for name, workflow in served.workflows.items():
        if workflow.runs.categories:
            served.troubles.setdefault(name, Trouble(reason))


def _tell_of_gone(served: Served, check: FolderCheck, kept: Mapping[str, KeptText]) -> None:
    """Workflows that no file declares any more are not broken: what is open waits until they are back."""
    from airflow_calib_provider.ledger.spec_files import BESIDE, Trouble

    declared = {item.name for item in check.files} | served.workflows.keys() | served.troubles.keys()
    for name, last in kept.items():
        if name not in declared and name not in BESIDE:
            reason = {"code": "workflow_gone", "workflow": name, "file": last.file}
            served.troubles[name] = Trouble(reason, held=True)


def _reason(code: str, file: Path, errors: Sequence[SpecError]) -> dict[str, object]:
    said = [str(error) for error in errors]
    return {"code": code, "file": str(file), "mistakes": said[:SHOWN], "n": len(said)}


def _last_good(item: FileCheck, kept: Mapping[str, KeptText], taken: set[str]) -> KeptText | None:
    """The last good text of what a file with mistakes was: by the name that it states, else by where it lies."""
    if item.name is not None and item.name in kept:
        return kept[item.name]
    for last in kept.values():
        if last.file == item.file.name and last.workflow not in taken:
            return last
    return None


def _read_again(last: KeptText, check: FolderCheck) -> Workflow | None:
    """A text that was good once; it may be none any more for a later version of this software."""
    try:
        found = load_text(last.text, check.folder / last.file, check.categories)
    except SpecErrors:
        return None
    return found if found.name == last.workflow else None


def _with_groupings(workflow: Workflow, others: Mapping[str, Workflow]) -> tuple[Workflow, bool]:
    """As the check of a folder fills them in, and whether all that is needed is there."""
    whole = True

    def fill_in(need: Need) -> Need:
        nonlocal whole
        if need.workflow == workflow.name:
            return need
        other = others.get(need.workflow)
        if other is None or need.task not in other.tasks:
            whole = False
            return need
        return need.model_copy(update={"grouping": other.tasks[need.task].policy.label})

    def filled(task: Task) -> Task:
        return task.model_copy(update={"needs": tuple(fill_in(need) for need in task.needs)})

    tasks = {name: filled(task) for name, task in workflow.tasks.items()}
    return workflow.model_copy(update={"tasks": tasks}), whole
