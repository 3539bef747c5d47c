"""``categories.yaml``: conditions on runs that are named once, for all workflows of a folder (rule 52)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from airflow_calib_provider.domain.keys import Keys, NotEmpty, Words
from airflow_calib_provider.domain.scalars import Filled, Name
from airflow_calib_provider.errors import SpecError
from airflow_calib_provider.spec.language import API_VERSION
from airflow_calib_provider.spec.models import RunSource
from airflow_calib_provider.spec.positions import Document, Scalar
from airflow_calib_provider.spec.problems import Problems
from airflow_calib_provider.spec.sources_keys import Version
from airflow_calib_provider.spec.written import read_keys


class CategoriesKeys(Keys):
    """The whole file."""

    version: Annotated[
        Version, Words(missing=API_VERSION), Field(alias="apiVersion", description="the version of the language")
    ] = ""
    categories: Annotated[
        dict[Name, Filled],
        NotEmpty("at least one category", "there are no categories"),
        Words(
            missing="{<name>: <condition>}",
            key="the category",
            entry="the category {key!r}",
            type="mapping of names to [conditions](#conditions)",
        ),
        Field(default_factory=dict, description="at least one; a workflow names those whose runs it takes"),
    ]


@dataclass(frozen=True)
class Category:
    """A named condition.

    :ivar scalar: where its text stands in the file.
    """

    text: str
    scalar: Scalar
    document: Document

    def mistakes(self, source: RunSource) -> list[SpecError]:
        """Why it is no condition on the runs of a source, each with its place in the file."""
        from airflow_calib_provider.spec.where import check_condition

        problems = Problems(Document(self.document.file, self.document.text, self.document.lines, self.scalar))
        check_condition(self.scalar, self.text, source, problems)
        return problems.sorted()


@dataclass
class Categories:
    """The categories that a workflow may name.

    :ivar known: those without mistakes of their own; ``None``: they are not looked at.
    :ivar broken: the names of those with mistakes, reported elsewhere.
    :ivar is_there: there is such a file, :ivar is_readable: of which more is known than that.
    """

    known: Mapping[str, Category] | None = None
    broken: frozenset[str] = frozenset()
    is_there: bool = True
    is_readable: bool = True
    _mistakes: dict[tuple[str, str], list[SpecError]] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, str]:
        """The conditions, by name."""
        return {name: one.text for name, one in (self.known or {}).items()}

    def mistakes(self, name: str, source: RunSource) -> list[SpecError]:
        """Why a category is none of the runs of a source; looked at once, however many workflows name it."""
        key = (name, source.name)
        if key not in self._mistakes:
            self._mistakes[key] = (self.known or {})[name].mistakes(source)
        return self._mistakes[key]


class CategoriesFile:
    """A categories file as read.

    :ivar categories: those without mistakes.
    :ivar broken: the names of those with mistakes.
    :ivar errors: all mistakes, in the order of the file.
    """

    def __init__(self, document: Document) -> None:
        self.categories: dict[str, Category] = {}
        problems = Problems(document)
        read = read_keys(CategoriesKeys, document.root, "the categories file", problems)
        self.broken = {str(where[1]) for where in read.wrong if where[0] == "categories" and len(where) > 1}
        for name, text in (read.keys.categories if read.keys is not None else {}).items():
            node = read.find("categories", name)
            if name in self.broken or not isinstance(node, Scalar):
                continue
            if _is_condition(node, text, problems):
                self.categories[name] = Category(text, node, document)
            else:
                self.broken.add(name)
        self.errors: list[SpecError] = problems.sorted()


def _is_condition(node: Scalar, text: str, problems: Problems) -> bool:
    """Whether a text can be read, whatever its fields are; what is wrong is reported."""
    from airflow_calib_provider.spec.where import check_condition

    before = len(problems.errors)
    check_condition(node, text, None, problems)
    return len(problems.errors) == before


def resolved(names: Iterable[str], known: Mapping[str, str]) -> dict[str, str]:
    """Category → its condition; empty where that is not known."""
    return {name: known.get(name, "") for name in names}
