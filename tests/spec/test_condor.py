"""What a spec says about failures and about HTCondor, when it is right."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import get_args

import pytest

from airflow_calib_provider.backends.condor.names import (
    attribute_is_taken,
    command_is_known,
    command_is_ours,
    nearest_command,
)
from airflow_calib_provider.domain.observation import FailureClass
from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec import failure_keys
from airflow_calib_provider.spec.loader import load_sources, load_workflow
from airflow_calib_provider.spec.models import FailureRule, Jobs

CASES = Path(__file__).parent / "cases"

SPEC = """
apiVersion: calib/v1
workflow: w
runs: {source: daq}
defaults:
  backend: condor
  keep: 14 d
  resources: {memory: 2 GB}
  failures: [{when: {class: memory}, then: retry, memory: {factor: 2, at_most: 16 GB}}]
  condor:
    transfer: true
    files: ["{{ spec.folder }}/job.sh"]
    max_idle: 200
    attributes: {WantCalib: true, Project: ECAL, Weight: 0.5, N: 3}
    commands: {job_lease_duration: "1200", nice_user: "true"}
tasks:
  skim:
    group_by: run
    jobs:
      command: [skim]
      resources: {gpus: 1}
      failures:
      - {when: {exit_code: [65, 66], class: exit}, then: fail}
      - {when: {hold_code: 12, signal: 9}, then: release, times: 2, after: 5 min}
      condor: {transfer: false, attributes: {project: HCAL}, commands: {nice_user: "false"}}
      keep: 1h
  here:
    needs: [skim]
    backend: local
    jobs: {command: [here]}
  there:
    needs: [skim]
    backend: condor:calib_cern.t0
    jobs: {command: [there]}
"""


def jobs_of(tmp_path: Path, text: str = SPEC) -> dict[str, Jobs]:
    (tmp_path / "w.yaml").write_text(text)
    workflow = load_workflow(tmp_path / "w.yaml", sources=load_sources(CASES / "sources.yaml"))
    assert [task.backend for task in workflow.tasks.values()] == ["condor", "local", "condor:calib_cern.t0"]
    return {name: task.jobs for name, task in workflow.tasks.items() if task.jobs is not None}


def test_defaults_and_tasks_are_merged(tmp_path: Path) -> None:
    jobs = jobs_of(tmp_path)
    memory = FailureRule(classes=("memory",), then="retry", factor=2.0, at_most=16 * 10**9)
    assert jobs["skim"].failures == (
        FailureRule(classes=("exit",), exit_codes=(65, 66), then="fail"),
        FailureRule(hold_codes=(12,), signals=(9,), then="release", times=2, after=timedelta(minutes=5)),
        memory,
    )
    assert jobs["skim"].options == {
        "transfer": False,
        "files": ["{{ spec.folder }}/job.sh"],
        "max_idle": 200,
        "attributes": {"WantCalib": True, "project": "HCAL", "Weight": 0.5, "N": 3},
        "commands": {"job_lease_duration": "1200", "nice_user": "false"},
    }
    assert (jobs["skim"].keep, jobs["here"].keep) == (timedelta(hours=1), timedelta(days=14))
    assert (jobs["skim"].resources.gpus, jobs["here"].resources.gpus) == (1, 0)
    assert (jobs["here"].options, jobs["here"].failures) == ({}, (memory,))
    attributes = jobs["there"].options["attributes"]
    assert isinstance(attributes, dict)
    assert attributes["Project"] == "ECAL"


def test_without_a_word_about_it(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text((CASES / "base.yaml").read_text().replace("[fit]\n    p", "[fit]\n    p"))
    workflow = load_workflow(tmp_path / "w.yaml", sources=load_sources(CASES / "sources.yaml"))
    jobs = workflow.tasks["fit"].jobs
    assert jobs is not None
    assert (jobs.failures, jobs.options, jobs.keep) == ((), {}, timedelta(days=30))


def test_a_template_of_defaults_is_checked_in_each_task(tmp_path: Path) -> None:
    with pytest.raises(SpecErrors, match=r"unknown variable 'spec\.foldr'"):
        jobs_of(tmp_path, SPEC.replace("spec.folder", "spec.foldr"))


def test_the_language_and_the_backends_know_the_same_words() -> None:
    assert set(get_args(get_args(failure_keys.FailureClass)[0])) == set(FailureClass)


OURS = """
universe executable arguments environment input output error log initialdir iwd queue transfer_output_files
should_transfer_files when_to_transfer_output container_image docker_image request_cpus request_memory request_disk
request_gpus requirements accounting_group accounting_group_user max_retries retry_until success_exit_code
on_exit_remove periodic_release allowed_job_duration max_materialize max_idle batch_name leave_in_queue hold noop_job
noop_job_exit_code getenv notification notify_user priority job_machine_attrs
"""
TAKEN = """
Owner User Cmd Args Env Environment JobStatus ClusterId ProcId requirements RequestCpus RequestFoo CalibTask calibx
"""


@pytest.mark.parametrize("name", OURS.split())
def test_submit_commands_of_ours(name: str) -> None:
    assert command_is_ours(name)
    assert command_is_ours(name.upper())


@pytest.mark.parametrize("name", ["job_lease_duration", "rank", "nice_user", "use_x509userproxy", "want_io_proxy"])
def test_other_submit_commands(name: str) -> None:
    assert not command_is_ours(name)


@pytest.mark.parametrize("name", TAKEN.split())
def test_attributes_that_are_taken(name: str) -> None:
    assert attribute_is_taken(name)
    assert not attribute_is_taken(f"My{name}")


@pytest.mark.parametrize(("name", "hint"), [("nice_usr", "nice_user"), ("queue_it", "")])
def test_misspelt_submit_commands(name: str, hint: str) -> None:
    assert command_is_known(name) is False
    assert hint in nearest_command(name)


@pytest.mark.parametrize("name", ["retry_request_memory", "checkpoint_exit_code", "max_retries", "periodic_release"])
def test_the_ledger_alone_counts_and_starts_again(name: str) -> None:
    assert command_is_ours(name)


def test_no_attribute_that_tells_what_became_of_a_job_can_be_stated() -> None:
    from airflow_calib_provider.backends.condor.calls import ATTRIBUTES

    assert [name for name in ATTRIBUTES if not attribute_is_taken(name)] == []
