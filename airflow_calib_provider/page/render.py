"""From what a view shows to HTML: everything that comes from data is escaped, what is obeyed by browsers, too."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from airflow_calib_provider.domain import page_addresses
from airflow_calib_provider.domain.escaping import escaped
from airflow_calib_provider.domain.reasons import render
from airflow_calib_provider.ledger import publication_deadlines
from airflow_calib_provider.ledger.publication_deadlines import PublicationDeadline
from airflow_calib_provider.spec.language import APPROVE_SUFFIX

SIGNS: Mapping[str, str] = {
    "new": "○",
    "forming": "○",
    "waiting": "…",
    "held": "…",
    "processing": "▶",
    "running": "▶",
    "submitted": "▷",
    "done": "✓",
    "succeeded": "✓",
    "published": "✓",
    "approved": "✓",
    "passed": "✓",
    "asked": "?",
    "withdrawn": "✗",
    "expired": "–",
    "void": "–",
    "superseded": "–",
    "validated": "?",
    "candidate": "?",
    "failed": "✗",
    "never": "✗",
    "open": "✓",
    "refused": "✗",
    "rejected": "✗",
    "skipped": "–",
    "excluded": "–",
    "not_selected": "–",
    "late": "↷",
}
"""Before each state, so that it is not told by its colour alone."""

DEADLINES: Mapping[str, tuple[str, str]] = {
    publication_deadlines.COUNTING: ("◷", ""),
    publication_deadlines.NEAR: ("!", "near"),
    publication_deadlines.PASSED: ("✗", ""),
    publication_deadlines.MET: ("✓", "published; was due"),
    publication_deadlines.LIFTED: ("–", "lifted; was due"),
}
"""Sign and word of each state of a deadline."""

SHORT = 90
"""Characters of a reason in a cell; the whole of it is on the group's page, and where one points."""


@lru_cache(500)
def state(name: str | None, late: bool = False) -> Markup:
    """A state with its sign."""
    if not name:
        return Markup("")
    sign = SIGNS.get(name, "•")
    said = escape(escaped(name.replace("_", " ")) + (" (late)" if late else ""))
    shown = f'<span class="state state-{escape(name)}"><span class="sign" aria-hidden="true">{sign}</span>{said}</span>'
    return Markup(shown)  # noqa: S704 - each part of it is escaped


@lru_cache(5_000)
def moment(at: datetime | None) -> Markup:
    """A time, in UTC."""
    if at is None:
        return Markup("")
    whole, short = at.isoformat(timespec="seconds"), f"{at:%Y-%m-%d %H:%M}"
    return Markup(f'<time datetime="{whole}" title="{whole}">{short}</time>')  # noqa: S704 - numbers


def countdown(at: datetime | None) -> Markup:
    """A time until which something is waited for, with how much of it is left."""
    if at is None:
        return Markup("")
    return moment(at) + Markup(' <span class="note">{}</span>').format(_left(at, datetime.now(UTC)))


def _left(at: datetime, now: datetime) -> str:
    left = (at - now).total_seconds()
    hours, minutes = divmod(int(abs(left)) // 60, 60)
    lasts = f"{hours} h" if hours >= 48 else f"{hours} h {minutes} min"
    if left < 0:
        return "passed just now" if left > -60 else f"passed {lasts} ago"
    return f"in {lasts}"


def publish_by(deadline: PublicationDeadline | None) -> Markup:
    """Until when something is to be published, and whether that is near, has passed or was met."""
    if deadline is None or deadline.due is None:
        return Markup("")
    now = datetime.now(UTC)
    standing = deadline.standing(now)
    sign, word = DEADLINES[standing]
    said = word if standing in (publication_deadlines.MET, publication_deadlines.LIFTED) else _left(deadline.due, now)
    if standing == publication_deadlines.NEAR:
        said = f"{word}: {said}"
    shown = '<span class="deadline deadline-{}"><span class="sign" aria-hidden="true">{}</span>{}</span> '
    return Markup(shown).format(standing, sign, said) + moment(deadline.due)  # noqa: S704 - a literal


def lines(text: str) -> Markup:
    """A text of several lines."""
    return Markup("<br>").join(escaped(line) for line in text.split("\n"))


def shortened(text: str) -> str:
    """The beginning of a reason."""
    text = text.replace("\n", " ")
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"


def of_airflow(*parts: str) -> str:
    """The address of a page of Airflow's UI, relative to the views."""
    return "../" + "/".join(quote(part, safe="") for part in parts)


def _shown(value: Any) -> Any:
    return escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("airflow_calib_provider.page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {
        "state": state,
        "moment": moment,
        "countdown": countdown,
        "publish_by": publish_by,
        "lines": lines,
        "shortened": shortened,
        "of_airflow": of_airflow,
        "to": page_addresses.view_address,
        "why": render,
        "approve": APPROVE_SUFFIX,
    }
    return made


def html(template: str, **data: Any) -> str:
    """A whole page."""
    return _environment().get_template(template).render(**data)
