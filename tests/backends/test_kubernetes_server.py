"""What a block ``kubernetes`` becomes, and what the language takes and refuses, as a real API server sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.backends.kubernetes import client, rounds
from airflow_calib_provider.backends.kubernetes.backend import KubernetesBackend
from airflow_calib_provider.backends.kubernetes.rights import RIGHTS, Right
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.backends.kubernetes.template import job_manifest, pod_template
from airflow_calib_provider.domain.observation import AttemptState
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import BackendError, SubmissionRefused
from airflow_calib_provider.spec.arguments import ArgumentsReader
from tests.backends.conformance import follow
from tests.backends.kubernetes_rights import account_with
from tests.backends.test_kubernetes_manifests import SPEC, blocks, parts
from tests.cluster.api import Api, Namespace, until
from tests.cluster.images import SHELL

__all__ = ["blocks"]

BLOCK: dict[str, Any] = {"image": "calib/fit", "spool": {"pvc": "calib"}}


def dry(namespace: Namespace, resource: str, manifest: dict[str, Any]) -> str:
    """What the server says of an object that it does not make; empty: it would."""
    from kubernetes.client import ApiException

    try:
        namespace.api.call("POST", namespace.path(resource), manifest, dryRun="All", fieldValidation="Strict")
    except ApiException as error:
        return str(error.body)
    return ""


def job_of(block: dict[str, Any], namespace: Namespace) -> dict[str, Any]:
    template = pod_template(block, Resources(2, 10**9, 10**9, 1), parts(deadline=600, environment={"A": "b"}))
    return job_manifest(
        "calib-x-0", namespace.name, template, block, completions=10_000, labels={"a": "b"}, annotations={"c": "d"}
    )


@pytest.mark.parametrize("task", ["plain", "all"])
def test_the_server_takes_every_key(task: str, blocks: dict[str, Any], namespace: Namespace) -> None:
    assert "patch:" in SPEC
    assert dry(namespace, "jobs", job_of(blocks[task], namespace)) == ""


def test_it_would_say_what_it_does_not_know(namespace: Namespace) -> None:
    job = job_of(BLOCK, namespace)
    job["spec"]["template"]["spec"]["runtimeClas"] = "x"
    assert "runtimeClas" in dry(namespace, "jobs", job)


def test_pods_are_as_pod_security_wants_them(cluster: Api) -> None:
    starter = {"name": "calib-starter", "image": "starter"}
    with cluster.namespace("restricted") as namespace:
        for block in (BLOCK, {**BLOCK, "volumes": {"c": {"config_map": "c", "mount": "/c"}}}):
            pod = {**pod_template(block, Resources(), parts(init_containers=[starter]))}
            pod["metadata"]["name"] = "x"
            assert dry(namespace, "pods", pod) == ""
        for loose in ({"restricted": False}, {"spool": {"host_path": "/data"}}):
            pod = pod_template({**BLOCK, **loose}, Resources(), parts())
            pod["metadata"]["name"] = "x"
            assert "violates PodSecurity" in dry(namespace, "pods", pod)


LONG = 63 * "a"
TRIED: dict[str, tuple[Callable[[Any], dict[str, Any]], list[Any]]] = {
    "key of a label": (
        lambda text: {"labels": {text: "x"}},
        ["a", "A.b_c-d", "-a", "a-", "a b", "", LONG, LONG + "a", "example.org/a", "Example.org/a", "a/b/c", "/a", "é"],
    ),
    "value of a label": (
        lambda text: {"labels": {"k": text}},
        ["", "a", "A.b_c-d", "-a", "a.", "a b", LONG, LONG + "a"],
    ),
    "key of an annotation": (lambda text: {"annotations": {text: "x y"}}, ["a", "a b", "example.org/a", "a/"]),
    "name of a volume": (
        lambda text: {"volumes": {text: {"pvc": "x", "mount": "/x"}}},
        ["a", "a-b", "A", "a.b", "-a", LONG, LONG + "a"],
    ),
    "name of a claim": (
        lambda text: {"volumes": {"v": {"pvc": text, "mount": "/x"}}},
        ["a", "a.b-c", "A", "a..b", "a_b", ".a"],
    ),
    "place of a volume": (
        lambda text: {"volumes": {"v": {"pvc": "x", "mount": text}}},
        ["/x", "/x/y z", "/x:y", "/"],
    ),
    "part of a volume": (
        lambda text: {"volumes": {"v": {"pvc": "x", "mount": "/x", "sub_path": text}}},
        ["a/b", "/a", "a/../b", ".."],
    ),
    "folder of a node": (
        lambda text: {"volumes": {"v": {"host_path": text, "mount": "/x"}}},
        ["/a/b", "/a/../b"],
    ),
    "priority class": (lambda text: {"priority_class": text}, ["a.b", "A", "a_b"]),
    "service account": (lambda text: {"service_account": text}, ["a.b", "A", "a_b"]),
    "runtime class": (lambda text: {"runtime_class": text}, ["a.b", "A", "a_b"]),
    "label of a node": (lambda text: {"node_selector": {text: "x"}}, ["kubernetes.io/arch", "a b"]),
    "taint": (
        lambda item: {"tolerations": [item]},
        [
            {"operator": "Exists"},
            {"operator": "Exists", "value": "x"},
            {"key": "a", "value": "b"},
            {"value": "b"},
            {"key": "a", "operator": "Exists", "effect": "NoExecute", "seconds": 5},
            {"key": "a", "operator": "Exists", "effect": "NoSchedule", "seconds": 5},
            {"key": "a b", "operator": "Exists"},
            {"key": "a", "value": "b c"},
            {"key": "a", "value": "b", "effect": "Never"},
        ],
    ),
    "amount of a resource": (
        lambda value: {"extended_resources": {"example.org/fpga": value}},
        [1, "2", "2k", "x", "1x"],
    ),
    "request of CPUs": (lambda value: {"cpu_request": value}, [1, "250m", "0.5", "many"]),
    "extended resource": (
        lambda name: {"extended_resources": {name: 1}},
        ["example.org/fpga", "fpga", "a b/c", "Example.org/fpga", "requests.example.org/x"],
    ),
    "variable": (
        lambda name: {"secret_environment": {name: {"secret": "s", "key": "k"}}},
        ["A_B", "_a", "A B", "A=B"],
    ),
    "key of a Secret": (
        lambda text: {"secret_environment": {"A": {"secret": "s", "key": text}}},
        ["a.b_c-D", "a b", "a/b", ".", ".."],
    ),
}
STRICTER = {
    # No claim can be called so; the server would wait for it for ever.
    *(("name of a claim", name) for name in ("A", "a..b", "a_b", ".a")),
    # Over the image's own files; and what its documentation forbids and its check does not.
    *(("place of a volume", path) for path in ("/", "/x:y")),
    # A shell could not name it.
    ("variable", "A B"),
}
"""What the server would take and the language does not."""


def said_of(block: dict[str, Any]) -> list[str]:
    reader = ArgumentsReader({"kubernetes": {**BLOCK, **block}})
    reader.settings()
    return reader.mistakes


@pytest.mark.parametrize("what", TRIED)
def test_the_language_takes_what_the_server_takes(what: str, namespace: Namespace) -> None:
    block_of, values = TRIED[what]
    different = []
    for value in values:
        block = {**BLOCK, **block_of(value)}
        there, here = dry(namespace, "jobs", job_of(block, namespace)), said_of(block_of(value))
        if bool(there) != (bool(here) and (what, str(value)) not in STRICTER):
            different.append((value, there, here))
    assert different == []


def test_a_service_account_reaches_its_namespace(namespace: Namespace) -> None:
    file = Path(namespace.account("default"))
    access = KubernetesSettings(kube_config_path=str(file), namespace=namespace.name).access()
    assert (access.namespace, access.configuration.verify_ssl) == (namespace.name, True)


def settings_of(namespace: Namespace, rights: Iterable[Right]) -> KubernetesSettings:
    """What a connection says of a service account with these rights."""
    return KubernetesSettings(kube_config_path=str(account_with(namespace, rights)), namespace=namespace.name)


def said(settings: KubernetesSettings) -> str:
    backend = KubernetesBackend(settings)
    try:
        return until(lambda: _allowed(backend), what="what the roles say")
    finally:
        backend.close()


def _allowed(backend: KubernetesBackend) -> str:
    """What the test says; what a new role allows is known a moment after it is made."""
    try:
        return backend.check()
    except BackendError as error:
        if "create, get, list and delete jobs or" in str(error):
            return ""
        return f"{error}"


@pytest.mark.parametrize("lacking", ["", "create jobs", "delete pods", "get pods/log", "list events"])
def test_the_missing_right_is_named(lacking: str, namespace: Namespace) -> None:
    rights = [right for right in RIGHTS if str(right) != lacking]
    assert len(rights) == len(RIGHTS) - bool(lacking)
    told = said(settings_of(namespace, rights))
    me = f"system:serviceaccount:{namespace.name}:airflow"
    if lacking in ("create jobs", "delete pods"):
        assert f"{me} may not {lacking} in the namespace {namespace.name} of https://" in told
        return
    assert "answers as Kubernetes v1." in told
    assert f"{me} may run jobs in the namespace {namespace.name}" in told
    assert (f"; may not {lacking}: " in told) == bool(lacking)


def test_no_rights_at_all_and_no_server(namespace: Namespace) -> None:
    nobody = KubernetesSettings(kube_config_path=str(namespace.account("default")), namespace=namespace.name)
    with pytest.raises(BackendError) as caught:
        KubernetesBackend(nobody).check()
    assert "may not create, get, list and delete jobs or list and delete pods in" in str(caught.value)
    config = {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "users": [{"name": "u", "user": {"token": "x"}}],
        "current-context": "c",
    }
    with pytest.raises(BackendError, match=r"https://127\.0\.0\.1:1 .*does not answer"):
        KubernetesBackend(KubernetesSettings("nowhere", kube_config=config)).check()


def test_a_namespace_that_is_not_there(namespace: Namespace) -> None:
    """Who may do everything may do it there, too."""
    settings = KubernetesSettings(kube_config_path=str(namespace.api.kubeconfig), namespace="nowhere")
    with pytest.raises(BackendError, match="there is no namespace nowhere in https://") as caught:
        KubernetesBackend(settings).check()
    assert "kubectl create namespace nowhere" in caught.value.hint


def test_a_token_that_nobody_knows(namespace: Namespace, tmp_path: Path) -> None:
    config = json.loads(namespace.api.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": "of last year"}
    with pytest.raises(BackendError, match="Unauthorized") as caught:
        KubernetesBackend(KubernetesSettings("far", kube_config=config, namespace=namespace.name)).check()
    assert "the connection far" in caught.value.hint
    assert "expired" in caught.value.hint


def test_a_patch_with_a_misspelt_key_is_refused(namespace: Namespace) -> None:
    """A server that is not asked to be strict leaves it out, and the jobs run as nobody meant them to."""
    settings = KubernetesSettings(kube_config_path=str(namespace.api.kubeconfig), namespace=namespace.name)
    manifest = job_of({**BLOCK, "patch": [{"spec": {"hostAliasses": []}}]}, namespace)
    with pytest.raises(SubmissionRefused, match="hostAliasses"):
        rounds.create(client.Api(settings), manifest)
    assert not namespace.list("jobs")


def of_ours(file: Path) -> bool:
    """Whether this package wrote a file."""
    return file.is_file() and file.name != "text"


def test_what_a_job_has_of_the_cluster(cluster: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One claim for spool and inputs, secrets, settings; under the strictest Pod Security, with no more rights."""
    before = os.umask(0)  # jobs run as another user than the tests
    home = tmp_path / "all" / "calib"
    home.mkdir(parents=True)
    (tmp_path / "all" / "input").write_text("read")
    monkeypatch.setenv("CALIB_HOME", str(home))
    monkeypatch.setenv("CALIB_KUBERNETES_INTERVAL", "1")
    block = {
        "image": SHELL,
        "image_pull_policy": "Never",
        "run_as_user": 1000,
        "run_as_group": 1000,
        "spool": {"pvc": "all", "sub_path": "calib"},
        "volumes": {
            "inputs": {"pvc": "all", "mount": "/data", "read_only": True},
            "settings": {"config_map": "settings", "mount": "/etc/settings"},
            "proxy": {"secret": "proxy", "mount": "/etc/proxy"},
        },
        "secret_environment": {"PASSWORD": {"secret": "proxy", "key": "word"}},
        "labels": {"project": "ecal"},
        "patch": [{"spec": {"containers": [{"name": "job", "env": [{"name": "MORE", "value": "more"}]}]}}],
    }
    key, folder = RoundKey("c", "w", "t", "run-r1", 1, 0, 0), home / "products" / "job"
    script = """
        cat /data/input /etc/settings/window /etc/proxy/word > text
        echo " $PASSWORD $MORE" >> text
        [ ! -e /var/run/secrets/kubernetes.io ] && ! touch /data/written 2> /dev/null
    """
    try:
        with cluster.namespace("restricted") as namespace:
            namespace.claim(tmp_path / "all", "all")
            namespace.create("configmaps", {"metadata": {"name": "settings"}, "data": {"window": " 5 "}})
            namespace.create("secrets", {"metadata": {"name": "proxy"}, "stringData": {"word": "hidden"}})
            backend = KubernetesBackend(settings_of(namespace, RIGHTS))
            folder.parent.mkdir()
            job = JobSubmission(0, 1, ("sh", "-c", script), {"CALIB_OUT": str(folder / "out")}, folder)
            backend.submit(key, [job], block)
            (seen,) = follow(backend, [key], lambda seen: any(one.state.final for one in seen[key]), 90)[key][-1:]
            assert (seen.state, seen.reason) == (AttemptState.SUCCEEDED, None)
            assert (folder / "out" / "text").read_text() == "read 5 hidden hidden more\n"
            (pod,) = namespace.list("pods", labelSelector="project=ecal")
            assert "hidden" not in json.dumps([pod, namespace.list("jobs")])
            assert not any("hidden" in file.read_text(errors="replace") for file in home.rglob("*") if of_ours(file))
            backend.forget(key)
            backend.close()
    finally:
        os.umask(before)
