"""Reading by models: what could be read is there beside what is wrong, places, blocks of members, bounded work."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic_core import PydanticCustomError, ValidationError

from airflow_calib_provider.domain.keys import BLOCKS, Blocks, Either, Keys, NotEmpty, Where, Words, data_of, keys_of
from airflow_calib_provider.domain.scalars import WHAT, Duration, Name, Text, mistake, whole
from airflow_calib_provider.kinds import Kinds
from airflow_calib_provider.spec.positions import parse_document
from airflow_calib_provider.spec.problems import MAX_SHOWN, Problems
from airflow_calib_provider.spec.workflow_file import Sources, read_workflow
from airflow_calib_provider.spec.written import Read, read_keys

Few = Annotated[int, whole(1, 9)]


class Leaf(Keys):
    low: Few | None = None
    high: Annotated[Few | None, Words(missing="the upper end")] = None

    def check(self) -> Iterator[tuple[Where, PydanticCustomError]]:
        if self.low and self.high and self.low > self.high:
            yield ("low",), mistake(f"{WHAT} is above high", "low ≤ high")


class ToyKeys(Keys):
    """As another package would write it, with Python's own types."""

    queue: str
    cores: Annotated[int, Field(ge=1)] = 1
    mode: Literal["fast", "slow"] = "slow"
    tags: tuple[str, ...] = ()


class Toy:
    keys = ToyKeys


TOYS = Kinds("toy", "toys_of_this_test", {"toy": "nowhere:TOY"})
TOYS._loaded["toy"] = Toy


class Tree(Keys):
    leaf: Leaf | None = None
    leaves: Annotated[dict[Name, Leaf], Words(entry="the leaf {key!r}", key="the leaf"), Field(default_factory=dict)]
    words: Annotated[tuple[Text, ...], NotEmpty("at least one word")] = ()
    wait: Duration | None = None
    either: Annotated[str | tuple[str, ...] | None, Either(scalar=Text, sequence=tuple[Text, ...])] = None
    blocks: Annotated[dict[str, Keys], Blocks(TOYS), Field(default_factory=dict, alias=BLOCKS)]


def read(text: str) -> tuple[Read[Tree], list[str]]:
    document = parse_document(text, Path("f.yaml"))
    problems = Problems(document)
    found = read_keys(Tree, document.root, "the tree", problems)
    return found, [str(error).removeprefix("f.yaml:") for error in problems.sorted()]


def test_what_is_right_is_read() -> None:
    found, said = read("leaf: {low: 1, high: 2}\nleaves: {a: {high: 3}}\nwait: 10m\neither: [x, y]\ntoy: {queue: q}\n")
    assert said == []
    assert found.keys is not None
    assert (found.keys.leaf, found.keys.leaves) == (Leaf.unstated(low=1, high=2), {"a": Leaf.unstated(high=3)})
    assert found.keys.either == ("x", "y")
    assert found.keys.blocks["toy"].model_dump() == {"queue": "q", "cores": 1, "mode": "slow", "tags": ()}
    assert keys_of(Tree) == ("leaf", "leaves", "words", "wait", "either", "toy")


def test_everything_wrong_is_told_in_the_order_of_the_file_and_the_rest_is_read() -> None:
    found, said = read(
        "leaf: {low: 5, high: 0}\n"
        "leaves: {a: {low: 4, high: 3}, b-c: {high: 1}, d: {lwo: 1}, e: {high: 7}}\n"
        "words: [x, 5, y]\n"
        "wait: 10\n"
        "either: {a: b}\n"
        "toy: {queue: 5, cores: 0, mode: fats, colour: red, tags: [a]}\n"
    )
    assert said == [
        "1:22: high is 0; expected a whole number from 1 to 9",
        "2:19: low is above high; expected low ≤ high",
        "2:32: the leaf 'b-c' is not a name; expected letters, digits and '_', starting with a letter, at most 60; "
        "for example 'b_c'",
        "2:51: the key 'high' is missing in the leaf 'd'; expected the upper end",
        "2:52: unknown key 'lwo' in the leaf 'd'; expected one of low, high; did you mean 'low'?",
        '3:12: an element of words is 5, which YAML reads as a number; expected text; put it into quotes: "5"',
        "4:7: wait is a number without a unit; expected a duration such as 30s, 10m, 36h, 2d or 1h30m",
        "5:9: either is a mapping; expected text",
        "6:14: queue is 5, which YAML reads as a number; expected a valid string",
        "6:24: cores is 0, which YAML reads as a number; expected greater than or equal to 1",
        "6:33: mode is 'fats'; expected 'fast' or 'slow'",
        "6:39: unknown key 'colour' in the tree.toy; expected one of queue, cores, mode, tags",
    ]
    assert found.keys is not None
    assert found.keys.leaf == Leaf.unstated(low=5)
    assert (found.keys.leaf.has("high"), found.keys.leaf.high) == (True, None)
    assert list(found.keys.leaves) == ["a", "d", "e"]
    assert found.keys.words == ("x", "y")
    assert (found.is_wrong("words"), found.is_wrong("words", 1), found.is_wrong("leaves", "e")) == (True, True, False)
    assert found.at("words", 1).position.line == 3


@pytest.mark.parametrize(
    "text", ["[]", "5", "{{ x }}", '"\\0blocks": {a: 1}', "leaf: 1\nleaves: []\nwords: {}\ntoy: []"]
)
def test_nothing_at_all_is_told_too(text: str) -> None:
    assert read(text)[1]


def test_a_model_can_be_used_alone() -> None:
    with pytest.raises(ValidationError, match="above high"):
        Leaf.model_validate(data_of(parse_document("{low: 3, high: 2}", Path()).root))


def many(n: int) -> dict[str, str]:
    top = "apiVersion: calib/v1\nworkflow: w\nruns: {source: d}\n"
    tasks = (f"  t{i}: {{group_by: run, jobs: {{comand{i}: x, command: [x], retrys: 4}}}}\n" for i in range(n))
    block = ", ".join(f"uni{i}: x" for i in range(n))
    jobs = f"{{command: [x], environment: {{{block}}}, keys: {{{block}}}}}"
    return {
        "in many places": f"{top}tasks:\n{''.join(tasks)}",
        "in one place": top + "".join(f"key{i}: 3\n" for i in range(n)),
        "in a block": f"{top}tasks:\n  t:\n    jobs: {jobs}\n",
        "values": f"{top}tasks:\n  t:\n    needs: [{', '.join('5' for _ in range(n))}]\n",
    }


@pytest.mark.parametrize("where", many(0))
def test_unknown_keys_in_thousands_of_places_take_time_that_grows_with_their_number(where: str) -> None:
    def took(n: int) -> float:
        document = parse_document(many(n)[where], Path("f.yaml"))
        started = time.process_time()
        errors = read_workflow(document, Sources(None), deep=True).errors
        assert 0 < len(errors) <= MAX_SHOWN + 1
        return time.process_time() - started

    took(10)
    few, lots = min(took(500) for _ in range(2)), took(3000)
    assert lots < max(20 * few, 1.0), (few, lots)


def test_the_first_of_very_many_mistakes_are_those_that_are_told() -> None:
    document = parse_document(many(3000)["in many places"], Path("f.yaml"))
    errors = read_workflow(document, Sources(None), deep=True).errors
    assert [error.line for error in errors[:MAX_SHOWN]] == sorted(error.line for error in errors[:MAX_SHOWN])
    assert errors[0].line == 5
    assert errors[MAX_SHOWN - 1].line < 5 + MAX_SHOWN
