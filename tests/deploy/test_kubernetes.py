"""deploy/kubernetes is what a real API server takes, gives the rights that are needed, and its parts agree."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiException

from airflow_calib_provider.backends.kubernetes.rights import RIGHTS
from deploy.compose.connections import connections
from tests.cache import UnavailableError
from tests.cluster.api import Api, Namespace, until
from tests.cluster.building import kubectl
from tests.cluster.jobs import ended, indexed_job

TOP = Path(__file__).parents[2]
FOLDER = TOP / "deploy" / "kubernetes"
VALUES: dict[str, Any] = yaml.safe_load((FOLDER / "airflow.yaml").read_text())
LEDGER, DATABASE = "postgresql+psycopg://calib:one@db/calib", "postgresql+psycopg://airflow:two@db/airflow"
ACCOUNT = "calib-airflow"


class Applied:
    """A namespace in which apply.sh was run.

    Attributes:
        said: what it wrote.
    """

    def __init__(self, namespace: Namespace, folder: Path) -> None:
        self.namespace, self.folder = namespace, folder
        (folder / "ledger").write_text(f"{LEDGER}\n")
        (folder / "airflow").write_text(f"{DATABASE}\n")
        self.said = ""

    def apply(self) -> None:
        places = {"KUBECONFIG": str(self.namespace.api.kubeconfig), "KUBECTL": str(kubectl()), "HOME": str(self.folder)}
        done = subprocess.run(
            [FOLDER / "apply.sh", self.namespace.name, self.folder / "ledger", self.folder / "airflow"],
            env={**os.environ, **places},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        self.said = done.stdout + done.stderr

    def secret(self, name: str) -> dict[str, str]:
        data = self.namespace.get("secrets", name)["data"]
        return {key: base64.b64decode(value).decode() for key, value in data.items()}


@pytest.fixture(scope="module")
def applied(cluster: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Applied]:
    """Once for all tests here."""
    try:
        kubectl()
    except UnavailableError as error:
        pytest.skip(str(error))
    with cluster.namespace() as namespace:
        made = Applied(namespace, tmp_path_factory.mktemp("addresses"))
        made.apply()
        yield made


def test_everything_is_there(applied: Applied) -> None:
    namespace = applied.namespace
    for manifest in (one for file in FOLDER.glob("*.yaml") if file.name != "airflow.yaml" for one in manifests(file)):
        assert namespace.api.call("GET", where(namespace, manifest))["metadata"]["name"] == manifest["metadata"]["name"]
    labels = namespace.api.call("GET", f"/api/v1/namespaces/{namespace.name}")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/warn"] == "restricted"


def test_no_pod_needs_more_than_restricted_pods_may(applied: Applied) -> None:
    assert "Warning" not in applied.said
    loose = {"metadata": {"name": "loose"}, "spec": {"containers": [{"name": "a", "image": "a", "command": ["a"]}]}}
    said = subprocess.run(
        [kubectl(), "--namespace", applied.namespace.name, "create", "--dry-run=server", "--filename", "-"],
        input=json.dumps({"apiVersion": "v1", "kind": "Pod", **loose}),
        env={**os.environ, "KUBECONFIG": str(applied.namespace.api.kubeconfig)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Warning: would violate PodSecurity" in said.stderr  # so that is how it would be said


def test_pods_of_the_servers_are_made_and_lack_nothing_but_disks(applied: Applied) -> None:
    """Volumes are the cluster's own to provide; all else that the pods name is there."""
    pods = until(lambda: len(found := applied.namespace.list("pods")) == 2 and found)
    claims = {one["metadata"]["name"] for one in applied.namespace.list("persistentvolumeclaims")}
    assert claims == {"calib-home", "calib-grafana", "data-calib-influxdb-0"}
    for volume in (volume for pod in pods for volume in pod["spec"]["volumes"]):
        for resource, source, name in (("configmaps", "configMap", "name"), ("secrets", "secret", "secretName")):
            if source in volume:
                assert applied.namespace.get(resource, volume[source][name])["data"]


def test_a_second_time_changes_no_secret(applied: Applied) -> None:
    names = ("calib-airflow", "calib-grafana", "calib-influxdb")
    before = {name: applied.secret(name) for name in names}
    applied.apply()
    assert {name: applied.secret(name) for name in names} == before
    for values in before.values():
        for value in values.values():
            assert value not in applied.said


def test_secrets_agree(applied: Applied) -> None:
    airflow, grafana, influxdb = (applied.secret(f"calib-{name}") for name in ("airflow", "grafana", "influxdb"))
    assert (airflow["ledger"], airflow["connection"]) == (LEDGER, DATABASE)
    assert len(base64.urlsafe_b64decode(airflow["fernet-key"])) == 32
    assert grafana["influxdb"] == influxdb["grafana"]
    made = json.loads(airflow["influxdb"])
    [wanted] = connections(influxdb["mirror"]).values()
    assert made == wanted | {"host": "http://calib-influxdb:8086"}
    drawn = [airflow["api-secret-key"], airflow["jwt-secret"], grafana["admin"], *influxdb.values()]
    assert len(set(drawn)) == len(drawn)
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in drawn)


def test_how_it_is_called(tmp_path: Path) -> None:
    done = subprocess.run([FOLDER / "apply.sh"], capture_output=True, text=True)
    assert (done.returncode, done.stderr.startswith("usage: ")) == (2, True)


# --- Rights


