"""In which categories a run is, and why not in the others (rule 52)."""

from __future__ import annotations

from collections.abc import Mapping

from airflow_calib_provider.domain.unmet import InCategory
from airflow_calib_provider.injection.selection import Outcomes, values_of
from airflow_calib_provider.ledger.rows import Run
from airflow_calib_provider.spec.condition_parts import unmet
from airflow_calib_provider.spec.conditions import ConditionError
from airflow_calib_provider.spec.models import RunSource, Workflow


def categories_of(
    row: Run, source: RunSource, categories: Mapping[str, str], workflows: Mapping[str, Workflow]
) -> list[InCategory]:
    """Ask each category of a run, as it is in the ledger now.

    :param categories: category → its condition.
    :param workflows: by name.
    """
    outcomes, found = Outcomes(), []
    for name, text in categories.items():
        users = [
            flow.name for flow in workflows.values() if name in flow.runs.categories and flow.runs.source == source.name
        ]
        try:
            outcomes.condition(text, source)
        except ConditionError as error:
            said = f"it is no condition on runs of {source.name}: {error}"
            found.append(InCategory(name, text, None, (), said, users))
            continue
        seen = outcomes.of(text, source, row)
        is_in = None if isinstance(seen, ConditionError) else seen
        parts = [] if is_in else unmet(text, source.fields, values_of(row), untold=is_in is None)
        found.append(InCategory(name, text, is_in, parts, "", users))
    return found
