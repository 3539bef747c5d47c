"""Conditions on runs."""

from __future__ import annotations

import pickle
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.runsources.times import TimeRules
from airflow_calib_provider.runsources.values import BadValue, read_value
from airflow_calib_provider.spec.condition_text import MAX_LENGTH
from airflow_calib_provider.spec.condition_tree import MAX_TEXT
from airflow_calib_provider.spec.conditions import Condition, ConditionError
from airflow_calib_provider.spec.loader import load_workflow
from airflow_calib_provider.spec.models import FieldType, RunSource

TYPES = {
    "number": FieldType.INT,
    "fill": FieldType.INT,
    "lumi": FieldType.FLOAT,
    "status": FieldType.STRING,
    "ok": FieldType.BOOL,
    "start": FieldType.TIME,
    "end": FieldType.TIME,
    "t": FieldType.TIME,
}
RUN = {
    "lumi": 3.0,
    "status": "good",
    "fill": None,
    "number": 7,
    "start": "2026-01-01T00:00:00+00:00",
    "end": datetime(2026, 1, 1, 2, 30, tzinfo=UTC),
    "t": "2026-01-01T00:00:00+00:00",
    "ok": True,
}
NUMBERS = "[" + ",".join(map(str, range(10))) + "]"


def condition(text: str) -> Condition:
    return Condition(text, TYPES)


def refused(text: str) -> ConditionError:
    with pytest.raises(ConditionError) as caught:
        condition(text)
    return caught.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.lumi > 0.5 && run.status == 'good'", True),
        ("run.lumi > 3", False),
        ("run.lumi >= 3", True),
        ("run.number == 7.0", True),
        ("run.number in [1, 7]", True),
        ("run.status in ['good', 'fair']", True),
        ("has(run.fill)", False),
        ("!has(run.fill) || run.fill > 3", True),
        ("has(run.fill) && run.fill > 3", False),
        ("has(run.fill) ? run.fill > 3 : run.ok", True),
        ("has( run . fill\n) || // asked\n run.lumi > 1", True),
        ("has(run.lumi)", True),
        ("run.ok", True),
        ("!run.ok", False),
        ("run.number % 2 == 1 ? run.ok : false", True),
        ("run.status.startsWith('go') && run.status.matches('^g.*d$')", True),
        (r"run.status.matches(r'^\w+$')", True),
        ("run.start > timestamp('2025-12-31T00:00:00Z')", True),
        ("run['number'] > 6", True),
        ('run["lumi"] > 6', False),
        ("[1, 2].all(x, x < run.number)", True),
        ("run.number > 3 && // a comment\n run.ok", True),
        ("run.status == 'has(run.fill) run.nothing (((' || run.ok", True),
    ],
)
def test_conditions(text: str, expected: bool) -> None:
    assert condition(text).evaluate(RUN) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.lumi > 1", True),
        ("1 < run.lumi && run.lumi != 1 && 3 == run.lumi", True),
        ("run.lumi in [1, 2, 3]", True),
        ("run.number in [7.0]", True),
        ("run.number in [1, 7.0, run.lumi]", True),
        ("run.number in [(run.ok ? 7 : 2.5), 1]", True),
        ("(run.ok ? 1 : 2.5) < run.number", True),
        ("(run.ok ? run.lumi : run.number) == 3", True),
        ("run.lumi > (run.number > 3 ? 2 : 3.5)", True),
        ("[1, 2].exists(x, x + 1 == run.lumi)", True),
        ("double(run.number) + run.lumi == 10", True),
    ],
)
def test_whole_numbers_and_fractions_are_compared(text: str, expected: bool) -> None:
    assert condition(text).evaluate(RUN) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("run.t > timestamp('2025-01-01T00:00:00Z')", True),
        ("run.t == run.start", True),
        ("run.t != run.end", True),
        ("run.end - run.start > duration('2h')", True),
        ("run.start + duration('150m') == run.end", True),
        ("run.t in [run.start]", True),
        ("run.t.getFullYear() == 2026 && run.end.getHours() == 2", True),
        ("timestamp(run.t) == run.start", True),
        ("string(run.t) == '2026-01-01T00:00:00Z'", True),
    ],
)
def test_times_are_times(text: str, expected: bool) -> None:
    assert condition(text).evaluate(RUN) is expected


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2016-12-31T23:59:60.5Z", "2017-01-01T00:00:00Z"),
        ("2017-01-01T00:59:60+01:00", "2017-01-01T00:00:00Z"),
        ("2016-12-31t23:59:59z", "2016-12-31T23:59:59Z"),
        ("2016-12-31T23:59:59.123456Z", "2016-12-31T23:59:59.123456Z"),
    ],
)
def test_a_time_is_the_same_in_a_source_and_in_a_condition(text: str, same: str) -> None:
    for first, second in ((text, same), (same, text), (text, text)):
        assert condition(f"run.start == timestamp('{first}')").evaluate({**RUN, "start": second})
    read = read_value(text, FieldType.TIME, "start", TimeRules())
    assert condition(f"run.start == timestamp('{text}')").evaluate({**RUN, "start": read})


