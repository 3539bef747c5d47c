"""Airflow's ``kubernetes`` connection as this package reads it: the form of another provider, without its hook."""

from __future__ import annotations

import base64
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.sdk import Connection
from kubernetes.client import Configuration

from airflow_calib_provider.backends.kubernetes import settings
from airflow_calib_provider.backends.kubernetes.settings import KubernetesSettings
from airflow_calib_provider.errors import BackendError
from airflow_calib_provider.hooks.kubernetes import KubernetesJobsHook, kubernetes_settings
from tests.backends.kubernetes_rights import account_with
from tests.cluster.api import Namespace, until

TOKEN = "very-secret-token"
CONFIG: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [
        {"name": "one", "cluster": {"server": "https://one.example.org:6443"}},
        {"name": "two", "cluster": {"server": "https://two.example.org:6443", "insecure-skip-tls-verify": True}},
    ],
    "users": [
        {"name": "me", "user": {"token": TOKEN}},
        {"name": "you", "user": {"token": base64.b64encode(b"another").decode()}},
    ],
    "contexts": [
        {"name": "first", "context": {"cluster": "one", "user": "me", "namespace": "calib"}},
        {"name": "second", "context": {"cluster": "two", "user": "you"}},
    ],
    "current-context": "first",
}


def connection(extra: dict[str, Any] | str, **more: Any) -> Connection:
    text = extra if isinstance(extra, str) else json.dumps(extra)
    return Connection(**{"conn_id": "cluster", "conn_type": "kubernetes", "extra": text, **more})


@pytest.mark.parametrize("prefix", ["", "extra__kubernetes__"])
def test_all_that_concerns_us_is_read(prefix: str) -> None:
    said = {
        "kube_config": json.dumps(CONFIG),
        "cluster_context": "second",
        "namespace": "space",
        "disable_verify_ssl": True,
        "disable_tcp_keepalive": "true",
        "xcom_sidecar_container_image": "not ours",
    }
    found = kubernetes_settings(connection({prefix + name: value for name, value in said.items()}))
    assert found == KubernetesSettings(
        "cluster",
        kube_config=CONFIG,
        cluster_context="second",
        namespace="space",
        verify=False,
        keep_alive=False,
    )
    assert TOKEN not in repr(found)


def test_the_fields_are_those_of_the_form_that_airflow_draws() -> None:
    (form,) = [item for item in HookMetaService.hook_meta_data() if item.connection_type == "kubernetes"]
    assert form.hook_class_name == "airflow.providers.cncf.kubernetes.hooks.kubernetes.KubernetesHook"
    ours = {
        "in_cluster",
        "kube_config_path",
        "kube_config",
        "namespace",
        "cluster_context",
        "disable_verify_ssl",
        "disable_tcp_keepalive",
    }
    assert ours == {field for field in form.extra_fields if not field.startswith("xcom_")}


@pytest.mark.parametrize("empty", [None, ""])
def test_a_form_that_nobody_touched(empty: str | None) -> None:
    fields = ("in_cluster", "kube_config_path", "kube_config", "namespace", "cluster_context", "disable_verify_ssl")
    assert kubernetes_settings(connection(dict.fromkeys(fields, empty))) == KubernetesSettings("cluster")
    assert kubernetes_settings(connection({})) == KubernetesSettings("cluster")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"in_cluster": True, "kube_config_path": "/x"}, "it has in_cluster and kube_config_path"),
        ({"kube_config": "{}", "kube_config_path": "/x", "in_cluster": "maybe"}, "in_cluster is 'maybe'"),
        ({"kube_config": CONFIG, "kube_config_path": "/x"}, "it has kube_config_path and kube_config"),
        ({"in_cluster": True, "cluster_context": "first"}, "a cluster_context and is in_cluster"),
        ({"namespace": "My_Space"}, "its namespace 'My_Space' is not a name"),
        ({"namespace": 5}, "namespace is no text"),
        ({"kube_config": "apiVersion: v1"}, "kube_config is not JSON"),
        ({"kube_config": "[1]"}, "kube_config is no mapping"),
    ],
)
def test_what_is_wrong_is_said(extra: dict[str, Any], said: str) -> None:
    with pytest.raises(BackendError, match="the connection cluster: ") as caught:
        kubernetes_settings(connection(extra))
    assert said in str(caught.value)
    assert caught.value.hint


def test_another_type_of_connection() -> None:
    with pytest.raises(BackendError, match="has the type 'http'") as caught:
        kubernetes_settings(connection({}, conn_type="http"))
    assert "'kubernetes'" in caught.value.hint


