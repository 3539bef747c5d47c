"""What specs would make of runs, told before they do: the decisions of injection over a simulated clock.

::

    from airflow_calib_provider.planning import PlanRequest, plan_specs

    plan = plan_specs(ledger, PlanRequest(Path("workflow_specs")), datetime.now(UTC))

Nothing is written. The functions never import Airflow, and raise :class:`~airflow_calib_provider.errors.CalibError`
with what to do.
"""

from airflow_calib_provider.planning.comparing import PlanDifference, plan_edit
from airflow_calib_provider.planning.plans import PlanRequest, plan_specs
from airflow_calib_provider.planning.records import PlannedGroup, PlannedGrouping, PlannedLock, SpecPlan

__all__ = [
    "PlanDifference",
    "PlanRequest",
    "PlannedGroup",
    "PlannedGrouping",
    "PlannedLock",
    "SpecPlan",
    "plan_edit",
    "plan_specs",
]
