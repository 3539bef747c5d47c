"""Good files, folders of files, and files that are no text."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.cache import checked
from airflow_calib_provider.spec.loader import load_folder, load_sources, load_workflow
from airflow_calib_provider.spec.models import FieldType, InputsCommand, Need

GOOD = Path(__file__).parent / "good"
BAD_SOURCES = Path(__file__).parent / "cases" / "sources_bad.yaml"
SOURCES = """\
apiVersion: calib/v1
sources:
  daq:
    csv: {path: runs.csv}
    fields: {fill: int, lumi: float}
"""


def workflow(name: str, tasks: str, source: str = "daq") -> str:
    return f"apiVersion: calib/v1\nworkflow: {name}\nruns: {{source: {source}}}\ntasks:\n{tasks}"


def task(name: str, needs: str = "", inputs: str = "x") -> str:
    jobs = f"{{inputs: {inputs}, command: [x]}}"
    return f"  {name}: {{group_by: run, needs: [{needs}], jobs: {jobs}, products: {{out: o.txt}}}}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sources.yaml").write_text(SOURCES)
    return tmp_path


def errors_of(folder: Path) -> list[str]:
    return [str(error).removeprefix(f"{folder}/") for error in load_folder(folder)[1]]


def test_a_full_example() -> None:
    file = GOOD / "ecal_zee_scale.yaml"
    loaded = load_workflow(file)
    assert loaded.hash == hashlib.sha256(file.read_bytes()).hexdigest()
    assert loaded.text.encode() == file.read_bytes()
    assert loaded.runs.settle == timedelta(minutes=30)
    assert loaded.params == {"window": [70, 110], "model": "crystal_ball", "radiative": True}
    assert list(loaded.groupings()) == ["run", "fill", "period"]
    skim, scale = loaded.tasks["skim"], loaded.tasks["scale"]
    assert skim.jobs is not None
    assert skim.jobs.resources.memory == 2_000_000_000
    assert skim.jobs.resources.disk == 4 * 2**30
    assert skim.jobs.split.per_job == 5
    assert skim.jobs.environment == {"OMP_NUM_THREADS": "1"}
    assert scale.policy.kind == "fill"
    assert scale.policy.minimum == {"lumi_pb": 50.0}
    assert scale.jobs is not None
    assert scale.jobs.command[3:6] == ("--window", "{{ params.window[0] }}", "{{ params.window[1] }}")
    assert scale.jobs.environment == {"OMP_NUM_THREADS": "1", "ZEE_CAMPAIGN": "{{ campaign }}"}
    assert (scale.jobs.retries, scale.jobs.quorum, scale.jobs.timeout) == (1, 0.9, timedelta(minutes=10))
    assert scale.needs == (Need(workflow="ecal_zee_scale", task="skim", grouping="run"),)
    assert loaded.tasks["deliver"].policy == scale.policy
    new = loaded.tasks["validate_new"].jobs
    assert new is not None
    assert isinstance(new.inputs, InputsCommand)


def test_a_folder_fills_in_the_groupings_of_needs() -> None:
    workflows, errors = load_folder(GOOD)
    assert errors == []
    assert workflows["monitor"].tasks["plot"].needs[0].grouping == "fill"
    assert load_workflow(GOOD / "monitor.yaml").tasks["plot"].needs[0].grouping is None


def test_since_may_be_a_number_or_a_time(folder: Path) -> None:
    file = folder / "a.yaml"
    for text, expected in (
        ("300000", 300_000),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ('"2026-03-01T12:00:00+02:00"', datetime(2026, 3, 1, 10, tzinfo=UTC)),
    ):
        file.write_text(workflow("a", task("t")).replace("{source: daq}", f"{{source: daq, since: {text}}}"))
        assert load_workflow(file).runs.since == expected


def test_workers_load_without_sources_and_without_the_runtime_of_conditions(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text((GOOD / "ecal_zee_scale.yaml").read_text())
    code = (
        "import sys; from pathlib import Path; from airflow_calib_provider.spec.loader import load_workflow;"
        f"load_workflow(Path({str(tmp_path / 'a.yaml')!r}), deep=False);"
        "assert 'cel_expr_python' not in sys.modules; assert 'airflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"apiVersion: calib/v1\nowner: \xff\n",
            "2:8: byte 0xff is not UTF-8; expected text in UTF-8; save the file as UTF-8",
        ),
        (b"", "1:1: the file is empty; expected a mapping of keys to values"),
        (b"#" * 1_000_001, "1:1: the file is too large; expected at most 1,000,000 bytes"),
        (b"a: \x00", "1:4: control characters are not allowed: character U+0000"),
        (b"[" * 500_000, "1:32: nested too deeply; expected at most 30 levels"),
    ],
)
def test_files_that_are_no_text(content: bytes, expected: str, folder: Path) -> None:
    file = folder / "a.yaml"
    file.write_bytes(content)
    with pytest.raises(SpecErrors) as caught:
        load_workflow(file)
    assert str(caught.value) == f"{file}:{expected}"


def test_a_file_that_is_not_there(folder: Path) -> None:
    with pytest.raises(SpecErrors, match=r"none.yaml:0:0: cannot read the file: No such file or directory"):
        load_workflow(folder / "none.yaml")
    with pytest.raises(SpecErrors, match="Is a directory"):
        load_workflow(folder)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 10**12)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (_pipe, "x.yaml:0:0: cannot read the file: it is a pipe, a socket or a device; expected a readable file"),
        (_device, "x.yaml:0:0: cannot read the file: it is a pipe, a socket or a device; expected a readable file"),
        (_sparse, "x.yaml:1:1: the file is too large; expected at most 1,000,000 bytes"),
        (Path.mkdir, "x.yaml:0:0: cannot read the file: Is a directory; expected a readable file"),
    ],
)
@pytest.mark.timeout(60)
def test_what_is_no_file_is_neither_waited_for_nor_read_for_ever(
    make: Callable[[Path], None], expected: str, folder: Path
) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    make(folder / "x.yaml")
    assert errors_of(folder) == [expected]
    check = checked(folder)
    assert list(check.workflows) == ["a"]
    assert [str(error).removeprefix(f"{folder}/") for error in check.errors] == [expected]


def test_a_file_name_that_is_no_text_hides_no_other_file(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.yaml")).write_text(workflow("b", task("t")))
    for check in (checked(folder), checked(folder)):
        assert list(check.workflows) == ["a"]
        assert [str(error).removeprefix(f"{folder}/") for error in check.errors] == [
            "\\xff.yaml:0:0: the file's name is not UTF-8; expected a name that is text"
        ]


@pytest.mark.parametrize("tag", ["!!strange", "!!str2", "!!int"])
def test_a_tag_is_not_taken_for_another(tag: str, folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", f"  t: {{group_by: run, jobs: {{command: [{tag} 3]}}}}\n"))
    assert errors_of(folder) == [
        f"a.yaml:5:39: the tag tag:yaml.org,2002:{tag[2:]} is not allowed; expected plain YAML"
    ]


def test_a_byte_order_mark_and_windows_line_ends(folder: Path) -> None:
    file = folder / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + workflow("a", task("t")).replace("\n", "\r\n").encode())
    assert load_workflow(file).hash == hashlib.sha256(file.read_bytes()).hexdigest()


def test_one_bad_file_does_not_hide_the_others(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    (folder / "b.yaml").write_text("apiVersion: [")
    (folder / "c.yaml").write_text(workflow("c", task("t")).replace("tasks", "tsaks"))
    workflows, errors = load_folder(folder)
    assert list(workflows) == ["a"]
    assert [error.file.name for error in errors if error.file] == ["b.yaml", "c.yaml", "c.yaml"]


def test_two_files_of_one_workflow_are_both_refused(folder: Path) -> None:
    (folder / "pedestal.yaml").write_text(workflow("pedestal", task("t")))
    (folder / "pedestal copy.yaml").write_text("# narrower\n" + workflow("pedestal", task("t")))
    (folder / "other.yaml").write_text(workflow("other", task("t")))
    workflows, _ = load_folder(folder)
    assert list(workflows) == ["other"]
    one_file = "expected one file for each workflow; move one of them away, or give it another name"
    assert errors_of(folder) == [
        f"pedestal copy.yaml:3:11: the workflow 'pedestal' is also in {folder}/pedestal.yaml:2:11; {one_file}",
        f"pedestal.yaml:2:11: the workflow 'pedestal' is also in {folder}/pedestal copy.yaml:3:11; {one_file}",
    ]


def test_three_files_of_one_workflow_name_each_other_even_if_one_has_mistakes(folder: Path) -> None:
    for name in ("a", "b"):
        (folder / f"{name}.yaml").write_text(workflow("same", task("t")))
    (folder / "c.yaml").write_text(workflow("same", task("t").replace("needs", "neds")))
    assert load_folder(folder)[0] == {}
    found = [error for error in errors_of(folder) if "is also in" in error]
    assert [error.split(":")[0] for error in found] == ["a.yaml", "b.yaml", "c.yaml"]
    assert f"is also in {folder}/a.yaml:2:11 and {folder}/b.yaml:2:11; expected" in found[2]


def test_what_needs_a_workflow_of_two_files_says_so(folder: Path) -> None:
    (folder / "link.yaml").symlink_to("a.yaml")
    (folder / "a.yaml").write_text(workflow("same", task("t")))
    (folder / "b.yaml").write_text(workflow("b", task("t", "same.t")))
    assert load_folder(folder)[0] == {}
    assert "b.yaml:5:30: the needed workflow 'same' has mistakes of its own; see a.yaml" in errors_of(folder)


def test_files_that_editors_hide_are_not_read(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    (folder / ".a.yaml").write_text(workflow("a", task("t")))
    (folder / ".#a.yaml").symlink_to("somebody@host.4711:1")
    workflows, errors = load_folder(folder)
    assert (list(workflows), errors) == (["a"], [])


def test_two_workflows_publish_one_tag(folder: Path) -> None:
    publish = "  p: {needs: [t], publish: {tag: T, file: x}}\n"
    (folder / "a.yaml").write_text(workflow("a", task("t") + publish))
    (folder / "b.yaml").write_text(workflow("b", task("t") + publish))
    assert errors_of(folder) == [
        f"a.yaml:6:34: the tag 'T' is also published by the workflow 'b' ({folder}/b.yaml:6:34); "
        "expected one task for each tag",
        f"b.yaml:6:34: the tag 'T' is also published by the workflow 'a' ({folder}/a.yaml:6:34); "
        "expected one task for each tag",
    ]
    assert load_folder(folder)[0] == {}


def test_needs_of_other_workflows(folder: Path) -> None:
    (folder / "skims.yaml").write_text(workflow("skims", task("skim")))
    (folder / "b.yaml").write_text(workflow("b", task("t", "skim.skim, skims.skin")))
    (folder / "c.yaml").write_text(workflow("c", task("t", "b.t")))
    workflows, _ = load_folder(folder)
    assert list(workflows) == ["skims"]
    assert errors_of(folder) == [
        "b.yaml:5:30: unknown workflow 'skim'; expected one of c, skims; did you mean 'skims'?",
        "b.yaml:5:41: the workflow 'skims' has no task 'skin'; expected skim; did you mean 'skim'?",
        "c.yaml:5:30: the needed workflow 'b' has mistakes of its own; see b.yaml",
    ]


def test_products_of_other_workflows(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    more = '"{{ workflows.a.tasks.t.products.%s }}"'
    (folder / "b.yaml").write_text(workflow("b", task("t", "a.t", more % "out")))
    assert errors_of(folder) == []
    (folder / "b.yaml").write_text(workflow("b", task("t", "a.t", more % "outt")))
    assert errors_of(folder) == ["b.yaml:5:55: the task 'a.t' has no product 'outt'; expected out; did you mean 'out'?"]


def test_circles_across_workflows(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t", "c.t")))
    (folder / "b.yaml").write_text(workflow("b", task("t", "a.t")))
    (folder / "c.yaml").write_text(workflow("c", task("t", "b.t")))
    (folder / "d.yaml").write_text(workflow("d", task("t", "a.t")))
    (folder / "e.yaml").write_text(workflow("e", task("t")))
    workflows, _ = load_folder(folder)
    assert list(workflows) == ["e"]
    circle = "the workflows need each other in a circle: a.t → c.t → b.t → a.t; expected no circle"
    assert errors_of(folder) == [
        f"a.yaml:5:30: {circle}",
        f"b.yaml:5:30: {circle}",
        f"c.yaml:5:30: {circle}",
        "d.yaml:5:30: the needed workflow 'a' has mistakes of its own; see a.yaml",
    ]


def test_a_folder_without_sources_or_with_broken_ones(folder: Path) -> None:
    (folder / "a.yaml").write_text(workflow("a", task("t")))
    (folder / "b.yaml").write_text(workflow("b", task("t"), "bad"))
    (folder / "sources.yaml").write_text(SOURCES + "  bad: {csv: {}}\n")
    workflows, _ = load_folder(folder)
    assert list(workflows) == ["a"]
    assert errors_of(folder) == [
        "b.yaml:3:16: the run source 'bad' has mistakes of its own; see sources.yaml",
        "sources.yaml:6:14: the key 'path' is missing in csv; expected the path of the CSV file",
    ]
    (folder / "sources.yaml").unlink()
    assert errors_of(folder) == [
        "sources.yaml:0:0: cannot read the file: No such file or directory; expected a readable file; "
        "it says where runs come from, and lies beside the workflows"
    ]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert load_folder(tmp_path) == ({}, [])
    assert "no such folder" in str(load_folder(tmp_path / "none")[1][0])


def test_sources() -> None:
    sources = load_sources(GOOD / "sources.yaml")
    assert sources["daq"].fields["start"] is FieldType.TIME
    assert sources["daq"].fields["number"] is FieldType.INT
    assert sources["z_events"].fields == {"number": FieldType.INT, "events": FieldType.INT}


@pytest.mark.parametrize("case", yaml.safe_load(BAD_SOURCES.read_text()), ids=lambda case: case["text"])
def test_bad_sources(case: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "sources.yaml"
    file.write_text(f"sources:\n  {case['text']}\napiVersion: calib/v1\n")
    with pytest.raises(SpecErrors) as caught:
        load_sources(file)
    assert [str(error).removeprefix(f"{file}:2:") for error in caught.value.errors] == [
        error.removeprefix("1:") for error in case["errors"]
    ]


def test_two_hundred_workflows_load_fast(folder: Path) -> None:
    for number in range(200):
        (folder / f"w{number}.yaml").write_text(workflow(f"w{number}", "".join(task(f"t{i}") for i in range(10))))
    start = time.process_time()
    workflows, errors = load_folder(folder)
    assert (len(workflows), errors) == (200, [])
    assert time.process_time() - start < 20


def test_a_policy_is_named_once_and_used_by_name(folder: Path) -> None:
    text = workflow(
        "a", "  x: {group_by: period, jobs: {command: [x]}}\n  y: {group_by: period, jobs: {command: [y]}}\n"
    )
    text = text.replace("tasks:", "groupings: {period: {sum: {lumi: 100, tail: drop}}, each: {run: {}}}\ntasks:")
    (folder / "a.yaml").write_text(text + "  z: {group_by: each, jobs: {command: [z]}}\n")
    loaded = load_workflow(folder / "a.yaml")
    assert loaded.tasks["x"].policy == loaded.tasks["y"].policy
    assert list(loaded.groupings()) == ["period", "each"]
    period = loaded.groupings()["period"]
    assert (period.kind, period.label, period.goal, period.tail) == ("sum", "period", {"lumi": 100.0}, "drop")
    assert loaded.groupings()["each"].kind == "run"


def test_the_limit_of_jobs_is_the_same_when_read_and_when_rendered(folder: Path) -> None:
    from airflow_calib_provider.jobsets import render
    from airflow_calib_provider.spec.language import MAX_JOBS

    assert render.MAX_JOBS is MAX_JOBS
    file = folder / "a.yaml"
    jobs = "  t: {{group_by: run, jobs: {{split: {{count: {}}}, command: [x]}}}}\n"
    file.write_text(workflow("a", jobs.format(MAX_JOBS)))
    assert load_workflow(file).tasks["t"].jobs is not None
    file.write_text(workflow("a", jobs.format(MAX_JOBS + 1)))
    with pytest.raises(SpecErrors, match="expected a whole number from 1 to 100000"):
        load_workflow(file)


def test_credentials_are_merged_and_what_the_environment_says_holds(folder: Path) -> None:
    """A task's own file wins, and where the jobs have it at another place the spec says so."""
    defaults = "defaults: {credentials: {proxy: /x/proxy, token: /x/token}}\ntasks:"
    text = workflow("w", task("a")).replace("tasks:", defaults, 1)
    own = "jobs: {credentials: {token: /own/token}, environment: {X509_USER_PROXY: /etc/proxy/proxy}, "
    assert "jobs: {" in text
    (folder / "w.yaml").write_text(text.replace("jobs: {", own, 1))
    jobs = load_workflow(folder / "w.yaml").tasks["a"].jobs
    assert jobs is not None
    assert jobs.credentials == {"proxy": "/x/proxy", "token": "/own/token"}
    assert jobs.environment == {"X509_USER_PROXY": "/etc/proxy/proxy", "BEARER_TOKEN_FILE": "/own/token"}


