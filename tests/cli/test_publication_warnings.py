"""``calib spec check`` says what of a publication can be meant and does nothing."""

from __future__ import annotations

import re

import pytest

from airflow_calib_provider.outside.conditions_butler import ButlerStore
from tests.cli.conftest import Calib
from tests.cli.world import World

PUBLISHED = 'publish: {tag: Scale, file: "{{ tasks.scale.products.constants }}", iov: group'


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("approve: {by: [ada], four_eyes: true}", "four_eyes with 'ada' alone: nobody can approve"),
        ("approve: {by: some, four_eyes: true}", "four_eyes with 'bob' alone: nobody can approve"),
        ("approve: {by: [ada, ada]}", "'ada' is there twice"),
        ("stores: []", "stores is empty: nothing but the embedded store gets it"),
        ("approve: {by: [ada, bob], four_eyes: true}", ""),
    ],
)
def test_what_has_no_effect(world: World, calib: Calib, more: str, said: str) -> None:
    world.runs()
    file, sources = world.specs / "demo.yaml", world.specs / "sources.yaml"
    sources.write_text(sources.read_text() + "approvers: {some: [bob]}\n")
    assert PUBLISHED in file.read_text()
    file.write_text(file.read_text().replace(PUBLISHED, f"{PUBLISHED}, {more}"))
    result = calib("spec", "check")
    assert result.exit_code == 0, result.stderr
    lines = [line for line in result.stderr.splitlines() if "demo.yaml:" in line and "program" not in line]
    assert [said in line for line in lines] == [True] * bool(said)


STORES = "stores: [{store: butler, connection: rubin, collection: c}]"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f"{STORES}, gaps: refuse", ":gaps: runs between two groups that runs.where does not select are a gap"),
        (f"{STORES}, gaps: refuse, after: hold", ""),
        (f"{STORES}, after: default, default: /nowhere/d.json", ":default: the default /nowhere/d.json does not exist"),
        (f'{STORES}, after: default, default: "{{{{ spec.folder }}}}/sources.yaml"', ""),
        (f"{STORES}, after: default, default: d.json", ":default: the default d.json is not looked for beside this"),
        (f'{STORES}, after: default, default: "{{{{ tasks.scale.products.constants }}}}"', ""),
        (STORES, ""),
    ],
)
def test_what_stores_will_refuse(world: World, calib: Calib, more: str, said: str) -> None:
    world.runs()
    file = world.specs / "demo.yaml"
    file.write_text(file.read_text().replace(PUBLISHED, f"{PUBLISHED}, {more}"))
    result = calib("spec", "check")
    assert result.exit_code == 0, result.stderr
    key, _, words = said.removeprefix(":").partition(": ")
    lines = [line for line in result.stderr.splitlines() if "demo.yaml:" in line and "program" not in line]
    assert [words in line for line in lines] == [True] * bool(said), lines
    if said:
        number, column = map(int, lines[0].partition("demo.yaml:")[2].split(":")[:2])
        assert file.read_text().splitlines()[number - 1][: column - 1].endswith(f"{key}: ")


def test_runs_that_no_store_can_hold_and_groups_that_leave_gaps(world: World, calib: Calib) -> None:
    world.runs()
    file = world.specs / "demo.yaml"
    text = file.read_text().replace(PUBLISHED, f"{PUBLISHED}, {STORES}, gaps: refuse")
    most = ButlerStore.last_run
    since = re.sub(r"since: \d+", f"since: {most + 1}", text)
    assert since != text
    file.write_text(since)
    assert (
        f"all runs from runs.since on, {most + 1:,}, are beyond what butler can hold" in calib("spec", "check").stderr
    )
    dropped = re.sub(r"where: [^,}\n]*, *", "", text)
    assert "short: drop" in dropped
    file.write_text(dropped)
    assert "a group that is dropped (short: drop) leaves a gap" in calib("spec", "check").stderr
    given = re.sub(r"group_by: \{fill[^\n]*", f"group_by: {{boundaries: {{first_runs: [1, {most + 5}]}}}}", text)
    assert given != text
    file.write_text(given)
    assert f"a group from run {most + 5:,} on is beyond what butler can hold" in calib("spec", "check").stderr


def test_a_verdict_that_decides_nothing(world: World, calib: Calib) -> None:
    world.runs()
    file = world.specs / "demo.yaml"
    products = "    products: {constants: "
    assert file.read_text().count(products) == 1
    file.write_text(file.read_text().replace(products, f"    verdict: {{jump: {{below: 1}}}}\n{products}"))
    said = "no publication is validated by 'scale': its verdict decides nothing"
    assert said in calib("spec", "check").stderr
    file.write_text(file.read_text().replace(PUBLISHED, f"{PUBLISHED}, validated_by: scale"))
    assert said not in calib("spec", "check").stderr


def test_a_list_that_nobody_is_in_is_told_once_where_it_stands(world: World, calib: Calib) -> None:
    world.runs()
    file, sources = world.specs / "demo.yaml", world.specs / "sources.yaml"
    sources.write_text(sources.read_text() + "approvers: {some: []}\n")
    file.write_text(file.read_text().replace(PUBLISHED, f"{PUBLISHED}, approve: {{by: some}}"))
    result = calib("spec", "check")
    assert result.exit_code == 2
    assert result.stderr.count("some") == 1
    assert "sources.yaml:6:19: nobody is in the list 'some'; expected at least one user id" in result.stderr