@pytest.mark.parametrize("text", ["2016-12-31T23:59:61Z", "2016-12-31T24:00:60Z", "9999-12-31T23:59:60Z"])
def test_what_is_no_time_in_a_source_is_none_in_a_condition(text: str) -> None:
    with pytest.raises(BadValue, match="is no time"):
        read_value(text, FieldType.TIME, "start", TimeRules())
    assert "fails for every run" in refused(f"run.start == timestamp('{text}')").message


def test_a_truth_value_as_text_is_what_one_expects() -> None:
    assert condition("string(run.ok) == 'true'").evaluate(RUN)
    assert not condition("string(run.ok) == 'true'").evaluate({**RUN, "ok": False})
    assert condition("string(run.number) == '7'").evaluate(RUN)


def test_fields() -> None:
    found = condition("run.fill > 1 && has(run.ok) && run['lumi'] == run.fill")
    assert found.fields == {"fill", "ok", "lumi"}


@pytest.mark.parametrize("text", ["run.fill > 3", "run.ok || run.fill > 3", "run.fill == 7", "run.fill in [1]"])
def test_null_without_has_is_an_error_that_names_the_field(text: str) -> None:
    with pytest.raises(ConditionError, match=r"the field 'fill' is null; ask first: has\(run") as caught:
        condition(text).evaluate(RUN)
    assert caught.value.field == "fill"
    assert pickle.loads(pickle.dumps(caught.value)).field == caught.value.field


@pytest.mark.parametrize(
    "text",
    [
        "run.fill > 3 && has(run.fill) || run.fill < 3",
        "run.fill == 3 || has(run.fill)",
        "!has(run.fill) && run.fill in [3]",
    ],
)
def test_asking_does_not_excuse_using_a_null(text: str) -> None:
    with pytest.raises(ConditionError, match="the field 'fill' is null"):
        condition(text).evaluate(RUN)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("run.number in (1, 2)", "a list is written […]"),
        ("run.number in(1, 2)", "a list is written […]"),
        ("run.status like 'g%'", "write run.field.startsWith('…'), .contains('…') or .matches('…')"),
        ("{{ run.number > 0 }}", "a condition is no template: write it without {{ }}"),
        ("run.ok == True", "write true"),
        ("run.ok == FALSE", "write false"),
        ("ok", "a field is written run.ok"),
    ],
)
def test_what_other_languages_write(text: str, hint: str) -> None:
    assert refused(text).hint == hint


