"""What messages to people are about, by the names of ``messages.yaml`` (rule 68)."""

from __future__ import annotations

from typing import Literal, get_args

TopicName = Literal[
    "failed",
    "not_converged",
    "stalled",
    "waiting_for_person",
    "deadline",
    "published",
    "spec_broken",
    "source_unreadable",
    "from_chat",
]

TOPICS: dict[str, str] = {
    "failed": "a task has failed for good",
    "not_converged": "an iteration ended badly",
    "stalled": "a batch system is in trouble, or jobs are held",
    "waiting_for_person": "something goes on only if a person decides",
    "deadline": "a deadline is near, or has passed",
    "published": "constants were published",
    "spec_broken": "a workflow's file has mistakes",
    "source_unreadable": "a run source cannot be read",
    "from_chat": "what was asked for from chat was done, or was not",
}
"""Topic → what has happened, in words; in the order in which a digest has them."""

assert tuple(TOPICS) == get_args(TopicName)
