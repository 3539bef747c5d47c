"""Reading ``condor``: what a task says about its jobs on an HTCondor pool."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from airflow_calib_provider.backends.condor.names import (
    IDENTIFIER,
    attribute_is_taken,
    command_is_known,
    command_is_ours,
    hint_for,
    nearest_command,
)
from airflow_calib_provider.backends.condor.options import CondorOptions
from airflow_calib_provider.spec.positions import Node, Scalar
from airflow_calib_provider.spec.reading import Keys, Reader
from airflow_calib_provider.spec.templates import is_template

MANY = 1_000_000
_BREAK = re.compile(r"[\n\r\x0b\x0c\x85\u2028\u2029]")


class CondorReader:
    """Reads one block.

    :ivar templates: the texts of ``files``, with their places.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.problems = reader.problems
        self.templates: list[Scalar] = []

    def read(self, node: Node, what: str) -> dict[str, Any]:
        """What is stated, by key."""
        keys = Keys(self.reader, node, what, CondorOptions.model_fields)
        whole = self.reader.integer(1, MANY)
        readers: dict[str, Callable[[Node, str], Any]] = {
            "transfer": self.reader.boolean,
            "files": self._files,
            "container_image": self._line,
            "max_materialize": whole,
            "max_idle": whole,
            "requirements": self._line,
            "accounting_group": self._line,
            "accounting_group_user": self._line,
            "priority": self.reader.integer(-MANY, MANY),
            "attributes": self._attributes,
            "commands": self._commands,
        }
        found = {name: read(keys[name], f"{what}.{name}") for name, read in readers.items() if name in keys}
        return {name: value for name, value in found.items() if value is not None}

    def _line(self, node: Node, what: str) -> str | None:
        """One line of text that is not a template."""
        text = self.reader.filled(node, what)
        if text is None:
            return None
        if is_template(text):
            self.problems.add(f"{what} is a template", node, expected="plain text", hint="templates stand in files")
            return None
        return self._unbroken(node, what, text)

    def _unbroken(self, node: Node, what: str, text: str) -> str | None:
        if _BREAK.search(text):
            self.problems.add(f"{what} contains a line break", node, expected="one line")
            return None
        return text

    def _files(self, node: Node, what: str) -> list[str]:
        files = []
        for item in self.reader.sequence(node, what) or ():
            text = self.reader.filled(item, f"an element of {what}")
            if text is None or not isinstance(item, Scalar):
                continue
            if self._unbroken(item, f"an element of {what}", text) is not None:
                self.templates.append(item)
                files.append(text)
        return files

    def _attributes(self, node: Node, what: str) -> dict[str, str | bool | int | float]:
        found: dict[str, str | bool | int | float] = {}
        for name, entry in (self.reader.mapping(node, what) or {}).items():
            if not self._identifier(name, entry.key, "an attribute"):
                continue
            if attribute_is_taken(name):
                said = f"{name!r} is an attribute that HTCondor or this package sets itself"
                self.problems.add(said, entry.key, expected="an attribute of your own")
                continue
            value = self._plain(entry.value, f"{what}.{name}")
            if isinstance(value, str) and "\\" in value:
                said = f"{what}.{name} holds a backslash, which HTCondor does not read alike everywhere"
                self.problems.add(said, entry.value, expected="a text without one")
            elif value is not None:
                found[name] = value
        return found

    def _plain(self, node: Node, what: str) -> str | bool | int | float | None:
        kind = node.kind if isinstance(node, Scalar) else ""
        if kind == "bool":
            return self.reader.boolean(node, what)
        if kind == "int":
            return self.reader.integer(-(2**63), 2**63 - 1)(node, what)
        if kind == "float":
            return self.reader.number(node, what)
        return self._line(node, what)

    def _commands(self, node: Node, what: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, entry in (self.reader.mapping(node, what) or {}).items():
            if name.startswith("+") or name.lower().startswith("my."):
                own = name.removeprefix("+") if name.startswith("+") else name[3:]
                said = f"{name!r} is an attribute, not a submit command"
                self.problems.add(said, entry.key, expected=f"condor.attributes: {{{own}: …}}")
                continue
            if not self._identifier(name, entry.key, "a submit command"):
                continue
            if command_is_ours(name):
                said = f"{name!r} is a submit command that this package sets itself"
                self.problems.add(said, entry.key, expected="another one", hint=hint_for(name))
                continue
            if not command_is_known(name):
                said = f"HTCondor knows no submit command {name!r}"
                expected = "one of the manual of condor_submit; what a site invented stands in condor.attributes"
                self.problems.add(said, entry.key, expected=expected, hint=nearest_command(name))
                continue
            text = self._line(entry.value, f"{what}.{name}")
            if text is not None:
                found[name] = text
        return found

    def _identifier(self, name: str, key: Node, what: str) -> bool:
        if self.reader.text(key, f"the name of {what}") is None:
            return False
        if not IDENTIFIER.fullmatch(name) or len(name) > 120:
            expected = "letters, digits and '_', not starting with a digit"
            self.problems.add(f"{name[:80]!r} is no name of {what}", key, expected=expected)
            return False
        return True
