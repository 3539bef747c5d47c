"""Files that have no mistakes of their own, recalled instead of read: an edit of one file costs the reading of one.

What is checked between the files of a folder needs little of each: its workflow, and the texts of templates that name
other workflows. Where such a check finds anything wrong with a recalled file it asks for the place, which only reading
the file gives: :class:`NeededInFull`.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from airflow_calib_provider.domain.nodes import Position, Scalar
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec import known
from airflow_calib_provider.spec.models import Workflow
from airflow_calib_provider.spec.positions import Document
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.regular import read_bytes
from airflow_calib_provider.spec.tasks import RawTask, TemplateText
from airflow_calib_provider.spec.templates import uses_of
from airflow_calib_provider.spec.workflow_file import Loaded

_NOWHERE = Scalar("", "text", Position(0, 0, 0, 0))


class NeededInFull(Exception):
    """Something may be wrong with a recalled file, so that it is to be read.

    :ivar file: which.
    """

    def __init__(self, file: Path) -> None:
        super().__init__(str(file))
        self.file = file


class _Unread(Problems):
    """Of a recalled file, which has no mistakes as long as nobody finds one."""

    def place(self, where: object) -> NoReturn:
        """Only who reads the file knows."""
        raise NeededInFull(self.file)


class Memory:
    """What is recalled, and kept, of the files of a folder.

    :param sources_text: what the run sources say, on which it depends whether a file has mistakes.
    :param categories_text: what the categories say: likewise.
    """

    def __init__(self, sources_text: str | None, categories_text: str | None = None) -> None:
        others = {"sources": sources_text, "categories": categories_text}
        self._others = known.digest(*("" if text is None else f"{name} {text}" for name, text in others.items()))
        self._root = known.cache_folder()

    def recall(self, file: Path) -> Loaded | None:
        """A file as it was when it was read, if that is known and it had no mistakes."""
        if self._root is None:
            return None
        with suppress(OSError, *known.UNUSABLE):
            kept = known.read(self._entry(read_bytes(file)))
            if isinstance(kept, dict):
                return _loaded(file, known.load(file, kept["workflow"]), kept["templates"])
        return None

    def keep(self, loaded: Loaded) -> None:
        """Keep what was read, if it has no mistakes."""
        if self._root is None or loaded.workflow is None or loaded.problems.errors:
            return
        dumped = loaded.workflow.model_copy(update={"file": ""}).model_dump_json(exclude_defaults=True)
        # What would come back as something else is not kept.
        if known.load(loaded.document.file, dumped) != loaded.workflow:
            return
        templates = {name: [text.text for text in raw.templates if _is_of_others(text.text)]
                     for name, raw in loaded.raw_tasks.items()}  # fmt: skip
        kept = {"workflow": dumped, "templates": {name: texts for name, texts in templates.items() if texts}}
        known.write(self._entry(loaded.document.text.encode()), kept)

    def _entry(self, content: bytes) -> Path:
        assert self._root is not None
        return self._root / f"r-{known.key_of(self._others, hashlib.sha256(content).hexdigest())}"


def is_recalled(loaded: Loaded) -> bool:
    """Whether it was not read."""
    return isinstance(loaded.problems, _Unread)


def _is_of_others(text: str) -> bool:
    try:
        return any(use.path[0] == "workflows" for use in uses_of(text))
    except RenderError:
        return False


def _loaded(file: Path, workflow: Workflow, templates: dict[str, list[str]]) -> Loaded:
    document = Document(file, workflow.text, [], _NOWHERE)
    tasks = {
        name: RawTask(
            name,
            _NOWHERE,
            needs=[(need, _NOWHERE) for need in task.needs],
            products=task.products,
            publish=task.publish,
            publish_tag=_NOWHERE if task.publish is not None else None,
            templates=[TemplateText(_NOWHERE, text) for text in templates.get(name, ())],
        )
        for name, task in workflow.tasks.items()
    }
    return Loaded(document, _Unread(document), workflow, workflow.name, _NOWHERE, raw_tasks=tasks)