@pytest.mark.parametrize("text", ["run.fill == null", "null != run.status", "run.t == null"])
def test_null_is_asked_for_with_has(text: str) -> None:
    error = refused(text)
    assert str(error) == "a condition cannot use null; ask whether there is a value: has(run.field)"
    assert error.column == text.index("null") + 1


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("run.number", 0, "a whole number, not true or false"),
        ("run.status", 0, "a text, not true or false"),
        ("run.end - run.start", 0, "a duration, not true or false"),
        ("run.status > 3", 12, "a text and a whole number"),
        ("run.ok == 1", 8, "a truth value and a whole number"),
        ("1 < 2 < 3", 7, "a truth value and a whole number; two limits are written 0 < run.field && run.field < 10"),
        ("[1][-1] == 1", 4, "takes no elements out of lists"),
        ("run.t > '2025'", 7, "a time and a text"),
        ("run.start == 1", 11, "a time and a whole number"),
        ("run.lumi == 'a'", 10, "a number and a text"),
        ("run.ok > false", 8, "a truth value and a truth value"),
        ("run.fill in ['a']", 10, "a whole number and a list of texts"),
        ("run.fill in [1, 'a']", 13, "what does not belong together"),
        ("run.status in [1, 2.5]", 12, "only a number can be in a list of numbers"),
        ("[1, 2.5].all(x, x == 'a')", 1, "write 1.0 for 1"),
        ("run.lumi + 1 > 2.0", 10, r"a number and a whole number; convert with int\(…\), double\(…\)"),
        ("run.number && run.ok", 12, "a whole number and a truth value"),
        ("run.number / 0 == 1", 12, "divide by zero"),
        ("run.lumi > 1e400", 12, "a number that is too large"),
        ("run.lumi in [1.0, -1e400]", 19, "a number that is too large"),
        ("run.lumi != double('nan')", 13, "a number that is too large, or none"),
        ("run.lumi < 1.0 / 0.0", 16, "a number that is too large"),
        ("run.t > timestamp('2025')", 9, r"fails for every run: .*; a time is written as in timestamp\('2026"),
        ("run.end - run.t > duration('1x')", 19, r"a duration is written as in duration\('1h30m'\)"),
        ("int('a') == run.number", 1, "fails for every run: cannot convert string to int"),
        ("run.status.matches('(')", 12, "invalid regular expression"),
        ("run.status.startsWith(1)", 12, "a text and a whole number"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(text: str, column: int, message: str) -> None:
    with pytest.raises(ConditionError, match=message) as caught:
        condition(text)
    assert caught.value.column == column


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("run.number / (run.number - 7) == 1", "divide by zero"),
        ("9223372036854775807 + run.number > 0", "integer overflow"),
        ("int(run.status) == 1", "cannot convert string to int"),
    ],
)
def test_errors_of_evaluation(text: str, message: str) -> None:
    with pytest.raises(ConditionError, match=message):
        condition(text).evaluate(RUN)


@pytest.mark.parametrize(
    ("name", "value"), [("fill", "a"), ("fill", 1.5), ("lumi", True), ("status", 3), ("ok", 1), ("t", "yesterday")]
)
def test_a_value_that_its_source_no_longer_declares(name: str, value: object) -> None:
    text = {"ok": "run.ok", "t": "run.t > run.start", "status": "run.status == 'a'"}.get(name, f"run.{name} > 1")
    with pytest.raises(ConditionError, match=rf"the field '{name}' (is {value!r}, and its source says|cannot be used)"):
        condition(text).evaluate({**RUN, name: value})


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("run.number > 1", "number", 2**70),
        ("run.status == 'a'", "status", "\ud800"),
        pytest.param("run.lumi > 1", "lumi", 2**2000, id="lumi"),
    ],
)
def test_a_value_that_no_runtime_takes_is_that_runs_error(text: str, name: str, value: object) -> None:
    with pytest.raises(ConditionError, match=r"fails|cannot be used"):
        condition(text).evaluate({**RUN, name: value})


