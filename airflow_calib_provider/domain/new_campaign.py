"""A campaign as a person asks for it, and as it would be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class NewCampaign:
    """A campaign as a person asks for it.

    :ivar source: of a finite one: where its runs are listed.
    :ivar runs: ranges and numbers; ``None``: all that the source lists.
    :ivar workflows: names; empty: all that take their runs from the source, or of a streamed one all.
    :ivar overrides: ``window`` or ``zee.window`` → value, or a text for one.
    :ivar first_tasks: ``fit`` or ``zee.fit``: it begins there; what comes before is the base campaign's.
    :ivar order: ``ascending`` or ``newest``.
    """

    name: str
    streamed: bool = False
    collecting: bool = False
    source: str | None = None
    runs: str | None = None
    base: str | None = None
    workflows: Sequence[str] = ()
    overrides: Mapping[str, object] = field(default_factory=dict)
    first_tasks: Sequence[str] = ()
    order: str = "ascending"
    priority: int = 0
    max_groups: int | None = None
    max_jobs: int | None = None

    @property
    def kind(self) -> str:
        """As the ledger has it."""
        return "streamed" if self.streamed else "finite"


@dataclass(frozen=True)
class PreparedCampaign:
    """A campaign as it would be created.

    :ivar runs: their numbers; empty of a streamed one.
    :ivar incomplete: those of them that are not completed: it is grouped when they are, or are skipped.
    :ivar workflows: those that are named, or fixed, with the hashes of their files.
    :ivar overrides: workflow → place in the file → value.
    :ivar first_tasks: workflow → tasks.
    """

    wanted: NewCampaign
    base: str | None
    runs: Sequence[int]
    incomplete: Sequence[int]
    workflows: Mapping[str, str]
    overrides: Mapping[str, Mapping[str, object]]
    first_tasks: Mapping[str, Sequence[str]]
