"""What becomes of a block ``kubernetes``: pod templates and Jobs, as far as they can be told without a cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.backends.kubernetes.numbering import about
from airflow_calib_provider.backends.kubernetes.patch import patched
from airflow_calib_provider.backends.kubernetes.template import (
    PodParts,
    in_pod,
    job_manifest,
    pod_template,
    start_within,
)
from airflow_calib_provider.domain.round_key import RoundKey
from airflow_calib_provider.domain.submission import Resources
from airflow_calib_provider.errors import SubmissionRefused
from airflow_calib_provider.spec.arguments import ArgumentsReader
from airflow_calib_provider.spec.loader import load_sources, load_workflow

CASES = Path(__file__).parents[1] / "spec" / "cases"

SPEC = """
apiVersion: calib/v1
workflow: w
runs: {source: daq}
defaults:
  backend: kubernetes
  kubernetes:
    image: registry.example.org/calib/fit:1.2
    spool: {pvc: calib, mount: /calib, sub_path: production}
    labels: {project: ecal, shift: night}
    volumes: {data: {nfs: {server: nas.example.org, path: /export/data}, mount: /data, read_only: true}}
    patch: {spec: {dnsPolicy: Default, containers: [{name: job, stdin: true}]}}
    priority_class: batch
tasks:
  plain:
    group_by: run
    jobs: {command: [plain]}
  all:
    needs: [plain]
    backend: kubernetes:other
    jobs:
      command: [all]
      kubernetes:
        image: calib/other@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        image_pull_policy: Never
        image_pull_secrets: [registry]
        labels: {project: hcal}
        annotations: {example.org/contact: "ecal-calib, phone 5"}
        volumes:
          conditions: {config_map: conditions, mount: /etc/conditions}
          proxy: {secret: proxy, mount: /etc/proxy}
          scratch: {host_path: /scratch, mount: /scratch}
        parallelism: 7
        queue: calibration
        scheduler: volcano
        runtime_class: gvisor
        service_account: reader
        node_selector: {kubernetes.io/arch: amd64}
        tolerations: [{key: dedicated, value: calib, effect: NoExecute, seconds: 60}, {operator: Exists}]
        affinity: {nodeAffinity: {}}
        gpu_resource: amd.com/gpu
        cpu_request: 250m
        extended_resources: {example.org/fpga: 2, hugepages-2Mi: 64Mi}
        secret_environment: {DB_PASSWORD: {secret: conditions-db, key: password}}
        run_as_user: 1000
        run_as_group: 1001
        supplemental_groups: [5, 6]
        fs_group: 7
        start_within: 1h30m
        patch:
          spec:
            dnsPolicy: null
            hostAliases: [{ip: 10.0.0.1, hostnames: [db]}]
            containers: [{name: job, env: [{name: MORE, value: "1"}]}]
