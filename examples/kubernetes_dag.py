"""A DAG without any YAML: 100 jobs on a Kubernetes cluster, then one that puts their results together.

Each job counts how many random numbers it takes until their sum exceeds 1: e in the mean. Put the file into Airflow's
DAG folder, create the connection ``kubernetes_default``, and name an image of yours that has ``awk``, and the claim of
the volume that is ``CALIB_HOME`` on Airflow's machines.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_calib_provider.operators.kubernetes import KubernetesJobsOperator

COUNT = """
BEGIN {
    srand(seed)
    for (i = 0; i < n; i++) for (sum = 0; sum <= 1; sum += rand()) drawn++
    print drawn, n > "drawn.txt"
}
"""
MERGE = "xargs cat < \"$1\" | awk '{ drawn += $1; n += $2 } END { print drawn / n }' > e.txt"

CLUSTER = {"image": "registry.example.org/calib/toys:1", "spool": {"pvc": "calib"}}

with DAG("kubernetes_toys", schedule=None, params={"toys": Param(100_000, type="integer")}):
    count = KubernetesJobsOperator(
        task_id="count",
        command=["awk", "-v", "seed={{ job.index }}", "-v", "n={{ params.toys }}", COUNT],
        count=100,
        memory="100MB",
        timeout="10m",
        quorum=0.95,
        products={"drawn": "drawn.txt"},
        kubernetes={**CLUSTER, "parallelism": 50, "labels": {"project": "ecal"}},
    )
    KubernetesJobsOperator(
        task_id="merge",
        command=["sh", "-c", MERGE, "sh", "{{ job.inputs_file }}"],
        inputs=count.output["drawn"],
        products={"e": "e.txt"},
        kubernetes=CLUSTER,
    )
