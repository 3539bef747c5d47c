"""The name of one submission."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class RoundKey:
    """Names one submission: the deterministic key that makes submission find-or-create (rule 13).

    Names never contain a dot, hence ``str(key)`` is unique; it is safe as a file name.
    """

    campaign: str
    workflow: str
    task: str
    group: str
    generation: int
    step: int
    round: int

    def __str__(self) -> str:
        return f"{self.campaign}.{self.workflow}.{self.task}.{self.group}.g{self.generation}.s{self.step}.r{self.round}"

    @property
    def of_workers(self) -> bool:
        """Whether it is one of reserved workers, which are jobs of a step below 0."""
        return self.step < 0

    @classmethod
    def parse(cls, text: str) -> RoundKey:
        """The inverse of ``str(key)``.

        :raises ValueError: the text is not a key.
        """
        parts = text.split(".")
        if len(parts) != 7 or [part[:1] for part in parts[4:]] != ["g", "s", "r"]:
            raise ValueError(f"not the key of a round: {text!r}")
        campaign, workflow, task, group = parts[:4]
        generation, step, number = (int(part[1:]) for part in parts[4:])
        return cls(campaign, workflow, task, group, generation, step, number)
