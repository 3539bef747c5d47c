"""Operators for hand-written DAGs, without an Airflow: what they render, submit and return."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, TaskGroup, XComArg
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from airflow_calib_provider.backends.base import Backend
from airflow_calib_provider.backends.local.backend import LocalBackend
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.hooks.group import AIRFLOW_RETRIES
from airflow_calib_provider.ledger import tables
from airflow_calib_provider.operators import jobs as jobs_module
from airflow_calib_provider.operators.condor import CondorJobsOperator
from airflow_calib_provider.operators.dag_jobs import DagJobsOperator
from airflow_calib_provider.operators.kubernetes import KubernetesJobsOperator
from airflow_calib_provider.triggers import job_set
from airflow_calib_provider.triggers.job_set import JobSetTrigger
from tests.postgres.places import migrated
from tests.worlds import WithJobs

NOW = datetime(2026, 3, 1, tzinfo=UTC)


class LocalJobs(DagJobsOperator):
    """The same on the local backend."""

    @property
    def backend(self) -> str:
        return "local"


class World(WithJobs):
    """A ledger, a local backend, and what Airflow does with an operator."""

    def __init__(self, folder: Path) -> None:
        self.ledger = migrated(f"sqlite:///{folder / 'ledger.db'}")
        self.backend = LocalBackend(folder / "spool", slots=4, grace=0.5)
        self.xcom: dict[str, Any] = {}

    def context(self, operator: Any, max_tries: int = 8, **more: Any) -> Any:
        instance = SimpleNamespace(
            dag_id=operator.dag_id, run_id="manual__1", max_tries=max_tries, map_index=-1,
            xcom_push=self.xcom.__setitem__,
        )  # fmt: skip
        return {"ti": instance, "dag_run": SimpleNamespace(start_date=NOW), "params": {"n": 7}, **more}

    def execute(self, operator: Any, max_tries: int = 8) -> dict[str, Any]:
        """From Airflow's rendering to the end of the job set."""
        context = self.context(operator, max_tries)
        operator.render_template_fields(context)
        trigger: Any = None
        try:
            return dict(operator.execute(context))
        except TaskDeferred as deferred:
            trigger = deferred.trigger
        assert isinstance(trigger, JobSetTrigger)
        assert trigger.backend == operator.backend
        self.finish(trigger.generation_id)
        return dict(operator.execute_complete(context, {"generation_id": trigger.generation_id}))

    def backend_of(self, name: str) -> Backend:
        return self.backend


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    made = World(tmp_path)
    monkeypatch.setattr(jobs_module, "task_ledger", lambda: made.ledger)
    monkeypatch.setattr(job_set, "advance_all", lambda *_: {})
    yield made
    for key in made.backend.rounds():
        made.backend.remove(key)
    made.ledger.close()


def local(script: str = "true", *arguments: Any, **options: Any) -> LocalJobs:
    with DAG("by-hand", schedule=None):
        return LocalJobs(task_id="fit", command=["sh", "-c", script, "sh", *arguments], **options)


def test_templates_know_the_job_and_airflow(world: World) -> None:
    operator = local(
        'cat "$5" > "$4/inputs"; echo "$1 $2 $3 $6 $SEED $CALIB_CAMPAIGN $CALIB_TASK $CALIB_JOB" > "$4/said"',
        "{{ params.n }}", "{{ job.index }}/{{ job.count }}", "{{ job.attempt }}", "{{ job.out }}",
        "{{ job.inputs_file }}", "{% raw %}{{ not ours }} {{ job.index }}{% endraw %}",
        inputs=["a{{ params.n }}", "b", "c"], per_job=2, environment={"SEED": "{{ job.index }}{{ params.n }}"},
        products={"said": "said", "inputs": "inputs"},
    )  # fmt: skip
    found = world.execute(operator)
    assert (found["campaign"], found["group"], found["generation"]) == ("dags", "manual__1", 1)
    assert (found["jobs"], found["accepted"]) == (2, 2)
    said = [Path(found["products"][index]["said"]).read_text() for index in ("0", "1")]
    # Nothing that comes out of Airflow's templates is a template again.
    assert said == [
        "7 0/2 1 {{ not ours }} {{ job.index }} 07 dags fit 0\n",
        "7 1/2 1 {{ not ours }} {{ job.index }} 17 dags fit 1\n",
    ]
    assert [Path(file).read_text().split() for file in world.xcom["inputs"]] == [["a7", "b"], ["c"]]
    assert [Path(file).is_relative_to(found["folder"]) for file in world.xcom["said"]] == [True, True]


