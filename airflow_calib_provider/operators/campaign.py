"""The work of the system DAG calib_campaign: its form is checked, and the campaign created."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowSkipException

from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.told import mistakes_are_final, told
from airflow_calib_provider.operators.folder import FolderOperator
from airflow_calib_provider.spec.language import CORRECT, SAME_FORM

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_calib_provider.injection.forms import Asked
    from airflow_calib_provider.ledger.engine import Ledger


class CampaignOperator(FolderOperator):
    """Tells all that is wrong with the form of its DAG, or what it would make."""

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Do it; a mistake of the form is no reason to try again."""
        from airflow_calib_provider.injection.forms import plan_of

        ledger = task_ledger()
        with mistakes_are_final(CORRECT):
            asked = self.ask(ledger, context)
            for line in plan_of(asked.campaign) if asked.campaign is not None else ():
                self.log.info("%s", line)
            if asked.campaign is None:
                self.log.info("the campaign %s was created by this DAG run before", asked.name)
            self.tell_more(ledger, context, asked)
        return {"campaign": asked.name, "runs": len(asked.campaign.runs) if asked.campaign else None}

    def ask(self, ledger: Ledger, context: Context) -> Asked:
        """What becomes of the form here."""
        from airflow_calib_provider.injection.forms import check

        return check(ledger, self._specs, dict(context["params"]), dag_run_of(context))

    def tell_more(self, ledger: Ledger, context: Context, asked: Asked) -> None:
        """Of a dry run what injection would make of its runs, and how to go on."""
        from airflow_calib_provider.planning.new_campaigns import lines_of, plan_campaign

        if not context["params"].get("dry_run", True):
            return
        found = None
        if asked.campaign is not None:
            found = plan_campaign(ledger, self._specs, asked.campaign, datetime.now(UTC))
        for line in lines_of(found) if found is not None else ():
            self.log.info("%s", line)
        self.log.info(
            "a dry run: nothing is created. To create it, on the page of this DAG run click Trigger, then %r, and "
            "switch Dry run off",
            SAME_FORM,
        )


class CreateCampaignOperator(CampaignOperator):
    """Creates the campaign of the form, unless it is a dry run."""

    def ask(self, ledger: Ledger, context: Context) -> Asked:
        """Create it, or find what this DAG run has created."""
        from airflow_calib_provider.injection.forms import create

        params = dict(context["params"])
        if params.get("dry_run", True):
            raise AirflowSkipException("dry run: nothing is created")
        person = getattr(context["dag_run"], "triggering_user_name", None)
        return create(ledger, self._specs, params, dag_run_of(context), datetime.now(UTC), person=person)


def dag_run_of(context: Context) -> str:
    """The name of a DAG run, in all of Airflow."""
    instance = context["ti"]
    return f"{instance.dag_id} {instance.run_id}"