def test_airflow_may_do_this_and_no_more(applied: Applied) -> None:
    mine = Api(applied.namespace.account(ACCOUNT))
    asked = {"kind": "SelfSubjectRulesReview", "spec": {"namespace": applied.namespace.name}}
    rules = mine.call("POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", asked)["status"]["resourceRules"]
    found = {
        resource: set(rule["verbs"])
        for rule in rules
        for resource in rule["resources"]
        if not rule["apiGroups"][0].endswith(".k8s.io")  # what everybody may ask about himself
    }
    wanted = {one.resource: {other.verb for other in RIGHTS if other.resource == one.resource} for one in RIGHTS}
    assert found == wanted
    with pytest.raises(ApiException, match="cannot get resource"):
        Namespace(mine, applied.namespace.name).get("secrets", "calib-airflow")


def test_that_is_enough_for_a_job(namespace: Namespace) -> None:
    mine = Namespace(Api(namespace.airflow()), namespace.name)
    mine.create("jobs", indexed_job("one", "echo said", 1))
    assert ended(mine, "one")["succeeded"] == 1
    [pod] = mine.list("pods", labelSelector="test=one")
    assert mine.log(pod["metadata"]["name"]) == "said\n"
    mine.delete("jobs", "one")
    until(lambda: mine.list("pods") == [])


# --- The chart's values: what they name is there


def test_the_values_name_what_is_there(applied: Applied) -> None:
    airflow = applied.secret("calib-airflow")
    chart = {
        "fernetKeySecretName": "fernet-key",
        "apiSecretKeySecretName": "api-secret-key",
        "jwtSecretName": "jwt-secret",
    }
    for option, key in chart.items():
        assert VALUES[option] == "calib-airflow"
        assert airflow[key]
    assert VALUES["data"]["metadataSecretName"] == "calib-airflow"
    assert airflow["connection"]
    for secret in VALUES["secret"]:
        assert applied.secret(secret["secretName"])[secret["secretKey"]]
    for volume in VALUES["volumes"]:
        assert applied.namespace.get("persistentvolumeclaims", volume["persistentVolumeClaim"]["claimName"])
    for component in ("scheduler", "triggerer", "workers"):
        account = VALUES[component]["serviceAccount"]
        assert account["create"] is False
        assert applied.namespace.get("serviceaccounts", account["name"])


def test_pods_with_the_values_are_restricted(applied: Applied) -> None:
    """A pod as the chart makes it of these values passes where Pod Security is strictest."""
    environment = [
        *VALUES["env"],
        *(
            {
                "name": one["envName"],
                "valueFrom": {"secretKeyRef": {"name": one["secretName"], "key": one["secretKey"]}},
            }
            for one in VALUES["secret"]
        ),
    ]
    container = {"name": "airflow", "image": "a:1", "env": environment, "volumeMounts": VALUES["volumeMounts"]}
    container["securityContext"] = VALUES["securityContexts"]["container"]
    spec = {
        "containers": [container],
        "volumes": VALUES["volumes"],
        "securityContext": VALUES["securityContexts"]["pod"],
    }
    spec["serviceAccountName"] = "default"
    with applied.namespace.api.namespace("restricted") as strict:
        path = strict.path("pods")
        assert strict.api.call("POST", path, {"metadata": {"name": "one"}, "spec": spec}, dryRun="All")
        del container["securityContext"]
        with pytest.raises(ApiException, match="violates PodSecurity"):
            strict.api.call("POST", path, {"metadata": {"name": "one"}, "spec": spec}, dryRun="All")


def test_versions_are_the_same_everywhere() -> None:
    compose = yaml.safe_load((TOP / "docker-compose.yaml").read_text())["services"]
    for name in ("influxdb", "grafana"):
        [image] = re.findall(r"image: (\S+)", (FOLDER / f"{name}.yaml").read_text())
        assert image == compose[name]["image"]
    own = compose["scheduler"]["image"]
    assert f"FROM {own}\n" in (FOLDER / "Dockerfile").read_text()
    assert VALUES["airflowVersion"] == VALUES["images"]["airflow"]["tag"] == own.partition(":")[2]


def test_airflows_options_exist() -> None:
    from airflow.configuration import conf

    options = [tuple(one["name"].split("__")[1:]) for one in VALUES["env"] if one["name"].startswith("AIRFLOW__")]
    options += [(section, name) for section, names in VALUES["config"].items() for name in names]
    for section, name in options:
        assert conf.has_option(section.lower(), name.lower()), (section, name)
    [connection] = [one["value"] for one in VALUES["env"] if one["name"].startswith("AIRFLOW_CONN_")]
    assert json.loads(connection) == {"conn_type": "kubernetes", "extra": {"in_cluster": True}}


def test_the_script_may_be_run_and_the_image_gets_its_files() -> None:
    assert (FOLDER / "apply.sh").stat().st_mode & stat.S_IXUSR
    sent = {line[1:] for line in (FOLDER / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {line.split()[2] for line in (FOLDER / "Dockerfile").read_text().splitlines() if line.startswith("COPY")}
    assert sent == copied
    assert all((TOP / name).is_dir() for name in copied)


def manifests(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def where(namespace: Namespace, manifest: dict[str, Any]) -> str:
    """The path of an object."""
    version = manifest["apiVersion"]
    group = f"/apis/{version}" if "/" in version else f"/api/{version}"
    return f"{group}/namespaces/{namespace.name}/{manifest['kind'].lower()}s/{manifest['metadata']['name']}"
