"""JobsOperator: one Airflow task for one job set, whatever the number of its jobs."""

from __future__ import annotations

from abc import abstractmethod
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_calib_provider.hooks.campaign import base_of, from_base
from airflow_calib_provider.hooks.dag_runs import open_dag_runs
from airflow_calib_provider.hooks.group import group_of, refuse
from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.links import AwaitedLink, SpecLink
from airflow_calib_provider.hooks.newest import LeftOut, end_left_out, left_out, newest, version_of
from airflow_calib_provider.hooks.told import told
from airflow_calib_provider.operators.waiting import tell_of_failed, wait_in_place

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context

    from airflow_calib_provider.jobsets.begin import Begun
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Generation, Group
    from airflow_calib_provider.spec.models import Task, Workflow


MANY_PRODUCTS = 1_000
"""More files than this are not listed in XCom, which is a row of Airflow's database."""


class JobSetOperator(BaseOperator):
    """Submits the jobs of a group, watches them from the triggerer, and ends when the job set has ended.

    An Airflow retry attaches to what runs already, or returns what is recorded; only a user's clear starts anything
    anew (rule 14). What the jobs are, and for which group, is said by those that inherit from it.
    """

    ui_color = "#dbe9f6"

    @property
    @abstractmethod
    def ledger_task(self) -> str:
        """The task's name in the ledger."""

    @abstractmethod
    def find_group(self, ledger: Ledger, context: Context) -> Group:
        """The group that the jobs are for."""

    @abstractmethod
    def begin(self, ledger: Ledger, group: Group, context: Context) -> Begun:
        """Attach to a generation, or start one.

        :raises CalibError: there can be none; the task fails.
        """

    def taken_from(self, ledger: Ledger, group: Group) -> str | None:
        """The base campaign that has the task, if the group's campaign begins behind it."""
        return None

    def result(self, context: Context, ledger: Ledger, row: Generation) -> dict[str, object]:
        """What a done job set leaves in XCom: where it lies, and the files of its products by job and name.

        :param row: its generation.
        """
        from airflow_calib_provider.ledger.generations import count_products

        with ledger.read() as connection:
            n = count_products(connection, row.id)
        if n > MANY_PRODUCTS:
            self.log.info("%d products are not listed in XCom: `calib products` lists them", n)
            return {**self.place(row), "products": None}
        return {**self.place(row), "products": self.products_by_job(ledger, row)}

    def place(self, row: Generation) -> dict[str, object]:
        """Which generation it was, and the folder where it lies."""
        from airflow_calib_provider.jobsets.folders import generation_folder

        folder = str(generation_folder(row.folder))
        return {"campaign": row.campaign, "group": row.group_name, "generation": row.n, "folder": folder}

    def products_by_job(self, ledger: Ledger, row: Generation) -> dict[str, dict[str, str]]:
        """The absolute paths of the accepted products by job and name."""
        from airflow_calib_provider.jobsets.folders import product_path
        from airflow_calib_provider.ledger.generations import products_of

        with ledger.read() as connection:
            rows = products_of(connection, row.id)
        by_job: dict[str, dict[str, str]] = {}
        for item in rows:
            path = product_path(row.folder, item.job_index, item.file)
            by_job.setdefault(str(item.job_index), {})[item.name] = str(path)
        return by_job

    def begun(self, ledger: Ledger, group: Group) -> None:
        """What the beginning of a job set is followed by."""

    def ended(self, ledger: Ledger, group_id: int) -> None:
        """What the end of a job set, good or bad, is followed by."""

    def tell_assets(self, context: Context, ledger: Ledger, row: Generation) -> None:
        """What the events of the task's assets say of a done job set."""

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Begin the job set, or find the one that was begun, and defer until it has ended."""
        from airflow_calib_provider.errors import BackendError, CalibError, IllegalTransition, LedgerError

        ledger = task_ledger()
        group = self.find_group(ledger, context)
        if (base := self.taken_from(ledger, group)) is not None:
            return from_base(context, self.log, base)
        try:
            begun = self.begin(ledger, group, context)
        except (LedgerError, IllegalTransition):
            raise  # transient: Airflow tries again, and attaches
        except LeftOut as error:
            return end_left_out(context, error)
        except CalibError as error:
            wait_in_place(self, ledger, group, self.ledger_task, error)
            try:
                refuse(ledger, group, self.ledger_task, error)
            finally:
                self.ended(ledger, group.id)
        verb = "attached to" if begun.attached else "started"
        self.log.info("%s generation %d of %s in %s: %s", verb, begun.n, self.ledger_task, group.name, begun.state)
        self._tell_of_changes(ledger, group)
        if begun.state == "running":
            from airflow_calib_provider.triggers.job_set import advance_all

            try:
                advance_all(ledger.url.render_as_string(hide_password=False), [begun.generation_id])
            except BackendError as error:
                # It is watched all the same: a backend in trouble for hours must not use up Airflow's retries.
                self.log.warning("%s", error)
            self.begun(ledger, group)
        return self._finish(context, ledger, begun.generation_id)

    def _tell_of_changes(self, ledger: Ledger, group: Group) -> None:
        """Warn where the source says something else of the group's runs by now."""
        from airflow_calib_provider.domain.reasons import render
        from airflow_calib_provider.ledger import source_changes

        with ledger.read() as connection:
            changed = source_changes.of_group(connection, group.id)
        if changed:
            self.log.warning("%s: %s", group.name, render(changed))
        tell_of_failed(self, ledger, group, self.ledger_task)

    def execute_again(self, context: Context, event: object = None) -> dict[str, object]:
        """What the task waited for has come."""
        found: dict[str, object] = self.execute(context)
        return found

    @told
    def execute_complete(self, context: Context, event: Mapping[str, int]) -> dict[str, object]:
        """The trigger saw the job set end."""
        return self._finish(context, task_ledger(), event["generation_id"])

    def _finish(self, context: Context, ledger: Ledger, generation_id: int) -> dict[str, object]:
        from airflow_calib_provider.domain.iteration.words import to_try
        from airflow_calib_provider.domain.reasons import render
        from airflow_calib_provider.ledger import generations

        with ledger.read() as connection:
            row = generations.by_id(connection, generation_id)
        if row.state == "running":  # also if a person's clear continued it after the trigger's last look
            from airflow_calib_provider.triggers.job_set import JobSetTrigger

            self.defer(trigger=JobSetTrigger(generation_id, row.backend), method_name="execute_complete")
        text = render(row.reason)
        context["ti"].xcom_push("reason", text)
        self.ended(ledger, row.group_id)
        if row.state != "done":
            from airflow_calib_provider.jobsets.tails import failed_jobs

            for line in failed_jobs(ledger, row):
                self.log.error("%s", line)
            tried = f"; to try: {advice}" if (advice := to_try(row.reason or {})) else ""
            raise AirflowFailException(f"{text}{tried}" or f"the job set is {row.state}")
        self.log.info("%s", text)
        self.tell_assets(context, ledger, row)
        return self.result(context, ledger, row)


