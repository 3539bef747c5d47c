"""What a connection to a pool says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_calib_provider.errors import BackendError

DEFAULT_CONNECTION = "calib_condor"

AUTHENTICATION = ("IDTOKENS", "SCITOKENS", "FS", "SSL", "KERBEROS", "CLAIMTOBE")

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class CondorSettings:
    """One way to reach a schedd.

    :ivar name: the connection's id: part of folder names.
    :ivar collector: ``host`` or ``host:port`` of the pool's collector; empty: the one of this machine's configuration.
    :ivar schedd: the schedd's name; empty: the one of this machine.
    :ivar authentication: one or more of :data:`AUTHENTICATION`, separated by commas, in order of preference; empty: as
        this machine's HTCondor is configured.
    :ivar token: a token's text; written to a file that only this user may read, for as long as a helper process lives.
    :ivar token_file: a token's file, instead.
    :ivar transfer: whether HTCondor transfers files, unless the spec says otherwise; else jobs see the same file
        system.
    :ivar event_log: whether the schedd can write the event log where this process can read it; if not, everything is
        learned by queries.
    :ivar timeout: seconds within which the schedd must answer a call.
    :ivar query_interval: seconds between two queries for jobs that no event log tells of.
    :ivar defaults: what ``jobs.condor`` in a spec may say, for all tasks.
    :ivar configuration: further HTCondor settings of the client, by name.
    """

    name: str = DEFAULT_CONNECTION
    collector: str = ""
    schedd: str = ""
    authentication: str = ""
    token: str = field(default="", repr=False)
    token_file: str = ""
    transfer: bool = False
    event_log: bool = True
    timeout: float = 20.0
    query_interval: float = 15.0
    defaults: Mapping[str, object] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_types()
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", self.name):
            raise self._wrong(f"its id {self.name!r} is not a name", "use letters, digits, '_' and '-'")
        for method in self.methods:
            if method not in AUTHENTICATION:
                raise self._wrong(
                    f"unknown authentication method {method!r}", f"the methods are {', '.join(AUTHENTICATION)}"
                )
        if self.token and self.token_file:
            raise self._wrong("it has both a token and a token file", "give one of them")
        if not 0 < self.timeout <= 600 or not 1 <= self.query_interval <= 3600:
            raise self._wrong("timeout must lie between 0 and 600 s, query_interval between 1 and 3600 s")
        self._check_defaults()
        for name, value in self.configuration.items():
            if not _NAME.fullmatch(name) or not isinstance(value, str) or "\n" in value:
                raise self._wrong(f"configuration {name!r} must be a name with a text of one line")

    def _check_types(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            kinds: dict[str, tuple[type, ...]] = {"bool": (bool,), "float": (int, float), "str": (str,)}
            kind = kinds.get(str(item.type), (Mapping,))
            if not isinstance(value, kind) or (isinstance(value, bool) and kind != (bool,)):
                raise self._wrong(f"{item.name} must be {item.type}, not {type(value).__name__}")
            if isinstance(value, str) and item.name != "token" and ("\n" in value or "\0" in value):
                raise self._wrong(f"{item.name} holds a line break")

    def _check_defaults(self) -> None:
        if not self.defaults:
            return
        # Read as a spec's block is: what would be a mistake there is one here.
        from airflow_calib_provider.spec.arguments import ArgumentsReader

        reader = ArgumentsReader({"condor": self.defaults})
        reader.settings()
        if mistakes := reader.mistakes:
            raise self._wrong("defaults: " + "; ".join(mistakes))
        if "files" in self.defaults:
            raise self._wrong(
                "defaults has files, which a task alone knows", "name them in jobs.condor.files of a spec"
            )

    def _wrong(self, what: str, hint: str = "") -> BackendError:
        return BackendError(f"the connection {self.name}: {what}", hint)

    @property
    def methods(self) -> tuple[str, ...]:
        """The authentication methods, in order of preference."""
        return tuple(word.strip().upper() for word in self.authentication.split(",") if word.strip())

    @property
    def address(self) -> str:
        """The schedd, for people."""
        return f"the schedd {self.schedd or 'of this machine'}" + (f" at {self.collector}" if self.collector else "")

    @classmethod
    def from_mapping(cls, name: str, values: Mapping[str, Any]) -> CondorSettings:
        """Settings from a connection's fields; empty ones count as not given.

        :raises BackendError: a field is unknown, or has a value that it must not have.
        """
        known = {item.name for item in fields(cls)} - {"name"}
        if unknown := sorted(set(values) - known):
            raise BackendError(
                f"the connection {name} has an unknown field {unknown[0]!r}", f"known are {', '.join(sorted(known))}"
            )
        return cls(name, **{key: value for key, value in values.items() if value is not None and value != ""})
