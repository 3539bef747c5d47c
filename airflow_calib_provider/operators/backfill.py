"""The work of the system DAG calib_backfill: a day's runs go into a collecting campaign."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.told import mistakes_are_final, told
from airflow_calib_provider.operators.folder import FolderOperator
from airflow_calib_provider.spec.language import BACKFILL

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_calib_provider.injection.backfill import Active

ACTIVE = ["queued", "running"]


class CollectOperator(FolderOperator):
    """Adds the completed runs that ended in the day of its DAG run to the campaign that a backfill names."""

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Collect a day; what is wrong with what is asked for is no reason to try again."""
        dag_run = context["dag_run"]
        if dag_run.run_type == "scheduled":
            raise AirflowSkipException("nobody asked for this day: it is there for backfills")
        begin, end = dag_run.data_interval_start, dag_run.data_interval_end
        if dag_run.run_type != "backfill" or begin is None or end is None:
            raise AirflowFailException(
                f"{BACKFILL} is for days: choose Backfill in the dialog of its Trigger button. To process given runs, "
                "use calib_campaign"
            )

        from airflow_calib_provider.injection.backfill import collect
        from airflow_calib_provider.ledger.backfill_days import Day

        day = Day(context["ti"].dag_id, dag_run.run_id, begin, end)
        with mistakes_are_final():
            found = collect(
                task_ledger(),
                self._specs,
                dag_run.conf,
                day,
                active_days(context),
                datetime.now(UTC),
                getattr(dag_run, "triggering_user_name", None),
            )
        self.log.info("%d runs ended in this day; %d of them are new in %s", found.runs, found.added, found.campaign)
        for line in found.left:
            self.log.warning("%s", line)
        if found.unfinished:
            self.log.warning(
                "the campaign %s stays collecting: %s began and are not done. Clear them if they have failed, or begin "
                "it without them: calib campaign start %s",
                found.campaign,
                ", ".join(found.unfinished[:10]),
                found.campaign,
            )
        else:
            self.log.info("the campaign %s is %s", found.campaign, found.state)
        return {"campaign": found.campaign, "runs": found.runs, "added": found.added, "state": found.state}


class StartOperator(BaseOperator):
    """Starts the campaigns whose days are all done, where none of them has seen that it was the last.

    Its success is an announcement: so it is skipped where there is nothing to start.
    """

    ui_color = "#eadcf4"

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Start them; a try after a death may have started some, and announces them."""
        from airflow_calib_provider.injection.backfill import start_collected

        started = start_collected(task_ledger(), active_days(context), datetime.now(UTC))
        for name in started:
            self.log.info("the campaign %s has all of its days: started", name)
        if not started and context["ti"].try_number == 1:
            raise AirflowSkipException("no campaign has all of its days, and waits for its start")
        return {"started": started}


def active_days(context: Context) -> Active:
    """How many DAG runs are queued or running in Airflow."""
    instance: Any = context["ti"]

    def active(dag_id: str, run_ids: Sequence[str] | None) -> int:
        named = None if run_ids is None else list(run_ids)
        return int(instance.get_dr_count(dag_id=dag_id, run_ids=named, states=ACTIVE))

    return active