class JobsOperator(JobSetOperator):
    """The jobs of a task of a workflow.

    :param workflow: the workflow, as :func:`~airflow_calib_provider.spec.loader.load_workflow` gives it.
    :param task: the name of one of its tasks with ``jobs``.
    """

    def __init__(self, *, workflow: Workflow, task: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._workflow = workflow
        self._task_name = task

    operator_extra_links = (AwaitedLink(), SpecLink())

    @property
    def _task_spec(self) -> Task:
        return self._workflow.tasks[self._task_name]

    @property
    def ledger_task(self) -> str:
        """The task's name in the spec."""
        return self._task_name

    def find_group(self, ledger: Ledger, context: Context) -> Group:
        """The group that this DAG run was opened for."""
        return group_of(ledger, context, self._workflow)

    def taken_from(self, ledger: Ledger, group: Group) -> str | None:
        """The base campaign that has the task, if the group's campaign begins behind it."""
        return base_of(ledger, group, self._task_name)

    def begin(self, ledger: Ledger, group: Group, context: Context) -> Begun:
        """As the spec says now, whichever commit Airflow runs the task from."""
        from airflow_calib_provider.jobsets.begin import begin, stated_params

        instance = context["ti"]
        params = stated_params(self._workflow, context["params"])
        with newest(ledger, self._workflow, context) as (workflow, commit):
            task = workflow.tasks.get(self._task_name)
            if task is None or task.jobs is None:
                if not _has_begun(ledger, group.id, self._task_name):
                    raise left_out(self._task_name, commit)
                workflow, task = self._workflow, self._task_spec
            return begin(
                ledger,
                workflow,
                task,
                group.id,
                max_tries=instance.max_tries,
                dag_run_id=instance.run_id,
                now=datetime.now(UTC),
                params=params,
                bundle_version=commit if workflow is not self._workflow else version_of(context),
            )

    def begun(self, ledger: Ledger, group: Group) -> None:
        """Open the DAG runs for which there was no room as this one's had not begun (rule 27)."""
        from airflow_calib_provider.ledger.campaigns import PROMPT

        if group.campaign != PROMPT:
            open_dag_runs(ledger, self.log, begun=(group.workflow, group.grouping))

    def ended(self, ledger: Ledger, group_id: int) -> None:
        """Open DAG runs of groups that this one has kept waiting."""
        open_dag_runs(ledger, self.log, ended=group_id)

    def tell_assets(self, context: Context, ledger: Ledger, row: Generation) -> None:
        """Which group it was, and what of it."""
        from airflow_calib_provider.hooks.assets import tell_assets

        commit = {} if row.git_commit is None else {"commit": row.git_commit}
        tell_assets(self, context, ledger, row.group_id, {"generation": row.n, "task": self._task_name, **commit})


def _has_begun(ledger: Ledger, group_id: int, task: str) -> bool:
    from airflow_calib_provider.ledger.starting import standing_of

    with ledger.read() as connection:
        return standing_of(connection, group_id, task).last is not None