@pytest.mark.parametrize(
    "text",
    [
        "", "(", "run.", "1 +", "run", "lumi > 3", "run.number.b(", "f(run.ok)", "'a", "\x00", "(" * 2000,
        "'\ud800' == 'a'",
        "[1].exists(1,true)", "run.all(x, x)", "run.nothing > 1", "run.number.x == 1", "{'a': 1}['a'] == 1", "1u == 1",
        "b'a' == b'a'", "dyn(1) == 1", "int == int", "9999999999999999999 == 1", r"'\uD800' == 'a'", "run.é > 1",
        "\u202e true",
        "google.protobuf.Int64Value{value: 1} == 1", "[1].all(run, run == 1)", "x.all(x, true)", "has(run['fill'])",
    ],
)  # fmt: skip
def test_texts_that_are_no_condition(text: str) -> None:
    with pytest.raises(ConditionError):
        condition(text)


DEEP = {
    "brackets": "(" * 1200 + "true" + ")" * 1200,
    "open brackets": "(" * 5000,
    "lists": "[" * 2000 + "]" * 2000,
    "signs": "!" * 2000 + "true",
    "odd signs": "!" * 33 + "run.ok",
    "minus": "-" * 2000 + "1 < 2",
    "choices": "run.ok ? true : " * 200 + "true",
    "calls": "size(" * 600 + "run.status" + ")" * 600 + " > 1",
    "sums": "+".join(["1"] * 1500) + " > 1",
    "loops": "[1].all(a," * 300 + "true" + ")" * 300,
    "members": "run" + ".a" * 2000,
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_texts_are_errors_with_their_place(name: str) -> None:
    error = refused(DEEP[name])
    assert "nested too deeply" in str(error) or name == "members"
    assert (error.line, error.column > 0) == (1, True)


def test_what_people_write_is_not_too_deep() -> None:
    assert condition("(" * 20 + "run.ok" + ")" * 20).evaluate(RUN)
    assert condition(" || ".join(f"run.number == {number}" for number in range(200))).evaluate(RUN)
    assert condition("".join(f"run.number == {number} ? false : " for number in range(100, 120)) + "run.ok").evaluate(
        RUN
    )


COSTLY = {
    "loops": "".join(f"{NUMBERS}.all({name}, " for name in "abcde") + "a < b" + ")" * 5,
    "two long loops": f"[{'1,' * 200}1].all(a, [{'1,' * 200}1].exists(b, a == b))",
    "a list in a loop": f"[{'1,' * 800}1].all(a, a in [{'1,' * 300}1])",
    "texts that grow": "['a'].exists(x, x + x + x + x == 'a')",
    "texts": "run.status + run.status == 'a'",
    "lists that grow": "[1] + [2] == [1, 2]",
    "lists from lists": "[1, 2].map(x, x) == [1]",
    "filters": "[1, 2].filter(x, x > 1) == [1]",
    "lists of lists": "[[1], [2]].all(x, 1 in x)",
    "a pattern": "run.status.matches('((a{100}){100})')",
    "patterns in a loop": f"[{'1,' * 50}1].all(x, run.status.matches('.{{20}}x'))",
    "a pattern that is long": f"run.status.matches('{'.' * 500}')",
    "classes of Unicode": r"run.status.matches(r'\pL\pN')",
    "a pattern from a run": "run.status.matches(run.status)",
    "a text that is looked for in a loop": f"[{'1,' * 50}1].exists(x, run.status.contains('{'a' * 1_000}b'))",
    "a text of a run that is looked for": f"{NUMBERS}.exists(x, run.status.contains(run.status))",
    "a text that is measured in a loop": f"[{'1,' * 500}1].exists(x, run.status.size() == x)",
}


@pytest.mark.parametrize("name", COSTLY)
def test_what_costs_much_is_refused_when_it_is_read(name: str) -> None:
    begun = time.process_time()
    error = refused(COSTLY[name])
    assert time.process_time() - begun < 1
    assert error.column > 0


def test_loops_that_cost_little() -> None:
    assert condition(f"{NUMBERS}.all(a, {NUMBERS}.exists(b, a == b))").evaluate(RUN)
    assert condition("['go', 'fa'].exists(x, run.status.startsWith(x))").evaluate(RUN)
    assert condition(r"run.status.matches('^([0-9]{4}-[0-9]{2}|good)$')").evaluate(RUN)


def test_a_list_of_610_runs_takes_microseconds() -> None:
    listed = condition(f"run.number in [{', '.join(str(355_000 + 2 * number) for number in range(610))}]")
    begun = time.process_time()
    answers = [listed.evaluate({"number": number}) for number in range(355_000, 356_000)]
    assert answers.count(True) == 500
    assert time.process_time() - begun < 1


def test_a_list_of_thousands_of_runs() -> None:
    listed = condition(f"run.number in {list(range(355_000, 367_000, 2))}")
    assert [listed.evaluate({"number": number}) for number in (355_000, 366_998, 366_999)] == [True, True, False]


@pytest.mark.parametrize(
    "text", [f"[{'1,' * 300}1].exists(x, run.status.size() == x)", f"run.status.contains('{'a' * 10_000}b')"]
)
def test_long_texts_of_a_run_cost_little(text: str) -> None:
    begun = time.process_time()
    assert not condition(text).evaluate({"status": "a" * MAX_TEXT})
    assert time.process_time() - begun < 1
    with pytest.raises(ConditionError, match="the field 'status' has 10,001 characters, of which a condition looks at"):
        condition(text).evaluate({"status": "a" * (MAX_TEXT + 1)})


def test_a_condition_that_is_too_long_says_what_to_do() -> None:
    error = refused(f"run.number in {list(range(10**5, 10**5 + 6_300))}")
    assert error.message == "a condition of more than 50,000 characters"
    assert error.hint == "let the source say of each run what the condition asks for, in a field"


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("run.number == 7u", 15, "a number without a sign; write 7"),
        ("run.start.getHours('Europe/Zurich') > 8", 11, "getHours(…) is not called like this"),
        ("run.ok && size() > 0", 11, "size(…) is not called like this"),
        ("matches(run.status) ", 1, "matches(…) is not called like this"),
    ],
)
def test_what_is_called_otherwise(text: str, column: int, message: str) -> None:
    error = refused(text)
    assert message in str(error)
    assert error.column == column


