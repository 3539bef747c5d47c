"""Which of the tasks that wait for a slot of Airflow's comes first (rule 26)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.task.priority_strategy import PriorityWeightStrategy, get_airflow_priority_weight_strategies

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

PROMPT_WEIGHT = 500
"""More than any task has by itself, and less than those of the system DAGs, which open what comes next."""

OF_PROMPT = "prompt__"
"""How the id of a DAG run begins that was opened for a group of ``prompt`` (rule 4)."""


class PromptFirst(PriorityWeightStrategy):
    """The weight by Airflow's rule ``downstream``, and in the DAG runs of ``prompt`` :data:`PROMPT_WEIGHT` more."""

    def get_weight(self, ti: TaskInstance) -> int:
        """The weight of a task in its DAG run."""
        weight: int = get_airflow_priority_weight_strategies()["downstream"]().get_weight(ti)
        return weight + (PROMPT_WEIGHT if ti.run_id.startswith(OF_PROMPT) else 0)
