"""From a spec and a group to jobs (rules 18, 20, 22, 32, 33)."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from airflow_calib_provider.domain.intervals import Iov
from airflow_calib_provider.domain.submission import JobSubmission, Resources
from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.jobsets.attempts import Attempts
from airflow_calib_provider.jobsets.context import GroupContext, gather
from airflow_calib_provider.jobsets.render import INPUTS_FILE, OUT, render, render_plain
from airflow_calib_provider.ledger import campaigns, skips
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.rows import Definition, Generation
from airflow_calib_provider.payloads import store
from airflow_calib_provider.spec.models import FailureRule, InputsCommand, Jobs, ResourceRequest, Split
from tests.ledger.making import T0, done, facts, fill, group_ids, new_ledger, put_runs, task, workflow

HOUR = timedelta(hours=1)


def context(**variables: Any) -> GroupContext:
    return GroupContext("prompt", "ecal", "skim", 1, "run-r1", variables, [1], [], {})


def rendered(jobs: Jobs, **variables: Any) -> Any:
    return render(task("skim", jobs=jobs), context(**variables))


FILES = [f"/data/{number}.root" for number in range(7)]


def test_split_of_inputs() -> None:
    made = rendered(Jobs(command=("x",), inputs="{{ run.files }}", split=Split(per_job=3)), run={"files": FILES})
    assert [item["inputs"] for item in made.definitions] == [FILES[:3], FILES[3:6], FILES[6:]]
    assert made.inputs == FILES


@pytest.mark.parametrize(
    ("n", "count", "shares"),
    [
        (4, 3, [2, 1, 1]),
        (7, 3, [3, 2, 2]),
        (6, 3, [2, 2, 2]),
        (1, 1, [1]),
        (5, 5, [1] * 5),
        (1001, 1000, [2] + [1] * 999),
    ],
)
def test_so_many_jobs_share_the_inputs(n: int, count: int, shares: list[int]) -> None:
    names = [f"f{number}" for number in range(n)]
    jobs = Jobs(command=("x", "{{ job.inputs | join(',') }}"), inputs=tuple(names), split=Split(count=count))
    definitions = rendered(jobs).definitions
    assert [len(item["inputs"]) for item in definitions] == shares
    assert [name for item in definitions for name in item["inputs"]] == names, "each once, in order"
    assert [item["command"][1] for item in definitions] == [",".join(item["inputs"]) for item in definitions]


@pytest.mark.parametrize("count", [3, "{{ 3 }}"])
@pytest.mark.parametrize("inputs", [("a", "b"), "{{ run.files }}", ("{{ run.files }}",)])
def test_more_jobs_than_inputs(count: Any, inputs: Any) -> None:
    jobs = Jobs(command=("x",), inputs=inputs, split=Split(count=count))
    with pytest.raises(RenderError, match=r"3 jobs cannot share 2 inputs.*split\.inputs: all"):
        rendered(jobs, run={"files": ["a", "b"]})
    every = jobs.model_copy(update={"split": Split(count=count, inputs="all")})
    assert len(rendered(every, run={"files": ["a", "b"]}).definitions) == 3


def test_a_plain_job_set_shares_too() -> None:
    jobs = Jobs(command=("x",), inputs=("a", "b", "c"), split=Split(count=2))
    assert [item["inputs"] for item in render_plain(jobs, {}, "local").definitions] == [["a", "b"], ["c"]]
    every = render_plain(jobs.model_copy(update={"split": Split(count=2, inputs="all")}), {}, "local")
    assert ([item["inputs"] for item in every.definitions], every.inputs) == ([None, None], ["a", "b", "c"])
    with pytest.raises(RenderError, match="4 jobs cannot share 3 inputs"):
        render_plain(jobs.model_copy(update={"split": Split(count=4)}), {}, "local")


def test_inputs_that_all_jobs_get_are_stored_once() -> None:
    split = Split(count=3, inputs="all")
    made = rendered(Jobs(command=("x",), inputs="{{ run.files }}", split=split), run={"files": FILES})
    assert [item["inputs"] for item in made.definitions] == [None] * 3
    assert made.inputs == FILES


@pytest.mark.parametrize(("count", "jobs"), [(None, 1), (4, 4), ("{{ n }}", 5), ("{{ n * 2 }}", 10), ("{{ 3.0 }}", 3)])
def test_count(count: Any, jobs: int) -> None:
    assert len(rendered(Jobs(command=("x",), split=Split(count=count)), n=5).definitions) == jobs


@pytest.mark.parametrize(
    "count", [0, -1, "{{ 'x' }}", "{{ 2.5 }}", "{{ true }}", "{{ none }}", "{{ nothing }}", 100_001]
)
def test_impossible_counts(count: Any) -> None:
    with pytest.raises(RenderError):
        rendered(Jobs(command=("x",), split=Split(count=count)))


def test_no_inputs_are_no_jobs() -> None:
    with pytest.raises(RenderError, match="no inputs, hence no jobs"):
        rendered(Jobs(command=("x",), inputs="{{ run.files }}", split=Split(per_job=3)), run={"files": []})


@pytest.mark.parametrize("value", [None, 5, {"a": "b"}, ["a", 3], ["a\nb"], ["a\0b"]])
def test_impossible_inputs(value: Any) -> None:
    with pytest.raises(RenderError):
        rendered(Jobs(command=("x",), inputs="{{ it }}", split=Split(per_job=3)), it=value)


def test_inputs_as_a_list_in_the_spec() -> None:
    made = rendered(Jobs(command=("x",), inputs=("/a/{{ n }}", "/b"), split=Split(per_job=1)), n=3)
    assert made.inputs == ["/a/3", "/b"]
    lists = Jobs(command=("x",), inputs=("{{ first }}", "/b", "{{ second }}"))
    assert rendered(lists, first=["/1", "/2"], second=["/3"]).inputs == ["/1", "/2", "/b", "/3"]


def test_values_never_become_other_arguments() -> None:
    evil = "a b; rm -rf / $(x) 'q'"
    made = rendered(Jobs(command=("run", "{{ evil }}", "--x={{ evil }}")), evil=evil)
    assert made.definitions[0]["command"] == ["run", evil, f"--x={evil}"]


def test_a_list_in_a_command_names_the_inputs_file() -> None:
    with pytest.raises(RenderError, match=r"job\.inputs_file"):
        rendered(Jobs(command=("run", "{{ files }}")), files=FILES)


@pytest.mark.parametrize("value", [None, ["a"]])
def test_environment_is_text(value: Any) -> None:
    with pytest.raises(RenderError):
        rendered(Jobs(command=("x",), environment={"A": "{{ it }}"}), it=value)
    assert rendered(Jobs(command=("x",), environment={"A": "{{ it }}"}), it=3).definitions[0]["environment"] == {
        "A": "3"
    }


def query(code: str) -> Jobs:
    return Jobs(command=("x",), inputs=InputsCommand(command=(sys.executable, "-c", code)), split=Split(per_job=2))


def test_inputs_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "secret")
    code = "import os; print('a'); print(); print(' b '); print(os.environ.get('AIRFLOW__DATABASE__SQL_ALCHEMY_CONN'))"
    assert rendered(query(code)).inputs == ["a", "b", "None"]
    odd = ["/a/é\u2028b", "/a/c\x0cd", "/a/e\x85f"]
    assert rendered(query(f"import sys; sys.stdout.buffer.write({chr(10).join(odd)!r}.encode())")).inputs == odd


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import sys; sys.exit('no such data set')", "exit code 1: no such data set"),
        ("pass", "printed nothing"),
        ("import sys; sys.stdout.buffer.write(b'\\xff')", "failed"),
    ],
)
def test_inputs_command_that_fails(code: str, said: str) -> None:
    with pytest.raises(RenderError, match=said):
        rendered(query(code))
    with pytest.raises(RenderError, match="failed"):
        rendered(Jobs(command=("x",), inputs=InputsCommand(command=("/no/such/command",))))


def test_digest_is_that_of_what_runs() -> None:
    jobs = Jobs(command=("x", "{{ job.out }}", "{{ job.attempt }}"), split=Split(count=2))
    same = {rendered(jobs).digest, rendered(jobs, unused=3).digest}
    assert len(same) == 1
    others = [
        Jobs(command=("x", "y"), split=Split(count=2)),
        Jobs(command=jobs.command, split=Split(count=3)),
        Jobs(command=jobs.command, split=Split(count=2), environment={"A": "1"}),
        Jobs(command=jobs.command, split=Split(count=2), inputs=("a", "b")),
        Jobs(command=jobs.command, split=Split(count=2, inputs="all"), inputs=("a", "b")),
    ]
    assert len(same | {rendered(item).digest for item in others}) == 6


def test_the_digest_of_what_says_nothing_new_is_that_of_the_first_version() -> None:
    """Otherwise an upgrade would start every failed generation from its beginning."""
    jobs = Jobs(command=("x", "{{ job.index }}"), environment={"A": "b"}, split=Split(count=2))
    assert rendered(jobs).digest == "a12e8999019148e528fdb344c305f25222899b1f4a5bacebce5e17667385d4dd"


def test_how_jobs_run_is_no_part_of_the_digest() -> None:
    options = {"transfer": True, "attributes": {"A": True, "N": 2, "W": 0.5}, "files": ["{{ x }}/a.sh"]}
    rules = (FailureRule(classes=("memory",), then="retry", factor=2.0), FailureRule(then="release", after=HOUR))
    jobs = Jobs(command=("x",), options=options, failures=rules)
    made = rendered(jobs, x="/here")
    assert made.options == {"transfer": True, "attributes": {"A": True, "N": 2, "W": 0.5}}
    assert made.failures == [
        {"classes": ["memory"], "then": "retry", "factor": 2.0},
        {"then": "release", "after": 3600.0},
    ]
    other = {"transfer": False, "container_image": "docker://x", "files": options["files"]}
    for change in ({"failures": ()}, {"keep": HOUR}, {"options": other}):
        assert rendered(jobs.model_copy(update=change), x="/here").digest == made.digest
    assert rendered(jobs, x="/there").digest != made.digest
    assert rendered(jobs.model_copy(update={"resources": ResourceRequest(gpus=1)}), x="/here").digest != made.digest


@pytest.mark.parametrize("value", ["", "a\nb", "a\rb"])
def test_files_are_names(value: str) -> None:
    with pytest.raises(RenderError, match=r"local\.files"):
        rendered(Jobs(command=("x",), options={"files": ["{{ x }}"]}), x=value)


def test_what_a_batch_system_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    jobs = Jobs(
        command=("x",),
        resources=ResourceRequest(cpus=2, memory=5, gpus=1),
        options={"files": ["/a.sh", "{{ b }}"]},
        inputs=("u", "v"),
        split=Split(per_job=1),
    )
    first, second = rendered(jobs, b="/b.sh").definitions
    made = attempt(0, 1, first)
    assert (made.resources, made.files, made.inputs) == (Resources(2, 5, None, 1), ("/a.sh", "/b.sh"), ("u",))
    again = attempt(1, 2, second, memory=9)
    assert (again.resources.memory, again.inputs) == (9, ("v",))
    assert attempt(0, 3, rendered(Jobs(command=("x",))).definitions[0]).inputs == ("/x", "/y")


class Row:
    spec_folder = None
    campaign, workflow, task, group_name = "prompt", "ecal", "skim", "run-r1"
    folder, runs, inputs, products = "prompt/ecal/skim/run-r1/g1", [1, 2], ["/x", "/y"], {"c": "c.txt"}


def attempt(
    index: int, number: int, definition: Definition, memory: int | None = None, *, folders: bool = True
) -> JobSubmission:
    return Attempts(cast("Generation", Row), folders=folders).of(index, number, definition, memory)


def test_submission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    jobs = Jobs(
        command=("x", "{{ job.out }}/c", "{{ job.inputs_file }}"),
        environment={"MINE": "{{ job.out }}", "CALIB_JOB": "9"},
    )
    (definition,) = rendered(jobs).definitions
    assert definition["command"] == ["x", f"{OUT}/c", INPUTS_FILE]
    first = attempt(0, 1, definition)
    second = attempt(0, 2, definition)
    assert first.folder != second.folder
    assert first.command[1] == f"{first.folder}/out/c"
    assert first.environment["MINE"] == first.environment["CALIB_OUT"] == str(first.folder / "out")
    assert (first.environment["CALIB_JOB"], second.environment["CALIB_ATTEMPT"]) == ("0", "2")
    assert first.environment["CALIB_RUNS"] == "1,2"
    assert Path(first.command[2]).read_text() == "/x\n/y\n"


def test_submitting_again_does_not_touch_what_a_job_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    (definition,) = rendered(Jobs(command=("x",))).definitions
    file = attempt(0, 1, definition).folder / "inputs.txt"
    before = file.stat()
    attempt(0, 1, definition)
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_jobs_that_make_their_folders_find_lists_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one file of each list that they share, one of each long one, and none of a short one of their own."""
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    (definition,) = rendered(Jobs(command=("x", "{{ job.inputs_file }}"))).definitions
    first, second = attempt(0, 1, definition, folders=False), attempt(1, 1, definition, folders=False)
    assert not first.folder.exists()
    assert first.folder.parent.is_dir()
    assert first.command[1] == first.environment["CALIB_INPUTS"] == second.environment["CALIB_INPUTS"]
    assert Path(first.command[1]).read_text() == "/x\n/y\n"
    assert Path(first.environment["CALIB_RUNS_FILE"]).read_text() == "1\n2\n"
    long = "/long/" + "x" * 9_000
    jobs = Jobs(command=("x", "{{ job.inputs_file }}"), inputs=("/own", long), split=Split(per_job=1))
    short, other = (attempt(2 + n, 1, item, folders=False) for n, item in enumerate(rendered(jobs).definitions))
    assert (short.lists, short.folder.exists()) == ({"inputs.txt": "/own\n"}, False)
    assert short.command[1] == f"{short.folder}/inputs.txt"
    assert (other.lists, Path(other.command[1]).read_text()) == ({}, f"{long}\n")


