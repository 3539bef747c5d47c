"""RunGroupSensor and LockSensor: they look once, and go on waiting in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_calib_provider.hooks.dag_runs import open_dag_runs
from airflow_calib_provider.hooks.group import described, group_of
from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.links import AwaitedLink
from airflow_calib_provider.hooks.told import told

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_calib_provider.spec.models import Workflow


class LedgerSensor(BaseSensorOperator):
    """Waits for something in the ledger, without a time limit of its own (rule 24).

    :param workflow: the workflow.
    :param waits_for: the task of the group whose locks are waited for; empty: the group itself.
    """

    ui_color = "#fbeecb"
    operator_extra_links = (AwaitedLink(),)

    def __init__(self, *, workflow: Workflow, waits_for: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._workflow = workflow
        self._waits_for = waits_for

    @property
    def waits_for(self) -> str:
        """The task whose locks are waited for; empty: the group."""
        return self._waits_for

    @told
    def execute(self, context: Context) -> None:
        """Look once; defer if the ledger says wait."""
        ledger = task_ledger()
        group = group_of(ledger, context, self._workflow)

        from airflow_calib_provider.domain.failed_runs import left_out
        from airflow_calib_provider.domain.lock_words import gone_on
        from airflow_calib_provider.domain.reasons import render
        from airflow_calib_provider.ledger.waiting import look_and_record

        key = (group.id, self._waits_for)
        seen = look_and_record(ledger, [key])[key]
        if seen.state == "open":
            # Who triggered it by hand without a name for the campaign finds it here, and what a range came to.
            self.log.info("open" if self._waits_for else f"open: {described(ledger, group)}")
            for line in (*left_out(seen.without), *gone_on(seen.gone_on)):
                self.log.warning("%s", line)
            return
        text = render(seen.reason)
        context["ti"].xcom_push("reason", text)
        if seen.state == "never":
            if seen.reason and seen.reason["code"] in ("dropped", "absorbed", "campaign_cancelled"):
                raise AirflowSkipException(text)  # as its spec, or a person, wants it: nothing has failed
            open_dag_runs(ledger, self.log, ended=group.id)
            raise AirflowFailException(text)
        self.log.info("waits: %s", text)

        from airflow_calib_provider.triggers.ledger_wait import LedgerWaitTrigger

        self.defer(trigger=LedgerWaitTrigger(group.id, self._waits_for), method_name="execute_complete")

    def execute_complete(self, context: Context, event: object = None) -> None:
        """The trigger ends an open wait itself; what can never open is looked at again, and ends here."""
        self.execute(context)


class RunGroupSensor(LedgerSensor):
    """Waits until the group of its DAG run is closed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(waits_for="", **kwargs)


class LockSensor(LedgerSensor):
    """Waits until every lock of a task is open: other tasks (``needs``), payloads.

    :param task: the task of the workflow whose locks they are.
    """

    def __init__(self, *, task: str, **kwargs: Any) -> None:
        super().__init__(waits_for=task, **kwargs)