CIRCLE = """
apiVersion: calib/v1
workflow: {name}
runs: {{source: daq}}
tasks:
  fit:
    group_by: run
    locks: [{{payload: {{tag: {other}}}{more}}}]
    jobs: {{command: [fit]}}
    products: {{c: c.json}}
  deliver:
    needs: [fit]
    publish: {{tag: {name}, file: "{{{{ tasks.fit.products.c }}}}"}}
"""


def circle(folder: Path, **more: str) -> list[str]:
    """Two workflows of which each waits for the other's tag; what is said of it."""
    (folder / "sources.yaml").write_text(
        "apiVersion: calib/v1\nsources: {daq: {csv: {path: runs.csv}, fields: {lumi: float}}}\n"
    )
    for name, other in (("A", "B"), ("B", "A")):
        (folder / f"{name}.yaml").write_text(CIRCLE.format(name=name, other=other, more=more.get(name, "")))
    return [str(error) for error in load_folder(folder)[1]]


def test_a_circle_of_locks_is_told_in_each_file(tmp_path: Path) -> None:
    said = (
        "tasks wait for each other in a circle: A.fit → B.deliver (lock on B) → B.fit → A.deliver (lock on A) → A.fit"
    )
    assert circle(tmp_path) == [f"{tmp_path}/{name}.yaml:6:3: {said}; expected no circle" for name in ("A", "B")]


