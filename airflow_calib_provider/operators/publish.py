"""PublishOperator: constants become a payload with an interval of validity."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_calib_provider.hooks.campaign import base_of, from_base
from airflow_calib_provider.hooks.dag_runs import open_dag_runs
from airflow_calib_provider.hooks.group import group_of, refuse
from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.links import AwaitedLink, SpecLink
from airflow_calib_provider.hooks.newest import LeftOut, end_left_out, left_out, newest
from airflow_calib_provider.hooks.told import told
from airflow_calib_provider.operators.waiting import ask_again, tell_of_failed, wait_in_place

if TYPE_CHECKING:
    from airflow.sdk import Context
    from pydantic import JsonValue

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Group
    from airflow_calib_provider.payloads.store import Published
    from airflow_calib_provider.spec.models import Task, Workflow


class PublishOperator(BaseOperator):
    """Publishes a product of an earlier task under a tag, valid for the runs of the group (rule 25).

    :param workflow: the workflow.
    :param task: the name of one of its tasks with ``publish``.
    """

    ui_color = "#e2f2df"
    operator_extra_links = (AwaitedLink(), SpecLink())

    def __init__(self, *, workflow: Workflow, task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._workflow = workflow
        self._task_name = task
        self._since: datetime | None = None

    @property
    def ledger_task(self) -> str:
        """The task's name in the spec."""
        return self._task_name

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Publish the group's product; doing it again publishes nothing twice."""
        from airflow_calib_provider.errors import (
            CalibError,
            IllegalTransition,
            LedgerError,
            OutsideStoreDown,
            PayloadStoreDown,
        )
        from airflow_calib_provider.hooks.assets import tell_assets
        from airflow_calib_provider.jobsets.publish import as_it_is, finish

        ledger = task_ledger()
        group = group_of(ledger, context, self._workflow)
        if (base := base_of(ledger, group, self._task_name)) is not None:
            return from_base(context, self.log, base)
        try:
            with newest(ledger, self._workflow, context) as (workflow, commit):
                spec = workflow.tasks.get(self._task_name)
                if spec is None or spec.publish is None:
                    raise left_out(self._task_name, commit)
                # What stopped half way to outside stores is taken further first: nothing else may come between.
                finish(ledger, group.id, self._task_name)
                published = self._publish(ledger, group, workflow, spec, context)
                published = as_it_is(ledger, [published], finish(ledger, group.id, self._task_name))
        except LeftOut as error:
            return end_left_out(context, error)
        except OutsideStoreDown as error:
            ask_again(self, error, self._since)
        except (LedgerError, IllegalTransition, PayloadStoreDown):
            raise  # transient: Airflow tries again
        except CalibError as error:
            wait_in_place(self, ledger, group, self._task_name, error)
            try:
                refuse(ledger, group, self._task_name, error)
            finally:
                open_dag_runs(ledger, self.log, ended=group.id)
        tell_of_failed(self, ledger, group, self._task_name)
        what = f"{published.state}:" if published.new else f"is {published.state} already:"
        said = (what, published.tag, published.revision, published.iov, group.campaign)
        self.log.info("%s %s revision %d for runs %s, in the campaign %s", *said)
        context["ti"].xcom_push("reason", f"{published.state} {published.tag} revision {published.revision}")
        open_dag_runs(ledger, self.log, ended=group.id)
        told_of = self._said(published)
        tell_assets(self, context, ledger, group.id, {"task": self._task_name, **told_of})
        return dict(told_of)

    def _publish(self, ledger: Ledger, group: Group, workflow: Workflow, spec: Task, context: Context) -> Published:
        """What is done; its errors are told by :meth:`execute`."""
        from airflow_calib_provider.jobsets.begin import stated_params
        from airflow_calib_provider.jobsets.publish import publish_group

        params = stated_params(self._workflow, context["params"])
        return publish_group(ledger, workflow, spec, group.id, now=datetime.now(UTC), params=params)

    def _said(self, published: Published) -> dict[str, JsonValue]:
        """The task's result, and what the events of its assets say."""
        return {
            "tag": published.tag,
            "iov": str(published.iov),
            "revision": published.revision,
            "state": published.state,
        }

    def execute_again(self, context: Context, event: object = None, since: str | None = None) -> dict[str, object]:
        """What the task waited for has come.

        :param since: when stores first did not answer.
        """
        self._since = None if since is None else datetime.fromisoformat(since)
        found: dict[str, object] = self.execute(context)
        return found
