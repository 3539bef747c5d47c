"""The work of the system DAGs calib_inject and calib_housekeeping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from airflow_calib_provider.hooks.backends import backend_of
from airflow_calib_provider.hooks.dag_runs import clear_amended, open_dag_runs
from airflow_calib_provider.hooks.ledger import task_ledger
from airflow_calib_provider.hooks.newest import bundle_of
from airflow_calib_provider.hooks.told import told
from airflow_calib_provider.operators.folder import FolderOperator
from airflow_calib_provider.settings import number

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_calib_provider.injection.teams import Bundles
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.rows import Unsettled

ASKED_AT_ONCE = 50
"""DAG runs whose states are asked for by one request: they stand in its address, which must not grow too long."""

MIRROR_CHECKED = timedelta(hours=2)
"""How far back housekeeping compares the mirror with the ledger."""


class InjectOperator(FolderOperator):
    """Records completed runs, groups them, and opens the DAG runs that may start."""

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Inject every workflow; what is wrong with one keeps no other back, and fails the task in the end."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.injection.inject import inject_folder
        from airflow_calib_provider.ledger import publication_deadlines
        from airflow_calib_provider.payloads.approvals import remind
        from airflow_calib_provider.payloads.fallback import fall_back

        ledger = task_ledger()
        campaign = (context["params"].get("campaign") or "").strip() or None
        try:
            report, spec_errors = inject_folder(
                ledger,
                self._specs,
                now=datetime.now(UTC),
                campaign=campaign,
                bundles=_bundles(context),
            )
        except CalibError as error:
            if error.hint:
                self.log.error("what to do: %s", error.hint)
            raise
        for mistake in spec_errors:
            self.log.error("%s", mistake)
        for line in report.source_changes:
            self.log.warning("%s (`calib explain` says how to do it anew)", line)
        for line in report.waits:
            self.log.info("%s", line)
        self.log.info("%s", report)
        publication_deadlines.watch(ledger, datetime.now(UTC))
        for line in fall_back(ledger, lambda: datetime.now(UTC)):
            self.log.warning("%s", line)
        clear_amended(ledger, self.log)
        if reminded := remind(ledger, datetime.now(UTC)):
            self.log.info("reminded of %d payloads that wait for approval", reminded)
        opened = open_dag_runs(ledger, self.log, patience=number("OPEN_PATIENCE"))
        problems = [*report.errors, *(str(error) for error in spec_errors)]
        if problems:
            raise AirflowFailException("what could be injected was; but:\n" + "\n".join(problems))
        return {**{k: v for k, v in vars(report).items() if k != "errors"}, "opened": opened}


def _bundles(context: Context) -> Bundles | None:
    """Of this Airflow; ``None`` outside of one."""
    bundle = bundle_of(context)
    if bundle is None:
        return None
    from airflow.sdk.configuration import conf

    from airflow_calib_provider.injection.teams import Bundles

    configured = conf.getjson("dag_processor", "dag_bundle_config_list") or ()
    names = {item["name"] for item in configured if isinstance(item, dict) and "name" in item}
    return Bundles(bundle.name, frozenset(names - {bundle.name}), bundle.version)


class HousekeepingOperator(BaseOperator):
    """Removes what is left over, and reports drift between Airflow, the ledger and the backends.

    Left over is what a missed kill left, and logs and failed attempts whose time is over.
    """

    ui_color = "#eadcf4"

    @told
    def execute(self, context: Context) -> dict[str, object]:
        """Clean up; a backend that does not answer fails the task, after all others."""
        from airflow_calib_provider.errors import BackendError, IllegalTransition, ProductError
        from airflow_calib_provider.jobsets.cancelling import finish_cancelled
        from airflow_calib_provider.jobsets.cleaning import clean
        from airflow_calib_provider.jobsets.kill import leftovers, recent_backends, remove_leftovers, settle
        from airflow_calib_provider.jobsets.storage import keep_house
        from airflow_calib_provider.ledger import chat_actions, generations
        from airflow_calib_provider.ledger.planner import refresh
        from airflow_calib_provider.payloads.publication import finish_all

        ledger = task_ledger()
        now = datetime.now(UTC)
        cancelled = finish_cancelled(ledger, backend_of, now)
        with ledger.read() as connection:
            rows = generations.unsettled(connection)
        names = sorted({*recent_backends(ledger, now), *(row.backend for row in rows)})
        settled: list[str] = cancelled.job_sets
        drift: list[str] = []
        errors: list[str] = cancelled.errors
        for row, state in self._with_airflow_states(context, rows):
            try:
                done = settle(ledger, backend_of, row.id, state, now, row.max_tries)
            except IllegalTransition:
                continue  # a watcher was faster; the next hour sees what is left
            except (BackendError, ProductError, OSError) as error:
                errors.append(str(error))
                continue
            if done != "nothing":
                settled.append(f"{row.campaign} {row.workflow}.{row.task} {row.group_name}: Airflow {state}, {done}")
        for name in names:
            try:
                backend = backend_of(name)
                found = leftovers(ledger, backend)
            except BackendError as error:
                errors.append(str(error))
                continue
            removed, failed = remove_leftovers(backend, found)
            errors += failed
            drift += [f"{item.key}: {item.why}{', removed' if item in removed else ''}" for item in found]
        refresh(ledger)
        cleaned = clean(ledger, backend_of, now)
        errors += cleaned.errors
        chat_actions.forget(ledger, now)
        clear_amended(ledger, self.log)
        opened = open_dag_runs(ledger, self.log, thorough=True)
        drift += finish_all(ledger, lambda: datetime.now(UTC))
        products = keep_house(ledger, now)
        errors += products.dropped.errors
        drift += products.drift
        # At the end: an InfluxDB that is slow must not hold up the rest.
        drift += self._mirror_drift(ledger, now)
        for line in [*settled, *drift]:
            self.log.warning("drift: %s", line)
        if errors:
            raise AirflowFailException("\n".join(errors))
        kept = {"checksums": products.checksums, "dropped": products.dropped.removed}
        return {"settled": settled, "drift": drift, "cleaned": cleaned.generations, **kept, "opened": opened}

    def _mirror_drift(self, ledger: Ledger, now: datetime) -> list[str]:
        """What the mirror of the last hours lacks. It is no reason to fail: the ledger has it all."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.hooks.influxdb import task_target
        from airflow_calib_provider.mirror.check import check
        from airflow_calib_provider.mirror.client import InfluxClient
        from airflow_calib_provider.mirror.sampling import sample_spool

        sample_spool(ledger)
        try:
            target = task_target()
            if target is None:
                return []
            client = InfluxClient(target)
            try:
                report = check(ledger, client, int((now - MIRROR_CHECKED).timestamp() * 1e9))
            finally:
                client.close()
        except CalibError as error:
            self.log.warning("the mirror cannot be checked: %s", error)
            return []
        return report.drift()

    @staticmethod
    def _with_airflow_states(context: Context, rows: Sequence[Unsettled]) -> Iterator[tuple[Unsettled, str | None]]:
        """Each row with the state that Airflow gives its task now; one request for many DAG runs of a DAG."""
        from airflow_calib_provider.ledger.dag_groups import airflow_task_id

        for dag_id, of_dag in groupby(rows, key=lambda row: row.dag_id):
            left = list(of_dag)
            while left:
                some, left = left[:ASKED_AT_ONCE], left[ASKED_AT_ONCE:]
                run_ids = sorted({row.run_id for row in some})
                names = sorted({airflow_task_id(row.task) for row in some})
                states = context["ti"].get_task_states(dag_id=dag_id, task_ids=names, run_ids=run_ids)
                for row in some:
                    state = (states.get(row.run_id) or {}).get(airflow_task_id(row.task))
                    yield row, None if state is None else str(state)