def test_a_long_condition_is_cut_in_messages() -> None:
    text = f"run.number in [7{', 1' * 500}] && 9223372036854775807 + run.number > 0"
    with pytest.raises(ConditionError) as caught:
        condition(text).evaluate(RUN)
    assert len(str(caught.value)) < 200
    assert len(text) < MAX_LENGTH


@pytest.mark.parametrize(
    ("where", "column", "message"),
    [
        ("[1].exists(1,true)", 12, "the condition cannot be read: exists() variable name must be a simple identifier"),
        ("(" * 1200 + "true" + ")" * 1200, 31, "the condition is nested too deeply"),
        ("!" * 2000 + "run.ok", 31, "the condition is nested too deeply"),
        ("run.ok == 1", 8, "the condition 'run.ok == 1' puts together what does not fit"),
        ("run.t > '2025'", 7, "the condition \"run.t > '2025'\" puts together what does not fit"),
        (COSTLY["loops"], 52, "the condition is too much work"),
    ],
)
def test_errors_have_the_place_in_the_file(where: str, column: int, message: str, tmp_path: Path) -> None:
    file = tmp_path / "w.yaml"
    runs = f'runs:\n  source: d\n  where: "{where}"\n'
    tasks = "tasks: {t: {group_by: run, jobs: {command: [x]}}}\n"
    file.write_text(f"apiVersion: calib/v1\nworkflow: w\n{runs}{tasks}")
    with pytest.raises(SpecErrors) as caught:
        load_workflow(file, sources={"d": RunSource(name="d", kind="csv", fields=TYPES)})
    (error,) = caught.value.errors
    assert str(error).startswith(f"{file}:5:{10 + column}: {message}"), str(error)[:200]
