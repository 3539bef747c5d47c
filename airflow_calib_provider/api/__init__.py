"""What the command line does, for programs: functions that take a ledger and return frozen records.

::

    from airflow_calib_provider import api

    with api.open_ledger() as ledger:
        for value in api.group_values(ledger, name="scale_EB", last=20):
            print(value.group, value.value, value.error)

They never import Airflow, and raise :class:`~airflow_calib_provider.errors.CalibError` with what to do. What is not in
``__all__`` may change at any time.
"""

from airflow_calib_provider.api.amending import amend_group, publish_candidates
from airflow_calib_provider.api.campaigning import (
    add_runs,
    alter_campaign,
    campaign_progress,
    cancel_campaign,
    close_campaign,
    create_campaign,
    pause_campaign,
    prepare_campaign,
    resume_campaign,
    start_campaign,
    update_campaign,
)
from airflow_calib_provider.api.comparing import (
    CampaignComparison,
    PayloadPair,
    ValuePair,
    compare_campaigns,
)
from airflow_calib_provider.api.deciding import AddedRuns, Skipped, record_runs, skip_runs
from airflow_calib_provider.api.drifting import Drift, drift_of, value_drift
from airflow_calib_provider.api.explaining import explain
from airflow_calib_provider.api.planning import plan_edit, plan_specs
from airflow_calib_provider.api.reading import (
    PROMPT,
    GroupRecord,
    ProductRecord,
    campaigns,
    group_values,
    groups,
    open_ledger,
    payload_path,
    payloads,
    products,
    runs,
    values,
)
from airflow_calib_provider.api.stepping import MetricRecord, StepRecord, steps_made
from airflow_calib_provider.api.storing import check_products
from airflow_calib_provider.domain.new_campaign import NewCampaign, PreparedCampaign
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.injection.amending import Amended
from airflow_calib_provider.jobsets.storage import Compared, Found
from airflow_calib_provider.ledger.campaign_progress import CampaignProgress
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.lines import CampaignLine, RunLine
from airflow_calib_provider.ledger.results import GroupValue, Value
from airflow_calib_provider.ledger.rows import Campaign, Payload
from airflow_calib_provider.ledger.steering import Changes, Steered
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.planning.records import PlanDifference, PlannedGroup, PlannedLock, PlanRequest, SpecPlan

__all__ = [
    "PROMPT",
    "AddedRuns",
    "Amended",
    "Campaign",
    "CampaignComparison",
    "CampaignLine",
    "CampaignProgress",
    "Cause",
    "Changes",
    "Compared",
    "Drift",
    "Found",
    "GroupRecord",
    "GroupValue",
    "Ledger",
    "MetricRecord",
    "NewCampaign",
    "Payload",
    "PayloadPair",
    "PlanDifference",
    "PlanRequest",
    "PlannedGroup",
    "PlannedLock",
    "PreparedCampaign",
    "ProductRecord",
    "Published",
    "RunLine",
    "Skipped",
    "SpecPlan",
    "Steered",
    "StepRecord",
    "Value",
    "ValuePair",
    "add_runs",
    "alter_campaign",
    "amend_group",
    "campaign_progress",
    "campaigns",
    "cancel_campaign",
    "check_products",
    "close_campaign",
    "compare_campaigns",
    "create_campaign",
    "drift_of",
    "explain",
    "group_values",
    "groups",
    "open_ledger",
    "pause_campaign",
    "payload_path",
    "payloads",
    "plan_edit",
    "plan_specs",
    "prepare_campaign",
    "products",
    "publish_candidates",
    "record_runs",
    "resume_campaign",
    "runs",
    "skip_runs",
    "start_campaign",
    "steps_made",
    "update_campaign",
    "value_drift",
    "values",
]
