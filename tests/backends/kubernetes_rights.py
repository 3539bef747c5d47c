"""Service accounts on a test cluster with some of the rights that Airflow needs there."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from airflow_calib_provider.backends.kubernetes.rights import RIGHTS, Right
from tests.cluster.api import Namespace

ACCOUNT = "airflow"


def account_with(namespace: Namespace, rights: Iterable[Right] = RIGHTS) -> Path:
    """The kubeconfig of a service account with these rights in the namespace, and no others."""
    rules = [{"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]} for one in rights]
    namespace.create("serviceaccounts", {"metadata": {"name": ACCOUNT}})
    namespace.create("roles", {"metadata": {"name": "calib-jobs"}, "rules": rules})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "calib-jobs"}
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": namespace.name}
    namespace.create("rolebindings", {"metadata": {"name": "calib-jobs"}, "roleRef": role, "subjects": [subject]})
    return namespace.account(ACCOUNT)
