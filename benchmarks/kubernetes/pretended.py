"""A node that is none: what a kubelet would say of its pods, and what their starters would leave, without running any.

``python -m benchmarks.kubernetes.pretended KUBECONFIG NAMESPACE ATTEMPTS`` goes on until it is ended.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from airflow_calib_provider.backends.kubernetes.starting import BEGUN, ENDED
from airflow_calib_provider.jobsets.folders import attempt_name
from tests.cluster.api import CORE, Api

NAME = "pretended"
LABEL = {"benchmarks/pretended": "true"}
TAINT = {"key": "benchmarks/pretended", "value": "true", "effect": "NoSchedule"}
ROOM = {"cpu": "100k", "memory": "1Pi", "pods": "100k", "ephemeral-storage": "1Pi"}
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
INDEX = "batch.kubernetes.io/job-completion-index"


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def make(api: Api) -> None:
    """Make the node."""
    labels = {**LABEL, "kubernetes.io/hostname": NAME, "kubernetes.io/os": "linux"}
    api.call("POST", f"{CORE}/nodes", {"metadata": {"name": NAME, "labels": labels}, "spec": {"taints": [TAINT]}})
    ready = {"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": _now()[:-8] + "Z"}
    status = {"capacity": ROOM, "allocatable": ROOM, "conditions": [ready]}
    _patch(api, f"{CORE}/nodes/{NAME}/status", {"status": status})
    lease = {"holderIdentity": NAME, "leaseDurationSeconds": 40, "renewTime": _now()}
    api.call("POST", LEASES, {"metadata": {"name": NAME, "namespace": "kube-node-lease"}, "spec": lease})


def _patch(api: Api, path: str, body: dict[str, Any]) -> None:
    api.call("PATCH", path, body, kind="application/merge-patch+json")


def end(api: Api, namespace: str, pod: dict[str, Any], attempts: Path) -> None:
    """Say of a pod that it has ended well, and leave what its starter and its job would leave."""
    about = pod["metadata"]
    index = int(about["labels"][INDEX])
    records = Path(*pod["spec"]["containers"][0]["command"][2:4]) / "records"
    (attempts / attempt_name(index, 1) / "out").mkdir(parents=True, exist_ok=True)
    now = time.time()
    begun = {"pod": about["uid"], "host": NAME, "start": now}
    ended = {**begun, "code": 0, "late": False, "stopped": False, "end": now}
    for name, record in ((f"{index}.{about['uid']}.{BEGUN}", begun), (f"{index}.{ENDED}", ended)):
        made = records / f".{name}"
        made.write_text(json.dumps(record))
        made.rename(records / name)
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "startedAt": _now()[:-8] + "Z"}}
    status = {"name": "job", "ready": False, "restartCount": 0, "image": "x", "imageID": "x", "state": state}
    path = f"{CORE}/namespaces/{namespace}/pods/{about['name']}/status"
    _patch(api, path, {"status": {"phase": "Succeeded", "containerStatuses": [status]}})


def main(arguments: Sequence[str]) -> None:
    """Be the node."""
    kubeconfig, namespace, attempts = arguments
    os.umask(0)
    api = Api(Path(kubeconfig))
    make(api)
    renewed = time.monotonic()
    while True:
        selector = f"spec.nodeName={NAME},status.phase=Pending"
        pods = api.items(f"{CORE}/namespaces/{namespace}/pods", fieldSelector=selector, limit=500)
        for pod in pods:
            end(api, namespace, pod, Path(attempts))
        if time.monotonic() - renewed > 10:
            renewed = time.monotonic()
            _patch(api, f"{LEASES}/{NAME}", {"spec": {"renewTime": _now()}})
        if not pods:
            time.sleep(0.5)


if __name__ == "__main__":
    main(sys.argv[1:])
