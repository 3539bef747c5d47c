"""InfluxQL in Grafana: the query of a panel, and the conditions that all queries share.

Every identifier is quoted, since ``group`` and ``name`` are words of the language. Variables are written as regular
expressions (``${campaign:regex}``), which holds for one value, several and *All* alike, and quotes what is special.
The state that a row has now is the point with the highest ``event``: times may go backwards, numbers of events do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from grafana_foundation_sdk.cog import runtime
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models.dashboard import DataSourceRef

SOURCE_TYPE = "influxdb"
SOURCE_UID = "calib"
"""The data source that ``provisioning/datasources`` makes; dashboards name it and nothing else."""

SOURCE = DataSourceRef(type_val=SOURCE_TYPE, uid=SOURCE_UID)

CAMPAIGN = '"campaign" =~ /^${campaign:regex}$/'
WORKFLOW = '"workflow" =~ /^${workflow:regex}$/'
HERE = f"{CAMPAIGN} AND {WORKFLOW} AND $timeFilter"
"""What the variables and the time range at the top of a dashboard choose."""

INTERVAL = "time($__interval)"

TABLE = "table"
SERIES = "time_series"

_KEYS = {"refId", "datasource", "query", "rawQuery", "resultFormat", "alias", "hide"}


@dataclass
class InfluxQuery(Dataquery):
    """A query of Grafana's InfluxDB data source; the SDK knows none of its own.

    :ivar query: InfluxQL with Grafana's variables.
    :ivar format: ``table`` or ``time_series``.
    :ivar alias: how a series is named, with ``$tag_<name>``.
    """

    query: str
    format: str = SERIES
    alias: str | None = None
    ref_id: str = "A"

    def to_json(self) -> dict[str, object]:
        """As Grafana stores a query of its InfluxDB data source."""
        payload: dict[str, object] = {
            "refId": self.ref_id,
            "datasource": SOURCE,
            "query": self.query,
            "rawQuery": True,
            "resultFormat": self.format,
        }
        if self.alias is not None:
            payload["alias"] = self.alias
        return payload

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """:raises ValueError: it has keys that this class would lose, or is no raw query."""
        if unknown := data.keys() - _KEYS:
            raise ValueError(f"unknown keys of an InfluxDB query: {sorted(unknown)}")
        if data.get("rawQuery") is not True:
            raise ValueError("only raw queries are used")
        return cls(data["query"], data["resultFormat"], data.get("alias"), data["refId"])


class Target(Builder[InfluxQuery]):
    """What panels of the SDK are given: it asks a builder for the query."""

    def __init__(self, query: InfluxQuery) -> None:
        self._query = query

    def build(self) -> InfluxQuery:
        """The query, as the builders of panels ask for it."""
        return self._query


def series(query: str, alias: str) -> InfluxQuery:
    """A query whose series are drawn over time."""
    return InfluxQuery(query, SERIES, alias)


def table(query: str) -> InfluxQuery:
    """A query whose rows are those of a table: the time, the tags it groups by, the fields."""
    return InfluxQuery(query, TABLE)


def select(what: str, source: str, *where: str, by: str = "", fill: str = "") -> str:
    """A SELECT.

    :param source: a measurement, or another SELECT.
    :param where: conditions, all of which must hold.
    :param by: what it groups by.
    :param fill: what intervals without points get: ``none``, ``0``.
    """
    text = f"SELECT {what} FROM {f'({source})' if ' ' in source else quoted(source)}"  # noqa: S608 - of our own words
    text += f" WHERE {' AND '.join(where)}" if where else ""
    text += f" GROUP BY {by}" if by else ""
    return text + (f" fill({fill})" if fill else "")


def tag_values(measurement: str, tag: str, *where: str) -> str:
    """All values of a tag, for a variable."""
    text = f"SHOW TAG VALUES FROM {quoted(measurement)} WITH KEY = {quoted(tag)}"
    return text + (f" WHERE {' AND '.join(where)}" if where else "")


def quoted(name: str) -> str:
    """An identifier."""
    return f'"{name}"'


def current_states(*fields: str, where: Sequence[str] = (HERE,)) -> str:
    """The latest state of each task of each run, with these fields besides ``event``."""
    what = ", ".join(['max("event") AS "event"', *map(quoted, fields)])
    return select(what, "run_task", *where, by='"workflow", "task", "run"')


def sampled_now(field: str) -> str:
    """A figure of ``system`` as it is now: the sum over the chosen workflows.

    Samples are taken at least every ten minutes, of workflows that have something left to do.
    """
    latest = select(f'max("event"), {quoted(field)} AS "n"', "system", HERE, "time > now() - 15m", by='"workflow"')
    return select('sum("n")', latest)


def sampled(field: str) -> str:
    """A figure of ``system`` over time: the sum over the chosen workflows."""
    each = select(f'mean({quoted(field)}) AS "n"', "system", HERE, by=f'{INTERVAL}, "workflow"', fill="none")
    return select('sum("n")', each, "$timeFilter", by=INTERVAL, fill="none")


def installation(figure: str) -> str:
    """A figure of ``system`` that is of the whole installation, whatever is chosen."""
    return select(figure, "system", "$timeFilter", by=INTERVAL, fill="none")


def register() -> None:
    """Teach the SDK to read InfluxDB queries back, beside its own panels and queries."""
    from grafana_foundation_sdk.cog.plugins import register_default_plugins

    register_default_plugins()
    runtime.register_dataquery_variant(runtime.DataqueryConfig(SOURCE_TYPE, InfluxQuery.from_json))
