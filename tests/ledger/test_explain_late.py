"""Late runs and amended groups say why they are as they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_calib_provider.api import amend_group
from airflow_calib_provider.ledger.explain import Explanation
from tests.cli.world import World, late_fill
from tests.ledger.test_explain import ask, world  # noqa: F401 - world is a fixture


def late_group(at: World) -> Explanation:
    late_fill(at)
    return ask(at, "fill-r3")


def amended(at: World) -> Explanation:
    late_fill(at)
    at.do("run-r2", "skim")
    at.do("fill-r2", "scale")
    amend_group(at.ledger, "fill-r2", add=[3], reason="late", person="ada")
    return ask(at, "fill-r2")


def removed(at: World) -> Explanation:
    amended(at)
    amend_group(at.ledger, "fill-r2", remove=[3], reason="noise", person="ada")
    return ask(at, 3)


def absorbed(at: World) -> Explanation:
    amended(at)
    return ask(at, "fill-r3")


CASES: list[tuple[Callable[[World], Explanation], str, str]] = [
    (late_group, "late_group", "what it publishes stays a candidate"),
    (late_group, "candidate", "made Scale revision 1 for run 3, which stays a candidate"),
    (amended, "amended", "edition 2, by ada: added 3 (late)"),
    (amended, "stale", "edition 2 is to be processed"),
    (removed, "removed", "removed from fill-r2 by ada (edition 3): noise"),
    (absorbed, "absorbed", "its runs are in fill-r2 since edition 2"),
]


@pytest.mark.parametrize(("build", "code", "text"), CASES, ids=[f"{case[0].__name__}-{case[1]}" for case in CASES])
def test_late_cause(world: World, build: Callable[[World], Explanation], code: str, text: str) -> None:  # noqa: F811
    found = {cause.code: cause for cause in build(world).causes}
    assert code in found, [cause.text for cause in found.values()]
    assert text in found[code].text
    assert found[code].since is not None
    assert found[code].release
