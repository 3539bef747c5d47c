"""The page about git: its settings are Airflow's, its hooks run as pre-commit runs them, its job's commands exist."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.providers.git.bundles.git import GitDagBundle

from tests.docs.test_commands_on_pages import wrong

TOP = Path(__file__).parents[2]
PAGE = (TOP / "docs" / "git.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("block", blocks("ini"))
def test_the_settings_make_bundles(block: str) -> None:
    text = block if block.startswith("[") else f"[dag_processor]\n{block}"
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(text)
    stated: list[dict[str, Any]] = json.loads(parser["dag_processor"]["dag_bundle_config_list"])
    assert stated
    for item in stated:
        assert item["classpath"] == f"{GitDagBundle.__module__}.{GitDagBundle.__name__}"
        made = GitDagBundle(name=item["name"], **item["kwargs"])
        assert made.supports_versioning
        assert made.subdir == "dags"


def test_the_commands_of_the_job_exist() -> None:
    (job,) = [found["calib"] for block in blocks("yaml") if "calib" in (found := yaml.safe_load(block))]
    lines = job["script"]
    assert len(lines) == 3
    assert [wrong(line) for line in lines] == [None, None, None]


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=tests", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A repository of specs with the hooks of the page."""
    hooks, specs = tmp_path / "hooks", tmp_path / "specs"
    for folder in (hooks, specs):
        folder.mkdir()
        git(folder, "init", "-q")
    shutil.copy(TOP / ".pre-commit-hooks.yaml", hooks)
    git(hooks, "add", "-A")
    git(hooks, "commit", "-q", "-m", "hooks")
    (config,) = [found for block in blocks("yaml") if "repos" in (found := yaml.safe_load(block))]
    config["repos"][0] |= {"repo": str(hooks), "rev": git(hooks, "rev-parse", "HEAD")}
    (specs / ".pre-commit-config.yaml").write_text(yaml.safe_dump(config))
    shutil.copytree(TOP / "tests" / "integration" / "installation", specs, dirs_exist_ok=True)
    git(specs, "add", "-A")
    return specs


def pre_commit(specs: Path) -> dict[str, str]:
    """What each hook came to; and all that was said."""
    bin_folder = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(specs.parent / "p"),
    }
    environment = {name: value for name, value in environment.items() if not name.startswith(("GIT_", "CALIB_"))}
    command = [f"{bin_folder}/pre-commit", "run", "--all-files", "--color", "never"]
    done = subprocess.run(command, cwd=specs, env=environment, capture_output=True, text=True, check=False)
    found = dict(re.findall(r"^(calib .*?)\.{3,}(Passed|Failed)$", done.stdout, re.M))
    return {**found, "said": done.stdout + done.stderr}


def test_the_hooks_run(specs: Path) -> None:
    found = pre_commit(specs)
    assert found.pop("said")
    assert found == {"calib spec check": "Passed", "calib spec stubs --check": "Passed"}
    toy = specs / "workflow_specs" / "toy.yaml"
    toy.write_text(toy.read_text().replace("jobs:", "jbos:", 1))
    (specs / "dags" / "giver.py").unlink()
    git(specs, "add", "-A")
    found = pre_commit(specs)
    assert "toy.yaml:" in found["said"]
    assert "unknown key 'jbos'" in found["said"]
    assert found["calib spec check"] == "Failed"
    toy.write_text(toy.read_text().replace("jbos:", "jobs:", 1))
    found = pre_commit(specs)
    assert found["calib spec check"] == "Passed"
    assert found["calib spec stubs --check"] == "Failed"
    assert "giver.py: would be written" in found["said"]