"""

HOME = "/srv/calib"


@pytest.fixture(scope="module")
def blocks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    file = tmp_path_factory.mktemp("spec") / "w.yaml"
    file.write_text(SPEC)
    workflow = load_workflow(file, sources=load_sources(CASES / "sources.yaml"))
    return {name: dict(task.jobs.options) for name, task in workflow.tasks.items() if task.jobs is not None}


def parts(**more: Any) -> PodParts:
    return PodParts(("starter", "$(JOB_COMPLETION_INDEX)"), HOME, 1234, 1235, **more)


def test_a_pod_of_few_words(blocks: dict[str, Any]) -> None:
    template = pod_template(blocks["plain"], Resources(), parts())
    assert template == {
        "metadata": {"labels": {"project": "ecal", "shift": "night"}, "annotations": {}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 10,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 1234,
                "runAsGroup": 1235,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "dnsPolicy": "Default",
            "priorityClassName": "batch",
            "containers": [
                {
                    "name": "job",
                    "image": "registry.example.org/calib/fit:1.2",
                    "command": ["starter", "$(JOB_COMPLETION_INDEX)"],
                    "env": [],
                    "stdin": True,
                    "resources": {"requests": {"cpu": "1"}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                    "terminationMessagePolicy": "FallbackToLogsOnError",
                    "volumeMounts": [
                        {"name": "calib-spool", "mountPath": "/calib", "subPath": "production"},
                        {"name": "data", "mountPath": "/data", "readOnly": True},
                    ],
                }
            ],
            "volumes": [
                {"name": "calib-spool", "persistentVolumeClaim": {"claimName": "calib"}},
                {"name": "data", "nfs": {"server": "nas.example.org", "path": "/export/data"}},
            ],
        },
    }


def test_a_pod_of_many_words(blocks: dict[str, Any]) -> None:
    template = pod_template(blocks["all"], Resources(4, 2 * 10**9, 5 * 10**9, 1), parts(deadline=99))
    spec = template["spec"]
    assert template["metadata"] == {
        "labels": {"project": "hcal", "shift": "night"},
        "annotations": {"example.org/contact": "ecal-calib, phone 5"},
    }
    stated = {
        "activeDeadlineSeconds": 99,
        "affinity": {"nodeAffinity": {}},
        "automountServiceAccountToken": True,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["db"]}],
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "priorityClassName": "batch",
        "runtimeClassName": "gvisor",
        "schedulerName": "volcano",
        "serviceAccountName": "reader",
        "tolerations": [
            {"key": "dedicated", "value": "calib", "effect": "NoExecute", "tolerationSeconds": 60},
            {"operator": "Exists"},
        ],
    }
    assert {key: spec[key] for key in stated} == stated
    assert "dnsPolicy" not in spec, "what the defaults' patch says, the task's takes away"
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1001,
        "supplementalGroups": [5, 6],
        "fsGroup": 7,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    (job,) = spec["containers"]
    amounts = {
        "memory": "2000000000",
        "ephemeral-storage": "5000000000",
        "amd.com/gpu": "1",
        "example.org/fpga": "2",
        "hugepages-2Mi": "64Mi",
    }
    assert job["resources"] == {"requests": {"cpu": "250m", **amounts}, "limits": amounts}
    secret = {"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "conditions-db", "key": "password"}}}
    assert job["env"] == [secret, {"name": "MORE", "value": "1"}]
    assert (job["stdin"], job["imagePullPolicy"]) == (True, "Never")
    assert {mount["mountPath"] for mount in job["volumeMounts"]} == {
        "/calib",
        "/data",
        "/etc/conditions",
        "/etc/proxy",
        "/scratch",
    }
    volumes = {volume.pop("name"): volume for volume in spec["volumes"]}
    assert volumes["conditions"] == {"configMap": {"name": "conditions"}}
    assert volumes["proxy"] == {"secret": {"secretName": "proxy"}}
    assert volumes["scratch"] == {"hostPath": {"path": "/scratch", "type": "Directory"}}
    assert start_within(blocks["all"]) == 5400
    assert start_within(blocks["plain"]) == 600


def test_one_claim_is_one_volume_however_often_it_is_mounted() -> None:
    """A pod that names a claim twice waits for it for ever."""
    block = {
        "image": "a",
        "spool": {"pvc": "all", "sub_path": "calib"},
        "volumes": {
            "data": {"pvc": "all", "mount": "/data", "sub_path": "data", "read_only": True},
            "one": {"host_path": "/x", "mount": "/x"},
            "two": {"host_path": "/x", "mount": "/y"},
        },
    }
    spec = pod_template(block, Resources(), parts())["spec"]
    assert spec["volumes"] == [
        {"name": "calib-spool", "persistentVolumeClaim": {"claimName": "all"}},
        {"name": "one", "hostPath": {"path": "/x", "type": "Directory"}},
    ]
    assert spec["containers"][0]["volumeMounts"] == [
        {"name": "calib-spool", "mountPath": HOME, "subPath": "calib"},
        {"name": "calib-spool", "mountPath": "/data", "subPath": "data", "readOnly": True},
        {"name": "one", "mountPath": "/x"},
        {"name": "one", "mountPath": "/y"},
    ]


def test_what_the_backend_adds(blocks: dict[str, Any]) -> None:
    more = parts(
        environment={"A": "1"},
        labels={"airflow-calib-provider/round": "r"},
        volumes=[{"name": "calib-more", "emptyDir": {}}],
        mounts=[{"name": "calib-more", "mountPath": "/more"}],
        init_containers=[{"name": "calib-starter", "image": "starter"}],
    )
    template = pod_template(blocks["plain"], Resources(memory=10), more)
    spec = template["spec"]
    assert template["metadata"]["labels"]["airflow-calib-provider/round"] == "r"
    assert spec["volumes"][-1] == {"name": "calib-more", "emptyDir": {}}
    assert spec["containers"][0]["volumeMounts"][-1] == {"name": "calib-more", "mountPath": "/more"}
    assert spec["containers"][0]["env"] == [{"name": "A", "value": "1"}]
    (first,) = spec["initContainers"]
    # A quota on limits refuses a pod of which one container has none.
    assert first["resources"] == spec["containers"][0]["resources"]
    assert first["securityContext"] == spec["containers"][0]["securityContext"]


CONTAINER = {"name": "cache", "image": "cache"}


def patched_with(spec: dict[str, Any]) -> list[str]:
    """What is said of a patch."""
    block = {"image": "a", "spool": {"pvc": "b"}, "patch": {"spec": spec}}
    reader = ArgumentsReader({"kubernetes": block})
    reader.settings()
    return reader.mistakes


@pytest.mark.parametrize(
    "spec",
    [
        {"volumes": [{"name": [1]}]},
        {"volumes": [{"name": {"a": 1}}]},
        {"volumes": [{"name": None}]},
        {"containers": [{"name": "job", "ports": [{"containerPort": {"x": 1}}]}]},
        {"containers": [{"name": "job", "env": [{"name": ["CALIB_OUT"], "value": "x"}]}]},
    ],
    ids=str,
)
def test_a_name_in_a_patch_is_one(spec: dict[str, Any]) -> None:
    (said,) = patched_with(spec)
    assert "an element of" in said


def test_what_a_patch_runs_before_a_job_is_no_less_restricted() -> None:
    patch = {"spec": {"initContainers": [CONTAINER]}}
    block = {"image": "a", "spool": {"pvc": "b"}, "patch": [patch]}
    assert patched_with(patch["spec"]) == []
    (first,) = pod_template(block, Resources(), parts())["spec"]["initContainers"]
    assert first["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert "securityContext" not in CONTAINER
    (first,) = pod_template({**block, "restricted": False}, Resources(), parts())["spec"]["initContainers"]
    assert first == CONTAINER
    (said,) = patched_with({"initContainers": [{**CONTAINER, "securityContext": {"privileged": True}}]})
    assert "securityContext of the container cache" in said


def test_a_job_never_tries_again_by_itself(blocks: dict[str, Any]) -> None:
    options = blocks["all"]
    template = pod_template(options, Resources(), parts())
    labels = {"airflow-calib-provider/round": "abc"}
    job = job_manifest("calib-x", "space", template, options, completions=20, labels=labels, annotations={"a": "b"})
    assert job["metadata"] == {
        "name": "calib-x",
        "namespace": "space",
        "labels": {"project": "hcal", "shift": "night", "kueue.x-k8s.io/queue-name": "calibration", **labels},
        "annotations": {"example.org/contact": "ecal-calib, phone 5", "a": "b"},
    }
    assert job["spec"] == {
        "completionMode": "Indexed",
        "completions": 20,
        "parallelism": 7,
        "backoffLimitPerIndex": 0,
        "ttlSecondsAfterFinished": 14 * 86_400,
        "template": template,
    }
    small = job_manifest("x", "y", template, options, completions=3, labels={}, annotations={})
    assert small["spec"]["parallelism"] == 3
    large = job_manifest("x", "y", template, blocks["plain"], completions=5000, labels={}, annotations={})
    assert large["spec"]["parallelism"] == 1000


def test_the_next_attempt_differs_by_its_memory_only(blocks: dict[str, Any]) -> None:
    one, two = (pod_template(blocks["all"], Resources(memory=memory), parts()) for memory in (10, 20))
    for template in (one, two):
        for amounts in template["spec"]["containers"][0]["resources"].values():
            amounts["memory"] = "?"
    assert one == two


@pytest.mark.parametrize(
    ("options", "user"), [({}, None), ({"run_as_user": 5}, 5), ({"restricted": False}, 0)], ids=str
)
def test_a_job_is_not_root_unless_it_may(options: dict[str, Any], user: int | None) -> None:
    block = {"image": "a", "spool": {"pvc": "b"}, **options}
    root = PodParts(("x",), HOME, 0, 0)
    if user is None:
        with pytest.raises(SubmissionRefused, match="runs as root") as caught:
            pod_template(block, Resources(), root)
        assert "run_as_user" in str(caught.value.hint)
        return
    spec = pod_template(block, Resources(), root)["spec"]
    assert spec["securityContext"]["runAsUser"] == user
    assert ("runAsNonRoot" in spec["securityContext"]) == ("restricted" not in options)
    assert ("securityContext" in spec["containers"][0]) == ("restricted" not in options)


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("/srv/calib", "/calib"),
        ("/srv/calib/spool/a b", "/calib/spool/a b"),
        ("/srv/calibration/x", "/srv/calibration/x"),
        ("/data/x", "/data/x"),
        ("root://server//srv/calib/x", "root://server//srv/calib/x"),
    ],
)
def test_paths_as_the_pods_have_them(path: str, there: str) -> None:
    assert in_pod(path, {"spool": {"pvc": "b", "mount": "/calib"}}, HOME) == there
    assert in_pod(path, {"spool": {"pvc": "b"}}, HOME) == path


def test_what_people_find_jobs_by() -> None:
    prefix = "airflow-calib-provider/"
    said = {f"{prefix}campaign": "prompt", f"{prefix}workflow": "zee", f"{prefix}group": "run-r1003"}
    key = RoundKey("prompt", "zee", "fit", "run-r1003", 2, 0, 1)
    assert about(key) == {**said, f"{prefix}task": "fit", f"{prefix}generation": "2"}
    assert f"{prefix}task" not in about(replace(key, task="fits+ecal"))
    assert f"{prefix}group" not in about(replace(key, group="g" * 64))


NAMED = st.lists(
    st.fixed_dictionaries({"name": st.sampled_from("abc")}, optional={"x": st.integers() | st.none()}),
    unique_by=lambda item: item["name"],
)
MANIFESTS = st.recursive(
    st.integers() | st.text(max_size=3),
    lambda inner: st.dictionaries(st.sampled_from(["p", "q"]), inner, max_size=2) | st.lists(inner, max_size=2),
    max_leaves=5,
)
TEMPLATES = st.fixed_dictionaries({}, optional={"spec": MANIFESTS, "env": NAMED})


@given(TEMPLATES, TEMPLATES)
def test_a_patch_says_the_last_word_and_takes_nothing_else(template: dict[str, Any], patch: dict[str, Any]) -> None:
    before = repr((template, patch))
    made = patched(template, patch)
    assert repr((template, patch)) == before
    assert patched(made, patch) == made
    assert patched(template, {}) == template
    assert made.keys() == template.keys() | patch.keys()
    names = [item["name"] for item in made.get("env", [])]
    assert sorted(names) == sorted({item["name"] for part in (template, patch) for item in part.get("env", [])})
    for item in made.get("env", []):
        stated = [one for one in patch.get("env", []) if one["name"] == item["name"]]
        if stated and "x" in stated[0]:
            assert item.get("x") == stated[0]["x"]
