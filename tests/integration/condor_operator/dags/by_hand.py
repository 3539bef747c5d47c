"""A DAG without any YAML: numbers are made by jobs on the pool, and added up by others."""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, TaskGroup

from airflow_calib_provider.operators.condor import CondorJobsOperator

HERE = Path(__file__).parent

with DAG("by-hand.daily", schedule=None, params={"offset": 10}) as dag:
    make = CondorJobsOperator(
        task_id="make",
        command=["/bin/sh", HERE / "make.sh", "{{ params.offset }}", "{{ job.index }}", "{{ job.count }}"],
        count=5,
        environment={"CONTROL": os.environ["TOY_CONTROL"], "DAG_RUN": "{{ run_id }}"},
        memory="100MB",
        disk="10MB",
        timeout="1m",
        retries_of_jobs=0,
        products={"number": "number.txt"},
        failures=[{"when": {"exit_code": 65}, "then": "fail"}],
        condor={"attributes": {"WantCalib": True}},
    )
    with TaskGroup("add"):
        CondorJobsOperator(
            task_id="up",
            command=["/bin/sh", "-c", 'cat $(cat "$1") > total.txt', "sh", "{{ job.inputs_file }}"],
            inputs=make.output["number"],
            per_job=2,
            products={"total": "total.txt"},
        )