def test_another_place_of_the_code_changes_no_list_that_a_job_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    (definition,) = rendered(Jobs(command=("x",))).definitions
    before = attempt(0, 1, definition, folders=False).environment["CALIB_INPUTS"]
    monkeypatch.setattr(Row, "inputs", ["/elsewhere"])
    after = attempt(0, 2, definition, folders=False).environment["CALIB_INPUTS"]
    assert (Path(before).read_text(), Path(after).read_text()) == ("/x\n/y\n", "/elsewhere\n")


def publish_for(ledger: Ledger, folder: Path, tag: str) -> None:
    laser = workflow("laser", task("deliver", fill(), publish=tag, file="x"))
    put_runs(ledger, laser, [facts(1, 1), facts(2, 1), facts(3, 1), facts(4, 2)])
    (folder / "laser.json").write_text("1")
    store.publish(
        ledger,
        tag=tag,
        file=folder / "laser.json",
        group_id=group_ids(ledger, "fill", "laser")["fill-r1"],
        task="deliver",
        iov=Iov(1, 3),
        provenance={},
        now=T0,
    )


def test_context_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_HOME", str(tmp_path))
    ledger = new_ledger(tmp_path)
    flow = workflow(
        "ecal",
        task("workflows"),
        task("scale", fill(), needs=["ecal.workflows@run"], payloads=["Laser"]),
        task("check", fill(), needs=["ecal.scale@fill"]),
    ).model_copy(update={"params": {"window": 20, "other": 1}})
    put_runs(ledger, flow, [facts(1, 1), facts(2, 1), facts(3, 1), facts(4, 2)])
    group = group_ids(ledger, "fill", "ecal")["fill-r1"]
    with ledger.write() as connection:
        campaigns.get(connection, "prompt")
        skips.add(connection, "prompt", "ecal", [2], task="scale", reason="x", person="ada", now=T0)
    for number in (1, 3):
        done(ledger, group_ids(ledger, "run")[f"run-r{number}"], "workflows")
    publish_for(ledger, tmp_path, "Laser")
    with ledger.read() as connection:
        scale = gather(connection, flow, flow.tasks["scale"], group, {"window": 30})
    done(ledger, group, "scale")
    with ledger.read() as connection:
        check = gather(connection, flow, flow.tasks["check"], group)
        run = gather(connection, flow, flow.tasks["workflows"], group_ids(ledger, "run")["run-r2"])
    assert (scale.runs, scale.excluded_runs) == ([1, 3], [2])
    assert check.excluded_runs == [2], "what it needs in its own DAG was made without that run"
    assert (run.runs, run.variables["run"]["number"]) == ([2], 2)
    assert scale.variables["params"] == {"window": 30, "other": 1}
    assert scale.variables["group"]["n_runs"] == 2
    assert scale.variables["tasks"] == {"workflows": {"products": {}}}
    assert scale.variables["workflows"] == {}
    assert [record["number"] for record in scale.variables["runs"]] == [1, 3]
    assert "run" not in scale.variables


@pytest.mark.parametrize("odd", ["/data/\x00.root", "/data/\ud800.root"])
def test_an_input_is_a_text_that_can_be_written_to_a_file(odd: str) -> None:
    with pytest.raises(RenderError, match=r"line break|half of a character in an input: '/data/\\ud"):
        rendered(Jobs(command=("x",), inputs="{{ run.files }}"), run={"files": [odd]})
    with pytest.raises(RenderError, match=r"(a NUL|half of a) character in the value of '\{\{ run.files\[0\] \}\}'"):
        rendered(Jobs(command=("x", "{{ run.files[0] }}")), run={"files": [odd]})
