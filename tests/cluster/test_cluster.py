"""The cluster for tests does what tests rely on."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from kubernetes.client import ApiException

from tests.cache import UnavailableError, kept, kept_folder
from tests.cluster import building
from tests.cluster.__main__ import main
from tests.cluster.api import CORE, Api, Namespace, until
from tests.cluster.images import PLAIN
from tests.cluster.jobs import ended, indexed_job
from tests.golang import GO, GoBuild, compiler

READER = {"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]}
BOUND = {
    "metadata": {"name": "reader"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "reader"},
    "subjects": [{"kind": "ServiceAccount", "name": "default"}],
}


def test_a_job_runs_and_leaves_its_files(namespace: Namespace, tmp_path: Path) -> None:
    script = (
        'echo "said by $JOB_COMPLETION_INDEX"; echo x > /spool/$JOB_COMPLETION_INDEX; test $JOB_COMPLETION_INDEX != 2'
    )
    namespace.create("jobs", indexed_job("one", script, 4, claim=namespace.claim(tmp_path)))
    status = ended(namespace, "one")
    assert (status["completedIndexes"], status["failedIndexes"]) == ("0,1,3", "2")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0", "1", "2", "3"]
    for pod in namespace.list("pods"):
        assert namespace.log(pod["metadata"]["name"]).startswith("said by ")


def test_each_test_has_a_namespace_of_its_own(namespace: Namespace, cluster: Api) -> None:
    assert namespace.list("jobs") == []
    with cluster.namespace() as other:
        assert other.name != namespace.name
        other.claim(Path("/tmp"))
    until(lambda: other.name not in str(cluster.items(f"{CORE}/persistentvolumes")))
    assert namespace.list("serviceaccounts")


def allowed(mine: Namespace, resource: str) -> bool:
    try:
        mine.list(resource)
    except ApiException:
        return False
    return True


def test_an_account_may_do_what_its_role_says(namespace: Namespace) -> None:
    mine = Namespace(Api(namespace.account()), namespace.name)
    with pytest.raises(ApiException, match="cannot list resource"):
        mine.list("pods")
    namespace.create("roles", READER)
    namespace.create("rolebindings", BOUND)
    until(lambda: allowed(mine, "pods"), what="the right")  # the API server learns of it by its own watch
    assert mine.list("pods") == []
    with pytest.raises(ApiException, match="cannot list resource"):
        mine.list("jobs")


def test_a_wrong_token_does_not_come_in(namespace: Namespace, tmp_path: Path) -> None:
    settings = json.loads(namespace.account().read_text())
    settings["users"][0]["user"]["token"] += "a"
    (tmp_path / "wrong").write_text(json.dumps(settings))
    with pytest.raises(ApiException, match="Unauthorized"):
        Api(tmp_path / "wrong").items(f"{CORE}/namespaces")


def test_pod_security_is_on(cluster: Api) -> None:
    with cluster.namespace("restricted") as strict:
        strict.create("jobs", indexed_job("loose", "true", 1))
        [refused] = until(lambda: [one for one in strict.events() if one.startswith("FailedCreate")][:1])
        assert "violates PodSecurity" in refused
        assert strict.list("pods") == []


def test_an_image_without_a_shell(namespace: Namespace, tmp_path: Path) -> None:
    claim = namespace.claim(tmp_path)
    for name, command in (("plain", ["/plain", "/spool/out", "0", "$(A)"]), ("shell", ["sh", "-c", "true"])):
        job = indexed_job(name, "", 1, claim=claim)
        [container] = job["spec"]["template"]["spec"]["containers"]
        container |= {"image": PLAIN, "command": command, "env": [{"name": "A", "value": 'it\'s "so"'}]}
        namespace.create("jobs", job)
    assert ended(namespace, "plain")["succeeded"] == 1
    assert (tmp_path / "out").read_text() == 'it\'s "so"\n'
    assert ended(namespace, "shell")["failed"] == 1
    [pod] = namespace.list("pods", labelSelector="test=shell")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"] == "StartError"


# --- What it is made of


@pytest.mark.long  # the build of the tests' cluster does this on a machine that has none
def test_the_runtime_of_a_machine_that_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path))
    try:
        plugins, environment = building.runtime(installed=False)
    except UnavailableError as error:
        pytest.skip(str(error))
    found = building.Programs(tmp_path, plugins, environment)
    assert (plugins / "bridge").exists()
    for name in building.RUNTIME:
        assert found.find(name).startswith(str(tmp_path))


@pytest.mark.long
def test_the_compiler_of_a_machine_that_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is kept in the cache as what it builds."""
    with monkeypatch.context() as without:
        without.setenv("PATH", str(tmp_path))
        try:
            found = compiler()
        except UnavailableError as error:
            pytest.skip(str(error))
    (tmp_path / "go.mod").write_text(f"module calib.test/hello\n\ngo {GO}\n")
    (tmp_path / "main.go").write_text('package main\n\nfunc main() { println("hello") }\n')
    GoBuild("a program", tmp_path / "log", found).go(tmp_path, "build", "-o", "hello", ".")
    assert subprocess.run([tmp_path / "hello"], capture_output=True, text=True).stderr == "hello\n"


def test_a_build_that_fails_says_where_its_log_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path))
    monkeypatch.setenv("GOPROXY", "off")
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    with pytest.raises(UnavailableError, match=r"cannot build Kubernetes [\d.]+ \(log: .*\): .+") as caught:
        kept(building.NAME, building.recipe(), building._build)
    assert "\n" not in str(caught.value)
    assert not kept_folder(building.NAME, building.recipe()).exists()


def test_it_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match=r"a Kubernetes cluster for the tests needs (root|mount, nice)"):
        building.programs()


def test_options_of_kubectl_are_kubectls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALIB_CI_CACHE", str(tmp_path))
    assert main(["kubectl", "-n", "calib", "get", "jobs"]) == 1
    assert "no cluster runs; start one with: python -m tests.cluster up" in capsys.readouterr().err
