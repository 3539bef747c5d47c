"""Templates: types, arguments, limits."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.filters import FILTERS, TESTS
from airflow_calib_provider.spec.templates import (
    TemplateSyntaxError,
    render_command,
    render_text,
    render_value,
    split_command,
    uses_of,
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
        ("{{ [0, run.number, 2] }}", [0, 5, 2]),
        ("{{ {'a': 1}['a'] }}", 1),
        ("{{ run.files[:1] }}", ["a"]),
        ("{{ runs[-1].number }}", 2),
        ("{{ run.number // 2 + 7 % 4 - 2 ** 2 }}", 1),
        ("{{ 'a' ~ run.number ~ run.good }}", "a5true"),
        ("{{ 1 < run.number < 9 and not run.good is none }}", True),
        ("{{ run.files | length }}", 2),
        ("{{ (run.number / 2) | round(0, 'ceil') | int }}", 3),
        ("{{ runs | sum(attribute='number') }}", 3),
        ("{{ runs | selectattr('number', 'gt', 1) | map(attribute='number') }}", [2]),
        ("{{ run.files | sort(reverse=true) | first | upper }}", "B"),
        ("{{ run.items | default(0) }}", 3),
        ("{{ '%5.1f%%' % 12.34 }}", " 12.3%"),
        ("{{ '%s-%03d' % ('a', run.number) }}", "a-005"),
        ("{{ '{{' }}.Id{{ '}}' }}", "{{.Id}}"),
        ("{{ run.number }}{{ run.number }}", "55"),
        ("n{{ run.number }} {{ run.lumi }} {{ run.good }}", "n5 1.5 true"),
        ("{{ run.files | join(',') }}", "a,b"),
        ("{{ '%06d' % run.number }}", "000005"),
        ("{{ run.lumi | round(0) }}", 2.0),
        ("{{ run.fill if run.fill is not none else 0 }}", 0),
        ("{{ 'a' if run.number > 4 else 'b' }}", "a"),
        ("{# nothing #}text", "{# nothing #}text"),
        ("sed -e 's#{#[#g' -e 's#}#]#g' in {{ run.number }}", "sed -e 's#{#[#g' -e 's#}#]#g' in 5"),
        ("echo ${#x} {{ run.number }} ${#y}", "echo ${#x} 5 ${#y}"),
        ("printf '{%s}' {{ run.number }} {%d}", "printf '{%s}' 5 {%d}"),
        ("# {{ run.number }}\n## a\n% b\r\n", "# 5\n## a\n% b\r\n"),
        ("a {{- run.number -}} \n b", "a5b"),
        ("plain\n", "plain\n"),
        ("no template", "no template"),
        ("", ""),
    ],
)
def test_values(template: str, value: object) -> None:
    assert render_value(template, VARIABLES) == value


def test_a_default_may_be_stated_for_what_is_no_number() -> None:
    assert render_value("{{ 'abc' | int(7) }}", VARIABLES) == 7
    assert render_value("{{ 'abc' | float(default=0.5) }}", VARIABLES) == 0.5
    assert render_value("{{ '0012' | int }}", VARIABLES) == 12
    assert render_value("{{ 'ff' | int(base=16) }}", VARIABLES) == 255


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("a {{ run.files }}", "job.inputs_file"),
        ("a {{ run }}", "job.inputs_file"),
        ("a {{ run.fill }}", "a null where text is needed"),
        ("{{ run.nope }}", "nope"),
        ("{{ nope }}", "'nope' is undefined"),
        ("{{ run.number.real }}{{ nope.x }}", "undefined|cannot render"),
        ("{{ run.number", "an expression does not end; close it with }}"),
        ("{{ run.number run.number }}", "cannot read the template: expected token 'end of print statement'"),
        ("{{ 'a }}", "cannot read the template: unexpected char"),
        ("{{ }}", "cannot read the template"),
        ("{{ run.number ) }}", "cannot read the template: unexpected '\\)'"),
        ("{{ run.number | nope }}", "filters: abs"),
        ("{% for i in runs %}x{% endfor %}", "only {{ expressions }}"),
        ("{% set a = 1 %}", "only {{ expressions }}"),
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ run.number / 0 }}", "division by zero"),
        ("{{ 'abc' | int }}", "a text that is no number: 'abc'"),
        ("{{ '1,5' | float }}", "a text that is no number: '1,5'"),
        ("{{ run.fill | int }}", "a null that is no number|no number: None"),
        ("{{ 1e9999 }}", "a number that is too large"),
        ("{{ 1e308 * 10 * run.number }}", "a number that is too large"),
        ("{{ run.files | upper }}", "inside the text"),
        ("{{ run.files ~ 'a' }}", "inside the text"),
        ("{{ run.fill ~ 'a' }}", "a null where text is needed"),
        ("{{ run.number | divisibleby(0) }}", "No filter named 'divisibleby'"),
        ("{{ run.number is divisibleby(0) }}", "cannot render"),
        ("{{ run.number is callable }}", "tests: boolean"),
        ("{{ 'a' if run.good }}", "an if without else"),
        ("{{ (0 - 8) ** 0.5 }}", "the value is no data"),
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


@pytest.mark.parametrize(
    ("template", "message", "instead"),
    [
        ("{{ range(3) }}", "a call of range()", "split.count"),
        ("{{ '{:06d}'.format(run.number) }}", "a call of format()", "'%06d' % x"),
        ("{{ run.file.upper() }}", "a call of upper()", "x | upper"),
        ("{{ run.file.split('/')[0] }}", "a call of split()", "filters: abs"),
        ("{{ run.file.zfill(6) }}", "a call of zfill()", "'%06d' % x"),
        ("{{ dict(a=1) }}", "a call of dict()", "filters: abs"),
        ("{{ lipsum() }}", "a call of lipsum()", "filters: abs"),
        ("{{ (1).x() }}", "a call of x()", "filters: abs"),
        ("{{ 'a' * run.number }}", "a text or list times a number", "write it out"),
        ("{{ run.number * ['a'] }}", "a text or list times a number", "write it out"),
        ("{{ ('a' ~ 'b') * 3 }}", "a text or list times a number", "write it out"),
        ("{{ '%100d' % run.number }}", "the format '%100d' cannot be used", "'%06d' % x"),
        ("{{ '%*d' % (5, run.number) }}", "the format '%*d' cannot be used", "'%06d' % x"),
        ("{{ '%(a)s' % run }}", "the format '%(a)s' cannot be used", "'%06d' % x"),
        ("{{ 'a' | center(80) }}", "No filter named 'center'", "filters: abs"),
        ("{{ '%s' | format(run.number) }}", "No filter named 'format'", "filters: abs"),
        ("{{ [1] | batch(3) }}", "No filter named 'batch'", "filters: abs"),
        ("{{ run.files | join(*run.files) }}", "arguments with a star", "write them out"),
    ],
)
def test_what_is_refused_says_what_to_write_instead(template: str, message: str, instead: str) -> None:
    with pytest.raises(TemplateSyntaxError) as caught:
        uses_of(template)
    assert message in caught.value.message
    assert instead in caught.value.hint
    assert caught.value.expression == template


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + " ~ ".join(["big"] * 3000) + " }}",
        "{{ [" + ",".join(["many"] * 5000) + "] }}",
        "{{ [" + ",".join(["many"] * 5000) + "] | tojson }}",
        "{{ " + " + ".join(["many"] * 60) + " }}",
        "{{ many" + " | sort" * 2500 + " }}",
        "{{ many | replace('a', 'b') | join(big) }}",
        "{{ many | join(big) }}",
        "{{ big | replace('a', big) }}",
        "{{ '%s%s%s%s' % (big, big, big, big) }}",
        "{{ " + " == ".join(["many"] * 5000) + " }}",
        "{{ 9 ** 999 ** 9 }}",
        "{{ many | sum(start=many) }}",
        "{{ big ~ big }}",
    ],
)
def test_work_is_bounded_by_the_length_of_a_template_and_its_values(template: str) -> None:
    variables = {"big": "a" * 190_000, "many": [str(number) for number in range(50_000)]}
    start = time.process_time()
    with pytest.raises(RenderError):
        render_text(template, variables)
    assert time.process_time() - start < 2


def expression(chance: random.Random, depth: int) -> str:
    """Any expression, also such as are refused."""
    if depth == 0 or chance.random() < 0.2:
        return chance.choice(["big", "many", "deep", "number", "text", "3", "'a'", "0.5", "none", "true", "[]", "nope"])
    parts = [expression(chance, depth - 1) for _ in range(3)]
    one, two, three = parts
    name = chance.choice(FILTERS)
    return chance.choice(
        [
            f"({one} {chance.choice(['+', '-', '*', '/', '//', '%', '**', '~', '<', '==', 'in', 'and', 'or'])} {two})",
            f"({one} | {name})",
            f"({one} | {name}({two}))",
            f"({one} | {name}({two}, {three}))",
            f"({one} | {chance.choice(['map', 'sum', 'join', 'sort', 'unique', 'max'])}(attribute={two}))",
            f"({one} is {chance.choice(TESTS)})",
            f"({one} is {chance.choice(['eq', 'in', 'divisibleby', 'lt'])}({two}))",
            f"({one} if {two} else {three})",
            f"[{', '.join(parts * chance.choice([1, 30]))}]",
            f"{{{one}: {two}}}",
            f"{one}[{two}]",
            f"{one}[{two}:{three}]",
            f"{one}.x",
            f"{one}.format({two})",
            f"(-{one})",
            f"(not {one})",
        ]
    )


def test_whatever_an_expression_is_it_gives_data_or_an_error_soon() -> None:
    chance = random.Random(5)
    variables = {
        "big": "ab" * 90_000,
        "many": [{"x": number, "y": "é" * 20} for number in range(5_000)],
        "deep": {"x": {"x": [[1, 2], {"x": None}] * 1_000}},
        "number": 10**18,
        "text": "fill-8001",
    }
    given, refused = 0, []
    for _ in range(800):
        template = f"{{{{ {expression(chance, chance.choice([1, 2, 3, 4]))} }}}}"
        start = time.process_time()
        try:
            value = render_value(template, variables)
        except RenderError as error:
            refused.append(str(error))
        else:
            given += 1
            assert value is None or isinstance(value, str | int | float | list | dict | tuple)
        assert time.process_time() - start < 2, template
    assert given > 80, "nearly everything is refused"
    assert max(map(len, refused)) < 1_000


def test_variables() -> None:
    assert variables_of("{{ run.number }} {{ job.out | upper }} {{ runs[group.n].number }} {{ p['a-b'] | join }}") == {
        "run.number", "job.out", "runs", "group.n", "p.a-b",
    }  # fmt: skip
    assert variables_of("{{ [3] }} plain {{ tasks.a.products.b ~ c }}") == {"tasks.a.products.b", "c"}


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
