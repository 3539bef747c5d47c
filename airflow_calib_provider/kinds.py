"""Tables of kinds: what a workflow may name, each member in files of its own (rule 45).

A member is named in its own files and in one line of a table here. Other packages add members through entry points of
the group ``airflow_calib_provider.<kind>``, which are loaded only when a workflow names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from airflow_calib_provider.errors import KindError

_PACKAGE = "airflow_calib_provider"


class Kinds:
    """The members of one kind, by name.

    :param what: for messages, in the singular: ``backend``.
    :param plural: the last word of the entry points' group.
    :param own: this package's members: name → ``module:attribute``, the module relative to the package.
    """

    def __init__(self, what: str, plural: str, own: Mapping[str, str]) -> None:
        self.what = what
        self.group = f"{_PACKAGE}.{plural}"
        self.own = dict(own)
        self._loaded: dict[str, Any] = {}

    def names(self) -> tuple[str, ...]:
        """The names of all members, this package's first; none is loaded."""
        return (*self.own, *sorted(_installed(self.group).keys() - self.own.keys()))

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in _installed(self.group)

    def member(self, name: str) -> Any:
        """A member, imported now.

        :raises KindError: there is none of this name, two packages claim it, or it cannot be imported.
        """
        claims = _installed(self.group).get(name, ())
        if len(claims) + (name in self.own) > 1:
            owners = [_PACKAGE] * (name in self.own) + sorted(_owner(claim) for claim in claims)
            raise KindError(
                f"the {self.what} {name!r} is claimed by {' and '.join(owners)}",
                "uninstall one of them, or ask its authors for another name",
            )
        try:
            if claims:
                return claims[0].load()
            if name in self.own:
                if name not in self._loaded:
                    self._loaded[name] = load(f"{_PACKAGE}.{self.own[name]}")
                return self._loaded[name]
        except Exception as error:  # whatever a module of another package raises while it is imported
            raise KindError(
                f"the {self.what} {name!r} cannot be loaded: {type(error).__name__}: {error}",
                "its package was installed after this process began: restart it"
                if claims and isinstance(error, ModuleNotFoundError)
                else "is its extra installed?",
            ) from error
        raise KindError(f"there is no {self.what} {name!r}", f"known are {', '.join(self.names())}")


def load(path: str) -> Any:
    """What ``module:attribute`` names, imported now."""
    module, _, attribute = path.partition(":")
    return getattr(import_module(module), attribute)


@cache
def _installed(group: str) -> Mapping[str, tuple[EntryPoint, ...]]:
    """The entry points of other packages; one that is listed twice for one package counts once."""
    found: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=group):
        if all(point.value != other.value for other in found.get(point.name, ())):
            found.setdefault(point.name, []).append(point)
    return {name: tuple(points) for name, points in found.items()}


def _owner(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


BACKENDS = Kinds(
    "backend",
    "backends",
    {
        "local": "backends.local.kind:KIND",
        "condor": "backends.condor.kind:KIND",
        "kubernetes": "backends.kubernetes.kind:KIND",
    },
)
DEFAULT_BACKEND = "local"
"""Where jobs run if a workflow does not say."""

GROUPINGS = Kinds(
    "grouping",
    "groupings",
    {
        "run": "domain.groupings.run:KIND",
        "fill": "domain.groupings.fill:KIND",
        "sum": "domain.groupings.sum:KIND",
        "count": "domain.groupings.count:KIND",
        "window": "domain.groupings.window:KIND",
        "boundaries": "domain.groupings.boundaries:KIND",
        "until": "domain.groupings.until:KIND",
    },
)
EACH_RUN = "run"
"""The grouping in which every run is a group."""

LOCKS = Kinds(
    "lock",
    "locks",
    {
        "task": "domain.locks.task:KIND",
        "payload": "domain.locks.payload:KIND",
        "delay": "domain.locks.delay:KIND",
        "time": "domain.locks.time:KIND",
        "file": "domain.locks.file:KIND",
        "http": "domain.locks.http:KIND",
        "product": "domain.locks.product:KIND",
        "stored_payload": "domain.locks.stored_payload:KIND",
    },
)
NEEDS = "task"
"""The lock that a need is, outside of its own DAG."""

RUN_SOURCES = Kinds(
    "run source",
    "run_sources",
    {
        "csv": "runsources.csv_kind:KIND",
        "events": "runsources.events_kind:KIND",
        "json": "runsources.json_kind:KIND",
        "http": "runsources.http_kind:KIND",
        "sql": "runsources.sql_kind:KIND",
    },
)
BY_HAND = "csv"
"""The run source of whose form the files are that a person adds."""

CONDITIONS_STORES = Kinds(
    "conditions store",
    "conditions_stores",
    {
        "folder": "outside.conditions_folder:STORE",
        "git": "outside.conditions_git:STORE",
        "nopayloaddb": "outside.conditions_nopayloaddb:STORE",
        "butler": "outside.conditions_butler:STORE",
    },
)
"""Outside stores of payloads: a task may wait for what is there, and publish to those that can be written."""

PAYLOAD_STORES = Kinds("payload store", "payload_stores", {"embedded": "payloads.embedded:STORE"})
DEFAULT_STORE = "embedded"
"""Where published files are kept if a workflow does not say."""

CHANNELS = Kinds(
    "channel",
    "channels",
    {"mattermost": "messages.mattermost_kind:KIND", "email": "messages.email_kind:KIND"},
)
"""Ways by which messages reach people."""
