"""Job sets in hand-written DAGs: without a spec, without runs, with the same ledger."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import XComArg
from airflow.sdk.exceptions import AirflowFailException

from airflow_calib_provider.hooks.group import AIRFLOW_RETRIES, airflow_retry_delay
from airflow_calib_provider.operators.jobs import JobSetOperator

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

    from airflow_calib_provider.jobsets.begin import Begun
    from airflow_calib_provider.ledger.dag_groups import Source
    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.ledger.generations import NewGeneration
    from airflow_calib_provider.ledger.rows import Generation, Group
    from airflow_calib_provider.spec.models import Jobs

MANY_JOBS = 10_000
"""Of larger job sets the products are not listed in XCom, which lies in Airflow's database."""

RESERVED = ("return_value", "reason")
"""XCom keys that are taken."""

_LARGEST_SOURCE = 1_000_000


class DagJobsOperator(JobSetOperator):
    """A job set of one's own, for operators that say on which backend.

    Each DAG run is a group of the ledger's campaign ``dags``; its jobs, attempts and products are recorded, watched,
    tried again and accepted like those of any workflow.

    In ``command`` and ``environment`` stand, besides what Airflow offers, ``{{ job.index }}``, ``{{ job.count }}``,
    ``{{ job.attempt }}``, ``{{ job.out }}``, ``{{ job.report }}`` and ``{{ job.inputs_file }}``; filters do not work on
    them, since all jobs are rendered at once. The variables ``CALIB_…`` say the same to the job.

    :param command: a program and its arguments, one text each; no shell reads them.
    :param count: so many jobs, which share the ``inputs`` evenly and in order.
    :param all_inputs: each of ``count`` jobs gets all ``inputs`` instead of its share.
    :param inputs: paths and URLs that the jobs read, also the output of another task.
    :param per_job: so many inputs for each job, instead of ``count``. Without either there is one job.
    :param environment: variables of the jobs, which inherit nothing from Airflow on a batch system.
    :param cpus: of one job; the same for ``memory`` and ``disk``, such as ``"2GB"``, and ``gpus``.
    :param timeout: wall time of one attempt; a ``timedelta`` or a text such as ``"1h30m"``.
    :param retries_of_jobs: 3 means four attempts of each job. Airflow's own ``retries`` are for crashes only.
    :param quorum: the fraction of the jobs that is enough.
    :param products: name → file that a job leaves below ``CALIB_OUT``, or, as in a spec,
        ``{"file": …, "drop": "30d"}``.
    :param credentials: kind → path of files that somebody renews, as in a spec: ``proxy``, ``token``, ``kerberos``.
    :param failures: what becomes of a job that failed or is held; a list of rules as in a spec.
    :param keep: how long logs and failed attempts are kept; 30 days by default.
    :raises ValueError: an argument is not what it should be; all mistakes are told at once.
    """

    template_fields: Sequence[str] = ("command", "count", "inputs", "environment")
    template_fields_renderers = {"command": "json", "inputs": "json", "environment": "json"}  # noqa: RUF012 - Airflow's

    def __init__(
        self,
        *,
        command: Sequence[str] | XComArg,
        count: int | str | XComArg | None = None,
        inputs: Sequence[str] | XComArg | None = None,
        per_job: int | None = None,
        all_inputs: bool = False,
        environment: Mapping[str, str] | XComArg | None = None,
        cpus: int | None = None,
        memory: str | None = None,
        disk: str | None = None,
        gpus: int | None = None,
        timeout: timedelta | str | None = None,
        retries_of_jobs: int | None = None,
        quorum: float | None = None,
        products: Mapping[str, str | Mapping[str, str]] | None = None,
        credentials: Mapping[str, str] | None = None,
        failures: Sequence[Mapping[str, object]] | None = None,
        keep: timedelta | str | None = None,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("retries", AIRFLOW_RETRIES)
        kwargs.setdefault("retry_delay", timedelta(seconds=airflow_retry_delay()))
        super().__init__(**kwargs)
        self.command = command
        self.count = count
        self.inputs = inputs
        self.environment = environment
        self.products = products
        self._stated = {
            "per_job": per_job,
            "all_inputs": all_inputs or None,
            "cpus": cpus,
            "memory": memory,
            "disk": disk,
            "gpus": gpus,
            "timeout": timeout,
            "retries_of_jobs": retries_of_jobs,
            "quorum": quorum,
            "products": products,
            "credentials": credentials,
            "failures": failures,
            "keep": keep,
        }
        if mistakes := self._mistakes():
            raise ValueError(f"{type(self).__name__} {self.task_id}:\n" + "\n".join(mistakes))

    @property
    @abstractmethod
    def backend(self) -> str:
        """The backend's name, with its connection."""

    @property
    def options(self) -> Mapping[str, object]:
        """Further arguments that are read like those of a spec: the block of a backend, by its name."""
        return {}

    def _mistakes(self) -> list[str]:
        """What can be told before templates are rendered."""
        from airflow_calib_provider.ledger.dag_groups import task_name

        found = self._read(rendered=False)[2]
        try:
            task_name(self.task_id)
        except ValueError as error:
            found.append(str(error))
        return found

    def _read(self, *, rendered: bool) -> tuple[Jobs, dict[str, str], list[str]]:
        """The job set, its products, and what is wrong; what only Airflow can render is not looked at before."""
        from airflow_calib_provider.spec.arguments import ArgumentsReader

        values = {**self._stated, **self.options, "count": _number(self.count), "inputs": self.inputs}
        if not rendered and _is_open(self.count):
            values["count"] = 1
        reader = ArgumentsReader(values)
        settings = reader.settings()
        products = reader.products()
        for name in RESERVED:
            if name in products:
                reader.add(f"a product is called {name!r}, which is a key of XCom already", "another name")

        def known(value: object) -> object:
            return None if not rendered and _is_open(value) else value

        command, inputs = reader.command(known(self.command)), reader.inputs(known(self.inputs))
        environment = reader.environment(known(self.environment))
        if self.command is None or (rendered and not command and not reader.mistakes):
            reader.add("command is missing", "a list: a program and its arguments")
        stated = {"command": command, "inputs": inputs, "environment": {**settings.environment, **environment}}
        return settings.model_copy(update=stated), products, reader.mistakes

    # What JobSetOperator asks for

    @property
    def ledger_task(self) -> str:
        """The task's id, as the ledger writes names."""
        from airflow_calib_provider.ledger.dag_groups import task_name

        return task_name(self.task_id)

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """As Airflow does, but ``job`` is left to be rendered for each job."""
        super().render_template_fields(cast("Context", {**context, "job": _job()}), jinja_env)

    def find_group(self, ledger: Ledger, context: Context) -> Group:
        """The group of this DAG run, made if this is its first task."""
        from airflow_calib_provider.ledger import dag_groups

        instance = context["ti"]
        if instance.map_index is not None and instance.map_index >= 0:
            raise AirflowFailException(
                f"{self.task_id} is a mapped task, but its jobs are one job set: use count, or inputs and per_job, "
                "instead of expand"
            )
        now = datetime.now(UTC)
        source = self._source()
        with ledger.write() as connection:
            start = context["dag_run"].start_date
            row = dag_groups.ensure_group(connection, instance.dag_id, instance.run_id, start, now)
            dag_groups.ensure_task(connection, row, self.ledger_task, source, now)
            dag_groups.note_source(connection, row.workflow, source, now)
        return row

    def begin(self, ledger: Ledger, group: Group, context: Context) -> Begun:
        """With what the operator's arguments say, as no spec does."""
        from airflow_calib_provider.jobsets.begin import begin_with

        instance = context["ti"]
        return begin_with(
            ledger,
            group.id,
            self.ledger_task,
            lambda: self._new_generation(group, instance),
            max_tries=instance.max_tries,
            now=datetime.now(UTC),
        )

    def _new_generation(self, group: Group, instance: Any) -> NewGeneration:
        from airflow_calib_provider.errors import RenderError
        from airflow_calib_provider.jobsets.render import git_commit, render_plain
        from airflow_calib_provider.ledger.generations import NewGeneration
        from airflow_calib_provider.spec.arguments import ArgumentsReader

        jobs, products, mistakes = self._read(rendered=True)
        if mistakes:
            raise RenderError(f"{type(self).__name__} {self.task_id}: " + "; ".join(mistakes))
        rendered = render_plain(jobs, products, self.backend)
        return NewGeneration(
            group_id=group.id,
            task=self.ledger_task,
            max_tries=instance.max_tries,
            backend=self.backend,
            spec_hash=self._source().hash,
            git_commit=git_commit(Path(self.dag.fileloc).parent),
            definitions_hash=rendered.digest,
            inputs=rendered.inputs,
            runs=(),
            excluded_runs=(),
            used={"generations": {}, "payloads": []},
            retries=jobs.retries,
            quorum=jobs.quorum,
            products=products,
            drops={
                name: kept.total_seconds()
                for name, kept in ArgumentsReader({"products": self.products}).drops().items()
            },
            folder=f"{group.campaign}/{group.workflow}/{self.ledger_task}/{group.name}",
            dag_run_id=instance.run_id,
            definitions=rendered.definitions,
            failures=rendered.failures,
            options=rendered.options,
            keep=int(jobs.keep.total_seconds()),
        )

    def _source(self) -> Source:
        from airflow_calib_provider.ledger.dag_groups import Source

        file = Path(self.dag.fileloc)
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, ValueError):  # inside a zip file, for one
            return Source(hashlib.sha256(str(file).encode()).hexdigest())
        return Source(hashlib.sha256(text.encode()).hexdigest(), text if len(text) <= _LARGEST_SOURCE else None)

    def result(self, context: Context, ledger: Ledger, row: Generation) -> dict[str, object]:
        """Folder and products by job; each product's files also as an XCom of its own, in the order of the jobs."""
        from airflow_calib_provider.ledger.generations import jobs_of

        with ledger.read() as connection:
            jobs = jobs_of(connection, [row.id])
        found: dict[str, object] = {
            **self.place(row),
            "jobs": len(jobs),
            "accepted": sum(1 for item in jobs if item.accepted_attempt is not None),
        }
        if len(jobs) > MANY_JOBS:
            self.log.info("%d jobs: their products are not listed in XCom, but lie below the folder", len(jobs))
            return {**found, "products": None}
        by_job = self.products_by_job(ledger, row)
        for name in row.products:
            context["ti"].xcom_push(name, [files[name] for files in by_job.values()])
        return {**found, "products": by_job}


def _is_open(value: object) -> bool:
    """Whether a value is known only when Airflow has rendered it."""
    if isinstance(value, XComArg):
        return True
    return isinstance(value, str) and ("{{" in value or "{%" in value)


def _number(value: object) -> object:
    """A template gives text."""
    return int(value) if isinstance(value, str) and value.strip().isdecimal() and len(value) < 20 else value


def _job() -> SimpleNamespace:
    """What templates know of a job: marks that are replaced when its values are known."""
    from airflow_calib_provider.jobsets import render

    return SimpleNamespace(
        index=render.INDEX,
        count=render.COUNT,
        attempt=render.ATTEMPT,
        out=render.OUT,
        report=render.REPORT,
        inputs_file=render.INPUTS_FILE,
    )