class TestAccess:
    def test_two_clusters_do_not_meet_in_one_process(self, tmp_path: Path) -> None:
        file = tmp_path / "config"
        file.write_text(yaml.safe_dump(CONFIG))
        one = kubernetes_settings(connection({"kube_config_path": str(file)})).access()
        two = kubernetes_settings(connection({"kube_config": CONFIG, "cluster_context": "second"})).access()
        assert (one.configuration.host, one.namespace) == ("https://one.example.org:6443", "calib")
        assert (two.configuration.host, two.namespace) == ("https://two.example.org:6443", "default")
        assert one.configuration.get_api_key_with_prefix("BearerToken") == f"Bearer {TOKEN}"
        assert (one.configuration.verify_ssl, two.configuration.verify_ssl) == (True, False)
        assert "example.org" not in Configuration().host, "nothing is set for the process as a whole"
        assert TOKEN not in repr(one)

    def test_what_others_set_for_the_process_is_not_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        theirs = Configuration()
        theirs.verify_ssl = False
        theirs.api_key = {"BearerToken": "Bearer theirs"}
        monkeypatch.setattr(Configuration, "_default", theirs)
        ours = KubernetesSettings(kube_config=CONFIG).access().configuration
        assert ours.verify_ssl
        assert ours.get_api_key_with_prefix("BearerToken") == f"Bearer {TOKEN}"

    def test_its_own_words_come_first(self) -> None:
        access = KubernetesSettings(kube_config=CONFIG, namespace="own", verify=False).access()
        assert access.namespace == "own"
        assert not access.configuration.verify_ssl

    @pytest.mark.parametrize(
        ("settings", "said", "hint"),
        [
            ({"kube_config_path": "/no/such/file"}, "there is no file /no/such/file", "kube_config_path"),
            ({"kube_config": CONFIG, "cluster_context": "third"}, "third", "cluster_context is 'third'"),
            ({"kube_config": {"a": TOKEN}}, "its configuration cannot be used", "kube_config"),
            ({"kube_config": {**CONFIG, "users": TOKEN}}, "its configuration cannot be used", "kube_config"),
            ({"in_cluster": True}, "Service host/port is not set", "in_cluster is for an Airflow in the cluster"),
        ],
    )
    def test_what_leads_nowhere(
        self, settings: dict[str, Any], said: str, hint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
        with pytest.raises(BackendError) as caught:
            KubernetesSettings(**settings).access()
        assert said in str(caught.value)
        assert hint in caught.value.hint
        assert TOKEN not in str(caught.value)

    @pytest.mark.parametrize("text", [f"users: [token: {TOKEN}\n- x: :", f"{TOKEN}: *b", f"{TOKEN}\0"])
    def test_a_file_that_is_no_yaml(self, text: str, tmp_path: Path) -> None:
        (tmp_path / "config").write_text(text)
        with pytest.raises(BackendError, match="its configuration cannot be used: it is not a kubeconfig") as caught:
            KubernetesSettings(kube_config_path=str(tmp_path / "config")).access()
        assert TOKEN not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize("hangs", [False, True])
    def test_a_program_that_makes_credentials_does_not_hang(self, hangs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(settings, "_PLUGIN_SECONDS", 1 if hangs else 20)
        version = "client.authentication.k8s.io/v1"
        made = json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": {"token": TOKEN}})
        script = "trap '' TERM; while :; do sleep 1; done" if hangs else 'printf %s "$1"'
        plugin = {
            "apiVersion": version,
            "command": "sh",
            "args": ["-c", script, "sh", made],
            "interactiveMode": "Never",
        }
        users = [{"name": user["name"], "user": {"exec": plugin}} for user in CONFIG["users"]]
        found = KubernetesSettings(kube_config={**CONFIG, "users": users}).access().configuration
        expected = None if hangs else f"Bearer {TOKEN}"
        assert found.get_api_key_with_prefix("BearerToken") == expected
        assert plugin["command"] == "sh", "the connection's own words are left as they are"

    def test_without_a_word_about_it_the_usual_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """That of ``kubectl``, where there is no pod around this process; a program may have changed it meanwhile."""
        from kubernetes.config import kube_config

        file = tmp_path / "config"
        file.write_text(yaml.safe_dump(CONFIG))
        monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        monkeypatch.setattr("kubernetes.config.KUBE_CONFIG_DEFAULT_LOCATION", str(file))
        assert str(file) == kube_config.KUBE_CONFIG_DEFAULT_LOCATION
        assert KubernetesSettings().access().configuration.host == "https://one.example.org:6443"


def test_the_hook_reaches_the_cluster_and_names_the_missing_right(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(file: Path) -> tuple[bool, str]:
        extra = {"kube_config": json.loads(file.read_text()), "namespace": namespace.name}
        monkeypatch.setenv("AIRFLOW_CONN_NEAR", json.dumps({"conn_type": "kubernetes", "extra": extra}))
        return KubernetesJobsHook("near").test_connection()

    allowed = account_with(namespace)
    good, words = until(lambda: (found := said(allowed))[0] and found, what="the rights")
    assert good
    assert f"may run jobs in the namespace {namespace.name}" in words
    bad, words = said(namespace.account("default"))
    assert not bad
    assert f"system:serviceaccount:{namespace.name}:default may not create, get, list and delete jobs" in words
    monkeypatch.setenv("AIRFLOW_CONN_NEAR", json.dumps({"conn_type": "kubernetes", "extra": {"in_cluster": "maybe"}}))
    assert KubernetesJobsHook("near").test_connection() == (
        False,
        "the connection near: in_cluster is 'maybe'; expected true or false",
    )