@pytest.mark.parametrize(
    ("options", "inputs"),
    [({}, [["a7", "b"], ["c"]]), ({"all_inputs": True}, [["a7", "b", "c"]] * 2)],
)
def test_so_many_jobs_share_the_inputs(world: World, options: dict[str, Any], inputs: list[list[str]]) -> None:
    world.execute(
        local(
            'cat "$CALIB_INPUTS" > x',
            inputs=["a{{ params.n }}", "b", "c"],
            count=2,
            products={"x": "x"},
            **options,
        )
    )
    assert [Path(file).read_text().split() for file in world.xcom["x"]] == inputs


@pytest.mark.parametrize("inputs", [["a"], []])
def test_more_jobs_than_inputs_of_another_task(world: World, inputs: list[str]) -> None:
    operator = local("true", inputs=["x", "y"], count=2)
    operator.inputs = inputs  # as Airflow sets what it has rendered
    with pytest.raises(AirflowFailException, match=f"there are {len(inputs)} inputs to share"):
        world.execute(operator)


def test_retry_attaches_clear_continues_or_starts_anew(world: World, tmp_path: Path) -> None:
    options: dict[str, Any] = {"count": "{{ 1 + 1 }}", "retries_of_jobs": 0, "products": {"x": "x"}}
    script = f'echo x > x; [ "$CALIB_JOB" = 0 ] || [ -e {tmp_path}/mended ]'
    for _ in range(2):  # an Airflow retry returns what is recorded
        with pytest.raises(AirflowFailException, match="1 of 2 jobs failed"):
            world.execute(local(script, **options))
    assert len(world.rows(tables.attempt)) == 2
    (tmp_path / "mended").touch()
    assert world.execute(local(script, **options), max_tries=9)["generation"] == 1
    assert [(row.job_index, row.n) for row in world.rows(tables.attempt)] == [(0, 1), (1, 1), (1, 2)]
    assert world.execute(local(script, **options), max_tries=10)["generation"] == 2
    assert len(world.rows(tables.run_group)) == 1


def test_what_a_generation_remembers(world: World) -> None:
    world.execute(local(quorum=0.5, count=2, failures=[{"when": {"exit_code": 3}, "then": "fail"}], keep="1h"))
    (row,) = world.rows(tables.generation)
    assert (row.task, row.backend, row.runs, row.quorum, row.keep) == ("fit", "local", [], 0.5, 3600)
    assert row.failures == [{"exit_codes": [3], "then": "fail"}]
    assert row.folder == f"dags/{world.rows(tables.run_group)[0].workflow}/fit/manual__1/g1"
    (text,) = world.rows(tables.spec_text)
    assert (text.hash, text.text) == (row.spec_hash, Path(__file__).read_text())


def test_a_mistake_that_templates_bring_fails_the_task(world: World) -> None:
    operator = local("true", count="{{ params.n }}x")
    with pytest.raises(AirflowFailException, match="count is '7x'; expected a whole number"):
        world.execute(operator)
    (task,) = world.rows(tables.group_task)
    assert (task.state, task.reason["code"]) == ("failed", "error")
    assert world.rows(tables.generation) == []


@pytest.mark.parametrize(
    ("inputs", "said"),
    [([], "the job set has no inputs"), (None, "inputs"), ("a,b", "inputs is 'a,b'; expected a list")],
)
def test_inputs_of_another_task_are_checked(world: World, inputs: Any, said: str) -> None:
    operator = local("true", inputs=["x"], per_job=1)
    operator.inputs = inputs  # as Airflow sets what it has rendered
    context = world.context(operator)
    group = operator.find_group(world.ledger, context)
    with pytest.raises(RenderError, match=said):
        operator.begin(world.ledger, group, context)


