"""What an injection says of what it did."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class InjectionReport:
    """What an injection did.

    :ivar waits: the groupings that wait for values, each with the run that holds it.
    :ivar source_changes: what the sources say otherwise of runs that are in groups already.
    :ivar errors: sources and workflows that could not be treated; the others were.
    """

    new_runs: int = 0
    changed_runs: int = 0
    assigned: int = 0
    late: int = 0
    not_selected: int = 0
    refused: int = 0
    groups_opened: int = 0
    groups_closed: int = 0
    requested: int = 0
    waits: list[str] = field(default_factory=list)
    source_changes: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def add(self, other: InjectionReport) -> None:
        """Count what was done besides."""
        for name in ("assigned", "late", "not_selected", "refused", "groups_opened", "groups_closed"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
