"""Templates: types, arguments, limits."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.templates import (
    render_command,
    render_text,
    render_value,
    split_command,
    variables_of,
)

VARIABLES: dict[str, Any] = {
    "run": {"number": 5, "files": ["a", "b"], "fill": None, "items": 3, "lumi": 1.5, "good": True},
    "runs": [{"number": 1}, {"number": 2}],
    "job": {"out": "/a b/$(rm -rf ~)", "inputs_file": "/in"},
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{{ run.files }}", ["a", "b"]),
        ("{{run.number}}", 5),
        ("{{- run.number -}}", 5),
        ("{{ run.fill }}", None),
        ("{{ run.items }}", 3),
        ("{{ run['number'] }}", 5),
        ("{{ runs[0].number }}", 1),
        ("{{ runs | map(attribute='number') | list }}", [1, 2]),
        ("{{ run.files | select('equalto', 'a') }}", ["a"]),
        ("{{ range(3) }}", [0, 1, 2]),
        ("{{ run.number }}{{ run.number }}", "55"),
        ("n{{ run.number }} {{ run.lumi }} {{ run.good }}", "n5 1.5 true"),
        ("{{ run.files | join(',') }}", "a,b"),
        ("{{ '%06d' % run.number }}", "000005"),
        ("{{ '{:06d}'.format(run.number) }}", "000005"),
        ("{{ run.lumi | round(0) }}", 2.0),
        ("{{ run.fill if run.fill is not none else 0 }}", 0),
        ("{{ 'a' if run.number > 4 else 'b' }}", "a"),
        ("{# nothing #}text", "text"),
        ("no template", "no template"),
        ("", ""),
    ],
)
def test_values(template: str, value: object) -> None:
    assert render_value(template, VARIABLES) == value


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {{ run.files }}", "job.inputs_file"),
        ("a {{ run }}", "job.inputs_file"),
        ("a {{ run.fill }}", "a null where text is needed"),
        ("{{ run.nope }}", "nope"),
        ("{{ nope }}", "'nope' is undefined"),
        ("{{ run.number.real }}{{ nope.x }}", "undefined|cannot render"),
        ("{{ run.number", "cannot read the template"),
        ("{{ run.number | nope }}", "filters: abs"),
        ("{% for i in runs %}x{% endfor %}", "only {{ expressions }}"),
        ("{% set a = 1 %}", "only {{ expressions }}"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ run.number + 'a' }}", "cannot render"),
    ],
)
def test_errors(template: str, message: str) -> None:
    with pytest.raises(RenderError, match=message):
        render_value(template, VARIABLES)


@pytest.mark.parametrize(
    "template",
    [
        "{{ range(10**9) | list }}",
        "{{ 'a' * 10**9 }}",
        "{{ 10**9 * 'a' }}",
        "{{ [1] * 10**9 }}",
        "{{ 2 ** (10**9) }}",
        "{{ 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' % 3 }}",
        "{{ '%*d' % (1000000000, 3) }}",
        "{{ '{:1000000000d}'.format(3) }}",
        "{{ '{:{w}}'.format(3, w=1000000000) }}",
        "{{ 'a'.ljust(10**9) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ 'aaaa'.replace('a', 'b' * 100000) }}",
        "{{ ('b' * 100000) | replace('b', 'b' * 100000) }}",
        "{{ lipsum(10**9) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ '{0.__class__.__init__.__globals__}'.format(run) }}",
        "{{ run.files.append('c') }}",
        "{{ " + "(" * 2000 + "1" + ")" * 2000 + " }}",
        "{{ 1 }}" * 10_000,
        "{{ ('a' * 100000) }}" * 10,
    ],
)
def test_nothing_runs_away_and_nothing_reaches_out(template: str) -> None:
    start = time.monotonic()
    with pytest.raises(RenderError):
        render_value(template, VARIABLES)
    assert time.monotonic() - start < 30, "it ran away"


def test_variables() -> None:
    assert variables_of("{{ run.number }} {{ job.out.upper() }} {{ runs[group.n].number }} {{ p['a-b'] | join }}") == {
        "run.number", "job.out", "runs", "group.n", "p.a-b",
    }  # fmt: skip
    assert variables_of("{{ range(3) }} plain {{ tasks.a.products.b ~ c }}") == {"tasks.a.products.b", "c"}


@given(st.lists(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), min_size=1))
def test_a_value_never_becomes_another_argument(values: list[str]) -> None:
    command = [f"{{{{ v{i} }}}}" for i in range(len(values))]
    variables = {f"v{i}": value for i, value in enumerate(values)}
    assert render_command(command, variables) == tuple(values)
    assert render_command(split_command("x --a={{ v0 }} '{{ v0 }} b'"), variables) == (
        "x", f"--a={values[0]}", f"{values[0]} b",
    )  # fmt: skip


def test_a_nul_is_no_part_of_an_argument() -> None:
    with pytest.raises(RenderError, match="NUL"):
        render_command(["{{ a }}"], {"a": "x\x00y"})
    with pytest.raises(RenderError, match=r"job\.inputs_file"):
        render_text("{{ run.files }}", VARIABLES)


def test_splitting_leaves_expressions_whole() -> None:
    assert split_command("a 'b c' --x={{ {'k': 'v }}'}['k'] }}/f {{ a | join(' ') }}") == (
        "a", "b c", "--x={{ {'k': 'v }}'}['k'] }}/f", "{{ a | join(' ') }}",
    )  # fmt: skip
