"""Why a group closed, for people."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from airflow_calib_provider.domain.quantities import format_duration
from airflow_calib_provider.domain.reasons import Reason, listed


def why_closed(reason: Reason | None) -> str:
    """The words for what a group's row keeps; of a kind of another package its code, with what stands beside it."""
    if reason is None:
        return ""
    text = _TEXTS.get(str(reason["code"]))
    if text is not None:
        return text(reason)
    more = [f"{name} {value}" for name, value in reason.items() if name not in ("code", "amounts")]
    return ", ".join([str(reason["code"]), *more])


def _amounts(amounts: Mapping[str, float]) -> str:
    return " and ".join(f"{amount:g} {name}" for name, amount in amounts.items())


def _dropped(reason: Mapping[str, Any]) -> str:
    if not reason.get("minimum"):
        return "dropped, as nothing follows"
    has = _amounts({name: reason["amounts"].get(name, 0.0) for name in reason["minimum"]})
    return f"dropped with {has}, of {_amounts(reason['minimum'])}"


def _tail(reason: Mapping[str, Any]) -> str:
    if reason.get("rule") == "previous":
        return f"the last one: {listed(reason['joined_runs'])} joined it, as too few were left"
    return "the last one: no run follows"


_TEXTS = {
    "by_hand": lambda _: "a person named its runs",
    "run": lambda _: "every run is a group",
    "reached": lambda reason: f"{_amounts(reason['amounts'])} reached",
    "later_fill": lambda reason: f"run {reason['by']} is of a later fill",
    "max_wait": lambda reason: f"no later fill for {format_duration(timedelta(seconds=reason['max_wait']))}",
    "last_fill": lambda _: "the last fill: no run follows",
    "tail": _tail,
    "dropped": _dropped,
}
