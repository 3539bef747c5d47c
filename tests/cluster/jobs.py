"""Jobs as tests write them by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tests.cluster.api import Namespace, until
from tests.cluster.images import SHELL

RUN_SECONDS = 120.0
FOLDER = "/spool"


def indexed_job(name: str, script: str, count: int, *, parallelism: int = 10, claim: str = "") -> dict[str, Any]:
    """The manifest of an Indexed Job of a shell script, with a volume at ``/spool`` if a claim is named."""
    volumes = [{"name": "spool", "persistentVolumeClaim": {"claimName": claim}}] if claim else []
    container = {
        "name": "job",
        "image": SHELL,
        "imagePullPolicy": "Never",
        "command": ["sh", "-c", script],
        "volumeMounts": [{"name": "spool", "mountPath": FOLDER}] if claim else [],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "automountServiceAccountToken": False,
        "containers": [container],
        "volumes": volumes,
    }
    spec = {
        "completionMode": "Indexed",
        "completions": count,
        "parallelism": parallelism,
        "backoffLimitPerIndex": 0,
        "template": {"metadata": {"labels": {"test": name}}, "spec": pod},
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def ended(namespace: Namespace, name: str) -> dict[str, Any]:
    """The status of a Job, when it has ended."""

    def status() -> dict[str, Any]:
        found: dict[str, Any] = namespace.get("jobs", name)["status"]
        over = {one["type"] for one in found.get("conditions", []) if one["status"] == "True"}
        return found if over & {"Complete", "Failed"} else {}

    found: dict[str, Any] = until(status, RUN_SECONDS, f"the end of {name}")
    return found


def phases(namespace: Namespace) -> Counter[str]:
    """How many pods are in which phase."""
    return Counter(pod["status"]["phase"] for pod in namespace.list("pods"))