@pytest.mark.parametrize(
    ("of", "said"), [("fit", "A.fit → A.fit (lock on p)"), ("check", "A.fit → A.check (lock on p) → A.fit")]
)
def test_a_product_of_its_own_that_is_made_later_is_never_there(of: str, said: str, tmp_path: Path) -> None:
    circle(tmp_path)
    (tmp_path / "B.yaml").unlink()
    text = (tmp_path / "A.yaml").read_text() + "  check: {needs: [fit], jobs: {command: [x]}, products: {p: p.txt}}\n"
    for more, told in (
        ("", [f"tasks wait for each other in a circle: {said}; expected no circle"]),
        (", campaign: prompt", [f"tasks wait for each other in a circle: {said}; expected no circle"]),
        (", campaign: c", []),
    ):
        product = f"product: {{workflow: A, task: {of}, product: p{more}}}"
        (tmp_path / "A.yaml").write_text(text.replace("payload: {tag: B}", product))
        assert [error.split(": ", 1)[1] for error in map(str, load_folder(tmp_path)[1])] == told


@pytest.mark.parametrize(("campaign", "is_circle"), [("prompt", True), ("c", False)])
def test_products_of_one_campaign_that_wait_for_each_other(campaign: str, is_circle: bool, tmp_path: Path) -> None:
    """Each workflow runs in ``prompt``, where it waits for ever; what others have made may be there."""
    circle(tmp_path)
    for name, other in (("A", "B"), ("B", "A")):
        file = tmp_path / f"{name}.yaml"
        product = f"product: {{workflow: {other}, task: fit, product: c, campaign: {campaign}}}"
        file.write_text(file.read_text().replace(f"payload: {{tag: {other}}}", product))
    told = [str(error) for error in load_folder(tmp_path)[1]]
    said = "tasks wait for each other in a circle: A.fit → B.fit (lock on c) → A.fit (lock on c); expected no circle"
    assert told == ([f"{tmp_path}/{name}.yaml:6:3: {said}" for name in ("A", "B")] if is_circle else [])


def test_what_goes_on_without_closes_no_circle(tmp_path: Path) -> None:
    assert circle(tmp_path, A=", at_most: 3h, then: last_good") == []
    assert circle(tmp_path, A=", at_most: 3h, then: fail") != []
