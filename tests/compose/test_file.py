"""docker-compose.yaml is what the compose specification allows, and agrees with the files that it names."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cache import UnavailableError
from tests.compose.loader import load, program

TOP = Path(__file__).parents[2]
FILE = TOP / "docker-compose.yaml"
COMPOSE = TOP / "deploy" / "compose"
ONCE = {"secrets", "init"}
PUBLISHED = {"api-server": "8080", "grafana": "3000"}
AS_ROOT = {"secrets", "condor"}
IMAGES = {
    "calib-airflow": "3.3.2",
    "postgres": "17.6",
    "influxdb": "2.7.12",
    "grafana/grafana": "12.4.0",
    "htcondor/mini": "25.0.11-el9",
}


@pytest.fixture(scope="module", params=[pytest.param("", marks=pytest.mark.timeout(1500))])
def project() -> dict[str, Any]:
    """The project as `docker compose` would see it."""
    try:
        program()
    except UnavailableError as error:
        pytest.skip(str(error))
    return load(FILE)


def services() -> dict[str, dict[str, Any]]:
    return yaml.safe_load(FILE.read_text())["services"]  # merge keys are resolved


def test_specification_allows_it(project: dict[str, Any], tmp_path: Path) -> None:
    assert set(project["services"]) == set(services())
    wrong = tmp_path / "docker-compose.yaml"
    wrong.write_text(FILE.read_text().replace("start_period: 30s", "start_perod: 30s"))
    with pytest.raises(ValueError, match="start_perod"):
        load(wrong)


def test_ports_can_be_chosen(project: dict[str, Any]) -> None:
    loaded = load(FILE, AIRFLOW_PORT="18080", GRAFANA_PORT="13000")["services"]
    assert loaded["api-server"]["ports"][0]["published"] == "18080"
    assert loaded["scheduler"]["environment"]["AIRFLOW__API__BASE_URL"] == "http://localhost:18080"
    assert loaded["grafana"]["ports"][0]["published"] == "13000"


def test_only_two_are_published_and_on_this_machine() -> None:
    found = {name: service["ports"] for name, service in services().items() if "ports" in service}
    assert found.keys() == PUBLISHED.keys()
    for name, ports in found.items():
        assert [re.fullmatch(r"127\.0\.0\.1:\$\{\w+:-(\d+)\}:(\d+)", port).groups() for port in ports] == [
            (PUBLISHED[name], PUBLISHED[name])
        ]


def test_images_are_pinned() -> None:
    found = dict(service["image"].split(":") for service in services().values())
    assert found == IMAGES
    constraint = re.search(r"^apache-airflow==(.*)$", (TOP / "constraints.txt").read_text(), re.M)
    assert constraint
    assert found["calib-airflow"] == constraint[1]
    assert f"FROM apache/airflow:{constraint[1]}\n" in (COMPOSE / "Dockerfile").read_text()


def test_users_are_not_root() -> None:
    users = {name: service["user"].split(":")[0] for name, service in services().items()}
    assert {name for name, user in users.items() if user == "0"} == AS_ROOT
    for name, service in services().items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert service.get("cap_drop") == ["ALL"] or name == "condor", name
        assert not service.get("privileged"), name


def test_every_server_is_watched_and_started_again() -> None:
    for name, service in services().items():
        assert service["restart"] == ("no" if name in ONCE else "unless-stopped"), name
        assert ("healthcheck" in service) == (name not in ONCE), name
        assert name == "init" or name == "secrets" or "memory" in service["deploy"]["resources"]["limits"], name
        for other, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert condition["condition"] in (wanted, "service_started"), (name, other)
        assert name == "secrets" or service["depends_on"], name


def test_every_file_exists() -> None:
    for name, service in services().items():
        for volume in service["volumes"]:
            source, _, rest = volume.partition(":")
            if source.startswith("."):
                assert (TOP / source).exists(), (name, source)
                assert rest.endswith(":ro"), (name, volume)
        if "build" in service:
            assert (TOP / service["build"]["dockerfile"]).is_file()
    for line in (COMPOSE / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY"):
            for source in line.split()[2:-1]:
                assert list(TOP.glob(source)), line
                assert any(Path(source).is_relative_to(kept) for kept in _sent()), (
                    f"{source} is not sent to the builder"
                )
    for script in COMPOSE.rglob("*.sh"):
        assert script.stat().st_mode & stat.S_IXUSR, script
    for script in re.findall(r"/opt/calib/compose/([\w.]+)", FILE.read_text()):
        assert (COMPOSE / script).is_file()


def _sent() -> list[str]:
    lines = (TOP / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def test_volumes_are_those_that_are_used() -> None:
    declared = set(yaml.safe_load(FILE.read_text())["volumes"])
    used = {volume.partition(":")[0] for service in services().values() for volume in service["volumes"]}
    assert {name for name in used if not name.startswith(".")} == declared


def test_each_secret_is_seen_by_those_who_need_it_alone() -> None:
    seen: dict[str, set[str]] = {}
    for name, service in services().items():
        for volume in service["volumes"]:
            if volume.startswith("secrets-") and name != "secrets":
                seen.setdefault(volume.partition(":")[0], set()).add(name)
                read_only = volume.endswith(":ro")
                assert read_only or (name, volume.split(":")[0]) in {
                    ("api-server", "secrets-api"),
                    ("condor", "secrets-condor"),
                }
    airflow = {"init", "api-server", "scheduler", "triggerer", "dag-processor"}
    assert seen == {
        "secrets-airflow": airflow,
        "secrets-api": {"api-server"},
        "secrets-condor": airflow | {"condor"},
        "secrets-grafana": {"grafana"},
        "secrets-influxdb": {"influxdb"},
        "secrets-postgres": {"postgres"},
    }


def environment() -> Iterator[tuple[str, str, str]]:
    for name, service in services().items():
        for variable, value in service.get("environment", {}).items():
            yield name, variable, str(value)


def test_no_secret_in_any_file() -> None:
    for name, variable, value in environment():
        if re.search(r"PASSWORD|TOKEN|SECRET|KEY", variable):
            assert re.fullmatch(r"/run/calib/\S+|cat /run/calib/\S+", value), (name, variable)
        assert not re.search(r"://[^/\s]*:[^/\s@]+@", value), (name, variable)
    for file in [FILE, *COMPOSE.rglob("*.*")]:
        if file.suffix not in (".pyc",):
            text = file.read_text()
            assert not re.search(
                r"(?i)(password|token|secret)\s*[=:]\s*['\"]?[A-Za-z0-9+/_-]{12,}['\"]?\s*$", text, re.M
            )


def test_every_service_and_variable_is_described() -> None:
    page = (TOP / "docs" / "compose.md").read_text()
    for name in services():
        assert f"`{name}`" in page, name
    chosen = set(re.findall(r"\$\{(\w+)", FILE.read_text()))
    assert chosen == {"AIRFLOW_PORT", "GRAFANA_PORT"}
    for variable in chosen | {"CALIB_HOME", "CALIB_LEDGER", "PGPASSFILE"}:
        assert f"`{variable}`" in page, variable
    for image, tag in IMAGES.items():
        assert image == "calib-airflow" or f"`{image}:{tag}`" in page
    for variable in {variable for _, variable, _ in environment() if variable.startswith("CALIB_")}:
        assert f"`{variable}`" in page, variable


def test_what_airflow_is_told_exists_in_airflow() -> None:
    from airflow.configuration import conf

    known = conf.configuration_description
    for _, variable, _ in environment():
        if match := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+?)(_CMD)?", variable):
            section, option, command = match[1].lower(), match[2].lower(), match[3]
            options = known[section]["options"]
            assert option in options or option == "sql_alchemy_conn_async", variable
            if command:
                assert (section, option) in conf.sensitive_config_values, variable
