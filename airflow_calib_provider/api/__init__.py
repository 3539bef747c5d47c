"""What the command line does, for programs: functions that take a ledger and return frozen records.

::

    from airflow_calib_provider import api

    with api.open_ledger() as ledger:
        for value in api.group_values(ledger, name="scale_EB", last=20):
            print(value.group, value.value, value.error)

They never import Airflow, though some ask it over its REST API, and raise
:class:`~airflow_calib_provider.errors.CalibError` with what to do. What is not in ``__all__`` may change at any time.
"""

from airflow_calib_provider.api.amending import ClearedEdition, amend_group, clear_amended, publish_candidates
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
from airflow_calib_provider.api.categorizing import CategorizedRun, RunCategories, run_categories
from airflow_calib_provider.api.checking import CheckedDag, SpecCheck, check_specs
from airflow_calib_provider.api.comparing import (
    CampaignComparison,
    PayloadPair,
    ValuePair,
    compare_campaigns,
)
from airflow_calib_provider.api.deciding import AddedRuns, Skipped, record_runs, skip_runs
from airflow_calib_provider.api.drifting import Drift, drift_of, value_drift
from airflow_calib_provider.api.explaining import explain
from airflow_calib_provider.api.holding import payload_content, payload_for
from airflow_calib_provider.api.job_logs import AttemptLog, job_log, jobs
from airflow_calib_provider.api.messaging import (
    ChannelStatus,
    TriedChannel,
    message_channels,
    preview_messages,
    try_channels,
)
from airflow_calib_provider.api.mirroring import (
    MirrorStatus,
    RebuiltMirror,
    check_mirror,
    delete_mirror,
    mirror_status,
    rebuild_mirror,
)
from airflow_calib_provider.api.orphaned import BackendTrouble, Orphan, Orphans, orphans
from airflow_calib_provider.api.overview import RunStatus, StatusTable, status
from airflow_calib_provider.api.payload_life import (
    AnsweredPayload,
    DecisionRecord,
    PayloadRecord,
    approve_payload,
    check_payloads,
    check_stores,
    payload_consumers,
    payload_record,
    payload_set,
    reject_payload,
    rollback_payload,
    withdraw_payload,
)
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
from airflow_calib_provider.api.retrying import Retried, retry_group
from airflow_calib_provider.api.staleness import RerunOutcome, rerun_stale, smallest_rerun, stale_payloads
from airflow_calib_provider.api.stepping import MetricRecord, StepRecord, steps_made
from airflow_calib_provider.api.storing import check_products
from airflow_calib_provider.api.versions import LedgerVersion, UpgradedLedger, ledger_version, upgrade_ledger
from airflow_calib_provider.domain.new_campaign import NewCampaign, PreparedCampaign
from airflow_calib_provider.domain.reasons import Cause
from airflow_calib_provider.domain.unmet import InCategory
from airflow_calib_provider.injection.amending import Amended
from airflow_calib_provider.jobsets.storage import Compared, Found
from airflow_calib_provider.ledger.campaign_progress import CampaignProgress
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.lines import CampaignLine, JobLine, RunLine
from airflow_calib_provider.ledger.results import GroupValue, Value
from airflow_calib_provider.ledger.rows import Campaign, Payload
from airflow_calib_provider.ledger.source_reads import SourceTrouble
from airflow_calib_provider.ledger.steering import Changes, Steered
from airflow_calib_provider.mirror.check import CheckReport, MirrorCounts
from airflow_calib_provider.mirror.rebuild import RebuildProgress
from airflow_calib_provider.mirror.status import TargetStatus
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.payloads.checking import CheckedPayload
from airflow_calib_provider.payloads.comparison import OldAndNew
from airflow_calib_provider.payloads.corrections import Consumer
from airflow_calib_provider.payloads.drifting import StoreDrift
from airflow_calib_provider.payloads.staleness import Rerun, StalePayload
from airflow_calib_provider.payloads.store import Published
from airflow_calib_provider.planning.records import (
    PlanDifference,
    PlannedDeadline,
    PlannedGroup,
    PlannedLock,
    PlanRequest,
    SpecPlan,
)
from airflow_calib_provider.rest.announcing import Announcement, announce_runs

__all__ = [
    "PROMPT",
    "AddedRuns",
    "Amended",
    "Announcement",
    "AnsweredPayload",
    "AttemptLog",
    "BackendTrouble",
    "Campaign",
    "CampaignComparison",
    "CampaignLine",
    "CampaignProgress",
    "CategorizedRun",
    "Cause",
    "Changes",
    "ChannelStatus",
    "CheckReport",
    "CheckedDag",
    "CheckedPayload",
    "ClearedEdition",
    "Compared",
    "Consumer",
    "DecisionRecord",
    "Drift",
    "Found",
    "GroupRecord",
    "GroupValue",
    "InCategory",
    "InfluxTarget",
    "JobLine",
    "Ledger",
    "LedgerVersion",
    "MetricRecord",
    "MirrorCounts",
    "MirrorStatus",
    "NewCampaign",
    "OldAndNew",
    "Orphan",
    "Orphans",
    "Payload",
    "PayloadPair",
    "PayloadRecord",
    "PlanDifference",
    "PlanRequest",
    "PlannedDeadline",
    "PlannedGroup",
    "PlannedLock",
    "PreparedCampaign",
    "ProductRecord",
    "Published",
    "RebuildProgress",
    "RebuiltMirror",
    "Rerun",
    "RerunOutcome",
    "Retried",
    "RunCategories",
    "RunLine",
    "RunStatus",
    "Skipped",
    "SourceTrouble",
    "SpecCheck",
    "SpecPlan",
    "StalePayload",
    "StatusTable",
    "Steered",
    "StepRecord",
    "StoreDrift",
    "TargetStatus",
    "TriedChannel",
    "UpgradedLedger",
    "Value",
    "ValuePair",
    "add_runs",
    "alter_campaign",
    "amend_group",
    "announce_runs",
    "approve_payload",
    "campaign_progress",
    "campaigns",
    "cancel_campaign",
    "check_mirror",
    "check_payloads",
    "check_products",
    "check_specs",
    "check_stores",
    "clear_amended",
    "close_campaign",
    "compare_campaigns",
    "create_campaign",
    "delete_mirror",
    "drift_of",
    "explain",
    "group_values",
    "groups",
    "job_log",
    "jobs",
    "ledger_version",
    "message_channels",
    "mirror_status",
    "open_ledger",
    "orphans",
    "pause_campaign",
    "payload_consumers",
    "payload_content",
    "payload_for",
    "payload_path",
    "payload_record",
    "payload_set",
    "payloads",
    "plan_edit",
    "plan_specs",
    "prepare_campaign",
    "preview_messages",
    "products",
    "publish_candidates",
    "rebuild_mirror",
    "record_runs",
    "reject_payload",
    "rerun_stale",
    "resume_campaign",
    "retry_group",
    "rollback_payload",
    "run_categories",
    "runs",
    "skip_runs",
    "smallest_rerun",
    "stale_payloads",
    "start_campaign",
    "status",
    "steps_made",
    "try_channels",
    "update_campaign",
    "upgrade_ledger",
    "value_drift",
    "values",
    "withdraw_payload",
]
