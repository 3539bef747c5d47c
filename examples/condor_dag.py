"""A DAG without any YAML: 200 jobs of toys on an HTCondor pool, then one that puts their results together.

Put it into Airflow's DAG folder, and create the connection ``calib_condor``.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_calib_provider.operators.condor import CondorJobsOperator

TOYS = """
BEGIN {
    srand(seed)
    for (i = 0; i < n; i++) if (rand() ^ 2 + rand() ^ 2 < 1) inside++
    print inside, n > "toys.txt"
}
"""
MERGE = "xargs cat < \"$1\" | awk '{ inside += $1; n += $2 } END { print 4 * inside / n }' > pi.txt"

with DAG("condor_toys", schedule=None, params={"toys": Param(100_000, type="integer")}):
    toys = CondorJobsOperator(
        task_id="toys",
        command=["awk", "-v", "seed={{ job.index }}", "-v", "n={{ params.toys }}", TOYS],
        count=200,
        memory="200MB",
        timeout="10m",
        quorum=0.95,
        products={"toys": "toys.txt"},
        failures=[{"when": {"class": "memory"}, "then": "retry", "memory": {"factor": 2, "at_most": "2GB"}}],
        condor={"max_idle": 100, "attributes": {"Project": "ECAL"}},
    )
    CondorJobsOperator(
        task_id="merge",
        command=["sh", "-c", MERGE, "sh", "{{ job.inputs_file }}"],
        inputs=toys.output["toys"],
        products={"pi": "pi.txt"},
    )
