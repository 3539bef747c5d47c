"""The committed dashboards are those of the code, whole, and understood by Grafana's types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import DataTransformerConfig

from airflow_calib_provider.ledger.names import states
from airflow_calib_provider.mirror.schema import MEASUREMENTS
from deploy.grafana import writing
from deploy.grafana.filled import Period, boards, fill, queries, variables
from deploy.grafana.look import STATE_COLOURS
from tests.docs.test_commands_on_pages import wrong
from tests.grafana.points import a_day

TOP = Path(__file__).parents[2]
GRAFANA = TOP / "deploy" / "grafana"
NAMES = ["overview", "workflow", "run", "jobs", "values", "campaigns", "system"]


def panels() -> Iterator[Any]:
    for name, board in boards().items():
        for panel in board["panels"]:
            yield pytest.param(name, panel, id=f"{name}: {panel['title']}")


def test_all_boards_are_there() -> None:
    assert sorted(boards()) == sorted(NAMES)
    assert {board["uid"] for board in boards().values()} == {f"calib-{name}" for name in NAMES}


def test_committed_files_are_those_of_the_code() -> None:
    made = {name: writing.text(board) for name, board in writing.dashboards().items()}
    committed = {file.name: file.read_text(encoding="utf-8") for file in writing.FOLDER.glob("*.json")}
    assert made == committed, "run python -m deploy.grafana"


@pytest.mark.parametrize("name", NAMES)
def test_grafanas_types_know_every_key(name: str) -> None:
    content = (writing.FOLDER / f"{name}.json").read_text(encoding="utf-8")
    assert writing.read_back(content) == json.loads(content)


def test_an_unknown_key_would_be_found() -> None:
    board = boards()["system"]
    board["panels"][0]["options"]["legnd"] = {}
    assert writing.read_back(json.dumps(board)) != board
    board = boards()["system"]
    board["panels"][0]["targets"][0]["qery"] = "x"
    with pytest.raises(ValueError, match="qery"):
        writing.read_back(json.dumps(board))


@pytest.mark.parametrize(("name", "panel"), list(panels()))
def test_every_panel_tells_a_shifter_what_to_do(name: str, panel: dict[str, Any]) -> None:
    assert panel["datasource"] == {"type": "influxdb", "uid": "calib"}
    assert len(panel["description"]) > 80, panel["title"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == panel["datasource"]
        assert target["rawQuery"]
        assert "$timeFilter" in target["query"]
    for command in re.findall(r"`(calib [^`]*)`", panel["description"]):
        # The command itself comes with the mirror.
        assert command.startswith("calib mirror") or wrong(command) is None, command
    # The types keep transformations as they are: read them one by one.
    for step in panel.get("transformations", []):
        assert DataTransformerConfig.from_json(step).to_json() == step


@pytest.mark.parametrize("name", NAMES)
def test_panels_do_not_overlap(name: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    for panel in boards()[name]["panels"]:
        where = panel["gridPos"]
        assert where["x"] + where["w"] <= 24
        for x in range(where["x"], where["x"] + where["w"]):
            for y in range(where["y"], where["y"] + where["h"]):
                assert taken.setdefault((x, y), panel["title"]) == panel["title"]
    ids = [panel["id"] for panel in boards()[name]["panels"]]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", NAMES)
def test_variables_are_declared_before_they_are_used(name: str) -> None:
    board = boards()[name]
    known = {item["name"] for item in board["templating"]["list"]}
    assert {"campaign", "workflow", "airflow_url"} <= known
    text = json.dumps(board["panels"])
    used = set(re.findall(r"\$\{(\w+)[:}]", text)) - {"__data"}
    assert used <= known
    chosen: dict[str, list[str]] = {}
    for variable in variables(board):
        fill(variable["query"], chosen, Period.last(1))  # KeyError: it uses one that comes later
        chosen[variable["name"]] = ["x"]
    for item in queries(name, board, chosen, Period.last(1)):
        assert "$" not in re.sub(r"\$/", "", item.query), item.query


def test_links_lead_to_boards_and_to_airflow() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in writing.FOLDER.glob("*.json"))
    assert {f"calib-{name}" for name in ("run", "workflow")} == set(re.findall(r"/d/(calib-\w+)", text))
    paths = set(re.findall(r"airflow_url:raw\}(/[^\"]+)", text))
    run = "/dags/${__data.fields.workflow}__${__data.fields.grouping}/runs/${campaign:raw}__${__data.fields.group}"
    assert paths == {run, f"{run}/tasks/${{__data.fields.task}}"}


def test_every_state_of_the_ledger_has_a_colour() -> None:
    shown = {*states("group_task"), *states("run_group"), *states("job"), *states("payload"), *states("campaign")}
    assert shown <= STATE_COLOURS.keys()


def test_queries_name_what_the_mirror_writes() -> None:
    named = set()
    for name, board in boards().items():
        for item in queries(name, board, _Anything(), Period.last(1)):
            for measurement in set(re.findall(r'FROM "(\w+)"', item.query)):
                named.add(measurement)
                known = {*MEASUREMENTS[measurement].tags, *MEASUREMENTS[measurement].fields}
                given = set(re.findall(r'AS "(\w+)"', item.query))
                used = set(re.findall(r'"(\w+)"', item.query)) - {measurement} - given
                assert used - known <= {"group"}, (item.title, item.query)
    assert named == set(MEASUREMENTS)


def test_made_points_have_the_mirrors_schema() -> None:
    kinds = {int: r"-?\d+i", float: r"-?[\d.e+-]+", str: r'".*"', bool: "true|false"}
    for line in a_day():
        key, fields, _ = re.split(r"(?<!\\) (?=[^\"]*(?:\"[^\"]*\"[^\"]*)*$)", line)
        measurement = MEASUREMENTS[key.split(",")[0]]
        assert sorted(re.findall(r",(\w+)=", key)) == sorted(measurement.tags), line
        for name, text in re.findall(r"(\w+)=((?:\"[^\"]*\"|[^,])+)", fields):
            assert re.fullmatch(kinds[measurement.fields[name]], text), (line, name)


class _Anything(dict[str, list[str]]):
    def __missing__(self, name: str) -> list[str]:
        return ["x"]


def test_variables_are_quoted_as_grafana_does() -> None:
    query = 'WHERE "lock" =~ /^${lock:regex}$/ AND $timeFilter GROUP BY time($__interval)'
    filled = fill(query, {"lock": ["a/b.c", "d"]}, Period.last(7), "1m")
    assert r"/^(a\/b\.c|d)$/" in filled
    assert "time(3600s)" in filled or "time(10800s)" in filled


def test_provisioning_has_no_secret_and_names_what_is_there() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/influxdb.yaml").read_text())["datasources"]
    assert source["uid"] == "calib"
    for file in [*GRAFANA.glob("provisioning/datasources/*.yaml"), *GRAFANA.glob("variants/*.yaml")]:
        [source] = yaml.safe_load(file.read_text())["datasources"]
        assert (source["type"], source["uid"], source["isDefault"]) == ("influxdb", "calib", True)
        assert source["url"] == "$CALIB_INFLUXDB_URL"
        assert source["jsonData"]["dbName"] == "$CALIB_INFLUXDB_DATABASE"
        assert all(re.fullmatch(r"(Token )?\$CALIB_INFLUXDB_\w+", value) for value in source["secureJsonData"].values())
        assert source.get("basicAuthUser", "$CALIB_INFLUXDB_USER") == "$CALIB_INFLUXDB_USER"
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/calib.yaml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/calib-dashboards"
