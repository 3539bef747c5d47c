"""The fields of the form of a workflow's DAGs (rule 57)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_calib_provider.spec.models import Workflow

FIELDS = ("runs", "campaign")


def by_hand_fields(workflow: Workflow) -> Mapping[str, str]:
    """What is meant → the name of its field, which is another where the workflow has a param of the usual one."""
    return {name: f"calib_{name}" if name in workflow.params else name for name in FIELDS}
