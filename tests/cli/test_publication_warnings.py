"""``calib spec check`` says what of a publication can be meant and does nothing."""

from __future__ import annotations

import pytest

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