def test_a_mapped_task_is_refused(world: World) -> None:
    operator = local()
    context = world.context(operator)
    context["ti"].map_index = 0
    with pytest.raises(AirflowFailException, match="use count, or inputs and per_job"):
        operator.execute(context)


def test_many_products_are_not_put_into_airflows_database(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow_calib_provider.operators.dag_jobs.MANY_JOBS", 1)
    found = world.execute(local("echo x > x", count=2, products={"x": "x"}))
    assert (found["jobs"], found["products"]) == (2, None)
    assert world.xcom.keys() == {"reason"}


def test_all_mistakes_are_told_when_the_dag_is_parsed() -> None:
    with pytest.raises(ValueError, match="CondorJobsOperator fit:") as caught:
        CondorJobsOperator(
            task_id="fit", command="fit --all", count=2, per_job=3, memory="2 GBs", products={"reason": "a"},
            condor={"prio": 1}, condor_conn_id="a b",
        )  # fmt: skip
    text = str(caught.value)
    for name in (
        "command is",
        "both count and per_job",
        "memory:",
        "'reason'",
        "'prio' in condor",
        "condor_conn_id is",
    ):
        assert name in text


@pytest.mark.parametrize("command", [None, []])
def test_a_command_is_needed(command: Any) -> None:
    with pytest.raises(ValueError, match=r"command is (missing|empty)"):
        CondorJobsOperator(task_id="fit", command=command)


def test_what_is_rendered_later_is_checked_later() -> None:
    with DAG("d", schedule=None):
        first = CondorJobsOperator(task_id="first", command=["true"], count="{{ params.n }}", products={"x": "x"})
        with TaskGroup("tg"):
            second = CondorJobsOperator(task_id="second", command=["true"], inputs=first.output["x"], per_job=2)
    assert isinstance(second.inputs, XComArg)
    assert second.upstream_task_ids == {"first"}
    assert second.ledger_task == "tg+second"
    with pytest.raises(ValueError, match="both count and per_job"):
        CondorJobsOperator(task_id="x", command=["true"], count="{{ params.n }}", per_job=2, inputs=["a"])


def test_backend_and_retries() -> None:
    assert CondorJobsOperator(task_id="a", command=["true"]).backend == "condor"
    operator = CondorJobsOperator(task_id="a", command=["true"], condor_conn_id="other", condor={"priority": 3})
    assert (operator.backend, operator.options) == ("condor:other", {"condor": {"priority": 3}})
    assert operator.retries == AIRFLOW_RETRIES
    assert CondorJobsOperator(task_id="a", command=["true"], retries=2).retries == 2


def test_a_cluster_and_its_mistakes() -> None:
    block = {"image": "calib/fit", "spool": {"pvc": "calib"}}
    assert KubernetesJobsOperator(task_id="a", command=["true"], kubernetes=block).backend == "kubernetes"
    operator = KubernetesJobsOperator(
        task_id="a", command=["true"], kubernetes=block, kubernetes_conn_id="other", memory="1GB"
    )
    assert (operator.backend, operator.options) == ("kubernetes:other", {"kubernetes": block})
    with pytest.raises(ValueError, match="KubernetesJobsOperator fit:") as caught:
        KubernetesJobsOperator(
            task_id="fit", command=["true"], memory="2 GBs", kubernetes_conn_id="a b",
            kubernetes={"image": "Fit", "queue": "q", "patch": {"spec": {"restartPolicy": "Always"}}},
        )  # fmt: skip
    text = str(caught.value)
    for name in ("kubernetes.image 'Fit' is no image", "memory:", "kubernetes_conn_id is", "cannot set restartPolicy"):
        assert name in text


@pytest.mark.parametrize("stated", [{}, {"image": "calib/fit"}])
def test_a_block_that_lacks_what_must_be_there(stated: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no spool volume") as caught:
        KubernetesJobsOperator(task_id="fit", command=["true"], kubernetes=stated)
    assert ("which image" in str(caught.value)) == (not stated)
