"""Every command, for people and for programs, on a real ledger."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from airflow_calib_provider.domain.observation import AttemptState, FailureClass
from airflow_calib_provider.ledger import tables
from tests.cli.conftest import Calib
from tests.cli.world import World, row
from tests.postgres.fixture import database  # noqa: F401  on both
from tests.postgres.places import is_new, ledger_url


def test_spec_check_shows_what_becomes_of_the_files(world: World, calib: Calib) -> None:
    text = calib.plain("spec", "check")
    assert "demo__fill" in text
    assert "scale, deliver" in text
    lines = calib.json("spec", "check")
    assert {line["dag_id"] for line in lines} == {"demo__run", "demo__fill", "other__run", "third__run"}
    assert calib.json("spec", "check", "workflow_specs/demo.yaml")[0]["tasks"] == ["skim"]


def test_spec_check_shows_all_mistakes_at_once(world: World, calib: Calib) -> None:
    (world.specs / "demo.yaml").write_text(
        (world.specs / "demo.yaml").read_text().replace("needs: [scale]", "needs: [scal]")
    )
    (world.specs / "other.yaml").write_text("apiVersion: calib/v1\nworkflow: other\nrunz: {}\n")
    stderr = calib.fails("spec", "check", code=2)
    assert "workflow_specs/demo.yaml:" in stderr
    assert "workflow_specs/other.yaml:3:1" in stderr
    found = json.loads(calib("spec", "check", "--json").stdout)
    assert {Path(item["file"]).name for item in found["errors"]} >= {"demo.yaml", "other.yaml"}
    assert all(item["line"] > 0 for item in found["errors"])
    assert "nowhere" in calib.fails("spec", "check", "nowhere", code=2)


@pytest.mark.parametrize("paths", [(), ("workflow_specs/demo.yaml", "workflow_specs/third.yaml")])
def test_spec_check_tells_a_mistake_of_sources_or_categories_once(
    world: World, calib: Calib, paths: tuple[str, ...]
) -> None:
    sources = world.specs / "sources.yaml"
    good = sources.read_text()
    sources.write_text(good.replace("fill: int", "fill: itn"))
    (told,) = [line for line in calib.fails("spec", "check", *paths, code=2).splitlines() if ".yaml:" in line]
    assert told.startswith("workflow_specs/sources.yaml:5:")
    sources.write_text(good)
    (world.specs / "categories.yaml").write_text("apiVersion: calib/v1\ncategories: {bright: run.lumi >}\n")
    for name in ("demo", "third"):
        file = world.specs / f"{name}.yaml"
        file.write_text(file.read_text().replace("source: daq,", "source: daq, categories: [bright],"))
    (told,) = [line for line in calib.fails("spec", "check", *paths, code=2).splitlines() if ".yaml:" in line]
    assert told.startswith("workflow_specs/categories.yaml:2:31: ")
    assert [item["line"] for item in json.loads(calib("spec", "check", *paths, "--json").stdout)["errors"]] == [2]


def test_spec_stubs(world: World, calib: Calib) -> None:
    assert calib("spec", "stubs", "--check").exit_code == 1
    assert not Path("dags").exists()
    assert "dags/demo.py: written" in calib.plain("spec", "stubs")
    repository = Path(__file__).parents[2]
    for name, ours in (("zee", "demo"), ("calib_system", "calib_system"), ("calib_problems", "calib_problems")):
        expected = (repository / "dags" / f"{name}.py").read_text().replace("zee", "demo")
        assert Path("dags", f"{ours}.py").read_text() == expected
    assert calib.json("spec", "stubs", "--check") == {
        "changed": [],
        "dead": [],
        "written": False,
        "files": [f"dags/{name}.py" for name in ("demo", "other", "third", "calib_system", "calib_problems")],
    }
    Path("dags/demo.py").write_text("import os\n")
    assert "--force" in calib.fails("spec", "stubs")
    assert Path("dags/demo.py").read_text() == "import os\n"
    calib.plain("spec", "stubs", "--force")
    assert "workflow_dags" in Path("dags/demo.py").read_text()


def test_spec_stubs_of_unusual_folders(world: World, calib: Calib) -> None:
    world.specs.rename("specs")
    calib.plain("spec", "stubs", "--specs", "specs", "--dags", "airflow/dags")
    assert 'workflow_dags(__file__, "../../specs/demo.yaml")' in Path("airflow/dags/demo.py").read_text()
    assert 'system_dags(__file__, "../../specs")' in Path("airflow/dags/calib_system.py").read_text()


def test_spec_stubs_into_a_loop_of_links(world: World, calib: Calib, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert str(loop) in calib.fails("spec", "stubs", "--dags", str(loop))


def test_runs_list(busy: World, calib: Calib) -> None:
    assert "fill-r2" in calib.plain("runs", "list", "--workflow", "demo")
    lines = calib.json("runs", "list", "--workflow", "demo", "--state", "not_selected")
    assert {line["run"] for line in lines} == {7}
    assert lines[0]["why"] == "not selected: `run.lumi > 0.0` is false"
    unassigned = calib.json("runs", "list", "--state", "unassigned")
    assert [line["run"] for line in unassigned] == [8]
    assert calib.json("runs", "list", "--last", "1")[0]["run"] == 8
    assert "no state" in calib.fails("runs", "list", "--state", "dnoe", code=2)
    assert "contradict" in calib.fails("runs", "list", "--state", "grouped", "--late")


def test_runs_list_late(busy: World, calib: Calib) -> None:
    assert calib.json("runs", "list", "--late") == []
    busy.inject(row(1, lumi=3.0), *(row(number, fill=number // 2) for number in range(3, 8)))
    late = calib.json("runs", "list", "--late", "--workflow", "third")
    assert [line["run"] for line in late] == [1]
    assert late[0]["state"] == "late"


def test_runs_add(busy: World, calib: Calib) -> None:
    busy.runs(row(40, fill=9), row(41, fill=9), file="more.csv")
    assert "2 new" in calib.plain("runs", "add", "more.csv", "--source", "daq")
    again = calib.json("runs", "add", "more.csv", "--source", "daq")
    assert again == {"source": "daq", "listed": 2, "new": 0, "changed": 0}
    assert {line["run"] for line in calib.json("runs", "list", "--state", "unassigned")} == {8, 40, 41}
    assert "no run source" in calib.fails("runs", "add", "more.csv", "--source", "dqa")
    assert "no file" in calib.fails("runs", "add", "nothing.csv", "--source", "daq")
    Path("bad.csv").write_text("number,fill\nseven,1\n")
    calib.fails("runs", "add", "bad.csv", "--source", "daq")


def test_status(busy: World, calib: Calib) -> None:
    text = calib.plain("status", "--workflow", "demo")
    assert "demo.skim: 3 done, 1 failed, 2 new, 1 not_selected" in text
    found = calib.json("status", "--workflow", "demo")
    states = {line["run"]: line["states"] for line in found["runs"]}
    assert states[2] == {"demo.skim": "done", "demo.scale": "done", "demo.deliver": "done"}
    assert states[5]["demo.skim"] == "failed"
    assert states[7] == {"demo.skim": "not_selected", "demo.scale": "not_selected", "demo.deliver": "not_selected"}
    assert states[8]["demo.skim"] == "new"
    assert found["totals"]["demo.skim"] == {"done": 3, "failed": 1, "new": 2, "not_selected": 1}
    assert [line["run"] for line in calib.json("status", "--last", "2")["runs"]] == [7, 8]
    assert [line["run"] for line in calib.json("status", "--run", "3", "--run", "5")["runs"]] == [3, 5]
    assert "no such run: 99" in calib.fails("status", "--run", "99")
    assert "no campaign rereco" in calib.fails("status", "--campaign", "rereco")


def test_totals_agree_with_the_rows(busy: World, calib: Calib) -> None:
    calib.plain("skip", "4", "--reason", "bad magnet", "--workflow", "demo")
    found = calib.json("status", "--last", "0")
    for name, totals in found["totals"].items():
        counted: dict[str, int] = {}
        for line in found["runs"]:
            state = line["states"][name]
            counted[state] = counted.get(state, 0) + 1
        assert counted == totals, name


def test_status_asks_a_fixed_number_of_questions(busy: World) -> None:
    from sqlalchemy import event

    from airflow_calib_provider.ledger import queries

    counts = []
    for last in (1, 0):
        asked: list[str] = []

        def note(_: object, __: object, statement: str, *rest: object, into: list[str] = asked) -> None:
            into.append(statement)

        event.listen(busy.ledger.engine, "before_cursor_execute", note)
        with busy.ledger.read() as connection:
            queries.status(connection, "prompt", last=last)
            queries.groups_listed(connection, "prompt", last=last)
            queries.runs_listed(connection, "prompt", last=last)
        event.remove(busy.ledger.engine, "before_cursor_execute", note)
        counts.append(len(asked))
    assert counts[0] == counts[1]


def test_explain(busy: World, calib: Calib) -> None:
    text = calib.plain("explain", "8", "--workflow", "demo")
    assert "holds back every run above it" in text
    assert "released by" in text
    found = calib.json("explain", "run-r5", "--workflow", "demo", "--no-airflow")
    assert [cause["code"] for cause in found["causes"]] == ["jobs_failed"]
    assert found["causes"][0]["since"]
    assert "no group run-r99" in calib.fails("explain", "run-r99")
    assert "did you mean 'fill-r2'? `calib groups` lists them" in calib.fails("explain", "fill-2")
    assert "did you mean 'fill-r2'?" in calib.fails("explain", "Fill-r2")
    assert "several workflows" in calib.fails("explain", "run-r5")


def test_groups(busy: World, calib: Calib) -> None:
    assert "fill-r2" in calib.plain("groups")
    lines = {line["name"]: line for line in calib.json("groups", "--workflow", "demo")}
    assert lines["fill-r2"]["tasks"] == {"scale": "done", "deliver": "done"}
    assert lines["fill-r2"]["amounts"] == {"lumi": 12.0}
    assert lines["fill-r2"]["dag_run_state"] == "opened"
    assert [line["name"] for line in calib.json("groups", "--state", "forming")] == ["fill-r6"]
    assert [line["name"] for line in calib.json("groups", "--state", "failed", "-w", "demo")] == ["run-r5"]


def test_jobs_list(busy: World, calib: Calib) -> None:
    assert "removed" in calib.plain("jobs", "list", "--group", "run-r5", "--workflow", "demo")
    jobs = calib.json("jobs", "list", "--state", "succeeded", "--group", "run-r2", "--workflow", "demo")
    assert [(job["job_index"], job["host"], job["exit_code"]) for job in jobs] == [(0, "node1", 0), (1, "node1", 0)]
    assert len(calib.json("jobs", "list", "--task", "scale")) == 1
    assert "no group" in calib.fails("jobs", "list", "--group", "run-r99")


def test_jobs_list_tells_holds_memory_and_progress(busy: World, calib: Calib) -> None:
    generation = busy.begin("run-r6", "skim")
    hold = {"failure": FailureClass.TRANSFER, "hold_code": 12, "memory": 15 * 10**8}
    busy.observe(generation, 0, AttemptState.HELD, reason="no space", **hold)
    busy.observe(generation, 1, AttemptState.RUNNING, host="node2", memory=300_000_000, progress=0.4)
    listed = calib.plain("jobs", "list", "--group", "run-r6", "--workflow", "demo")
    assert "no space; hold code 12; class transfer; released or tried anew at" in listed
    assert "40% done" in listed
    assert "1.5 GB" in listed
    assert "300 MB" in listed
    assert max(len(line) for line in listed.splitlines()) <= 200
    (held,) = calib.json("jobs", "list", "--state", "held")
    assert (held["hold_code"], held["failure"], held["memory"], held["releases"]) == (12, "transfer", 15 * 10**8, 0)


def test_jobs_list_tells_why_a_submission_is_held_up(busy: World, calib: Calib) -> None:
    generation = busy.begin("run-r6", "skim")
    with busy.ledger.write() as connection:
        of_it = tables.generation.c.id == generation
        connection.execute(update(tables.generation).where(of_it).values(trouble="the server does not answer"))
    listed = calib.plain("jobs", "list", "--group", "run-r6", "--workflow", "demo")
    assert {item["state"] for item in calib.json("jobs", "list", "--group", "run-r6", "-w", "demo")} == {"submitted"}
    assert listed.count("the server does not answer") == 2


def test_memory_of_a_large_machine(busy: World, calib: Calib) -> None:
    generation = busy.begin("run-r6", "skim")
    busy.observe(generation, 0, AttemptState.RUNNING, memory=2 * 10**12)
    assert "2 TB" in calib.plain("jobs", "list", "--group", "run-r6", "--workflow", "demo")


def test_a_job_that_never_started_wrote_nothing(busy: World, calib: Calib) -> None:
    generation = busy.begin("run-r6", "skim")
    busy.observe(generation, 0, AttemptState.FAILED, reason="did not start within 20 s: ErrImagePull")
    said = calib.fails("jobs", "logs", "run-r6", "skim", "0", "-w", "demo", "--attempt", "1")
    assert "what is known of it: did not start within 20 s: ErrImagePull" in said


def test_jobs_logs(busy: World, calib: Calib) -> None:
    assert calib.plain("jobs", "logs", "run-r2", "skim", "1", "-w", "demo") == "job 1 says\nhello\n"
    assert calib.plain("jobs", "logs", "run-r2", "skim", "1", "-w", "demo", "--tail", "1") == "hello\n"
    assert calib.json("jobs", "logs", "run-r2", "skim", "-w", "demo", "--stderr")["text"] == "a warning\n"
    assert "no job 7" in calib.fails("jobs", "logs", "run-r2", "skim", "7", "-w", "demo")
    assert "no attempt 2" in calib.fails("jobs", "logs", "run-r2", "skim", "-w", "demo", "--attempt", "2")
    assert "no jobs yet" in calib.fails("jobs", "logs", "fill-r4", "scale")
    assert "there is no file" in calib.fails("jobs", "logs", "run-r5", "skim", "-w", "demo")


def test_skip_a_run(busy: World, calib: Calib) -> None:
    assert "skipped 8" in calib.plain("skip", "8", "--reason", "aborted")
    again = calib.json("skip", "8", "--reason", "aborted")
    assert {item["workflow"]: item["runs"] for item in again["skipped"]} == {"demo": [], "other": [], "third": []}
    codes = [cause["code"] for cause in calib.json("explain", "8", "-w", "demo", "--no-airflow")["causes"]]
    assert "run_skipped" in codes
    assert "no run 99" in calib.fails("skip", "99", "--reason", "x")
    assert "needs a reason" in calib.fails("skip", "7", "--reason", " ")
    assert "no workflow dmo" in calib.fails("skip", "7", "--reason", "x", "--workflow", "dmo")
    assert "no task sale" in calib.fails("skip", "7", "--reason", "x", "--task", "sale")


def notes(skipped: dict[str, Any], workflow: str = "demo") -> list[str]:
    return next(item["notes"] for item in skipped["skipped"] if item["workflow"] == workflow)


def test_a_skip_says_why_and_is_brief(busy: World, calib: Calib) -> None:
    assert "needs a reason" in calib.fails("skip", "1", "--workflow", "demo", "--reason", " ")
    assert "more than 1,000" in calib.fails("skip", "1", "--workflow", "demo", "--reason", "x" * 1001)


def test_skip_of_what_is_done_says_that_it_comes_too_late(busy: World, calib: Calib) -> None:
    made = "the payload Scale of runs 2–3 (revision 1) was made with what is skipped now, and stays"
    text = calib.plain("skip", "2", "--reason", "magnet off", "--workflow", "demo")
    assert "nothing in demo waits for run 2 any more: what is done was done with it" in text
    assert made in text
    assert notes(calib.json("skip", "2", "--reason", "again", "--workflow", "demo")) == []
    assert notes(calib.json("skip", "3", "--task", "skim", "--reason", "x", "--workflow", "demo")) == [
        "nothing in demo waits for run 3 any more: what is done was done with it",
        made,
    ]


def test_skip_of_what_something_waits_for_has_no_note(busy: World, calib: Calib) -> None:
    # skim is done for run 4, but scale of fill-r4 waits for run 5; run 8 is in no group yet.
    for run in ("4", "8"):
        assert notes(calib.json("skip", run, "--reason", "x")) == []


def test_skip_a_group(busy: World, calib: Calib) -> None:
    found = calib.json("skip", "fill-r4", "--task", "scale", "--reason", "no laser")
    assert found["skipped"] == [{"workflow": "demo", "task": "scale", "runs": [4, 5], "notes": []}]
    states = {line["run"]: line["states"] for line in calib.json("status", "-w", "demo")["runs"]}
    assert states[4]["demo.scale"] == "skipped"
    assert states[4]["demo.skim"] == "done"


def test_retry_without_airflow_changes_nothing(busy: World, calib: Calib) -> None:
    before = calib.json("status", "--last", "0")
    assert "CALIB_AIRFLOW_URL is not set" in calib.fails("retry", "run-r5", "--workflow", "demo")
    assert calib.json("status", "--last", "0") == before
    assert "no task of run-r2 has failed" in calib.fails("retry", "run-r2", "--workflow", "demo")
    assert "the run 2 is in" in calib.fails("retry", "2")
    assert "has no task nope" in calib.fails("retry", "run-r2", "--workflow", "demo", "--task", "nope")


def test_campaigns(busy: World, calib: Calib) -> None:
    text = calib.plain("campaign", "create", "again", "--source", "daq", "--runs", "2-4, 6", "--base", "prompt")
    assert "finite campaign again of 4 runs" in text
    every = calib.json("campaign", "create", "every", "--source", "daq", "--workflow", "demo")
    assert every["runs"] == [2, 3, 4, 5, 6, 7, 8]
    assert every["incomplete"] == [8]
    assert calib.json("campaign", "create", "beam", "--streamed")["kind"] == "streamed"
    listed = {line["name"]: line for line in calib.json("campaign", "list")}
    assert listed["again"]["n_runs"] == 4
    assert list(listed["every"]["spec_hashes"]) == ["demo"]
    assert listed["prompt"]["n_failed"] == 1
    assert "again" in calib.plain("campaign", "list")
    busy.inject()
    assert {line["run"] for line in calib.json("status", "--campaign", "again", "--last", "0")["runs"]} == {2, 3, 4, 6}
    codes = [cause["code"] for cause in calib.json("explain", "5", "-c", "again", "--no-airflow")["causes"]]
    assert set(codes) == {"not_in_campaign"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("again", "--source", "nothing"), "no run source nothing"),
        (("again", "--source", "daq", "--runs", "5-2"), "ends before it begins"),
        (("again", "--source", "daq", "--runs", "2,x"), "neither a run nor a range"),
        (("again", "--source", "daq", "--runs", "2,77"), "does not list 77"),
        (("again", "--source", "daq", "--runs", "100-200"), "would have no runs"),
        (("again", "--source", "daq", "--base", "nope"), "no campaign nope"),
        (("again", "--source", "daq", "--workflow", "nope"), "no workflow nope"),
        (("again", "--streamed", "--source", "daq"), "takes runs as they come"),
        (("prompt", "--streamed"), "exists already"),
        (("a b", "--streamed"), "cannot name a campaign"),
    ],
)
def test_campaign_mistakes(busy: World, calib: Calib, arguments: tuple[str, ...], message: str) -> None:
    assert message in calib.fails("campaign", "create", *arguments)
    assert [line["name"] for line in calib.json("campaign", "list")] == ["prompt"]


def test_the_first_campaign_does_not_keep_prompt_from_being_made(world: World, calib: Calib) -> None:
    calib.plain("campaign", "create", "beam", "--streamed")
    assert {line["name"] for line in calib.json("campaign", "list")} == {"prompt", "beam"}


def test_campaign_close(busy: World, calib: Calib) -> None:
    calib.plain("campaign", "create", "beam", "--streamed")
    busy.inject()
    assert "closed the campaign beam" in calib.plain("campaign", "close", "beam")
    assert "beam" in calib.fails("campaign", "close", "beam")
    assert "no campaign nope" in calib.fails("campaign", "close", "nope")
    assert "--yes" in calib.fails("campaign", "close", "prompt")
    assert calib.json("campaign", "close", "prompt", "--yes") == {
        "campaign": "prompt",
        "state": "closed",
        "forming_groups": 1,
    }


def test_payload_list(busy: World, calib: Calib) -> None:
    busy.publish("fill-r2", '{"scale": 1.02}')
    assert "Scale" in calib.plain("payload", "list")
    assert [line["revision"] for line in calib.json("payload", "list", "--tag", "Scale")] == [2]
    assert [line["state"] for line in calib.json("payload", "list", "--history")] == ["superseded", "published"]


def test_payload_get(busy: World, calib: Calib) -> None:
    assert calib.plain("payload", "get", "Scale", "3") == '{"scale": 1.01}'
    assert "runs 2–3" in calib.plain("payload", "get", "Scale", "3", "--output", "own.json")
    assert Path("own.json").read_text() == '{"scale": 1.01}'
    about = calib.json("payload", "get", "Scale", "3", "--provenance")
    assert about["provenance"] == {"runs": [2, 3]}
    assert json.loads(calib.plain("payload", "get", "Scale", "3", "--provenance")) == {"runs": [2, 3]}
    assert "no payload of Scale holds for run 5" in calib.fails("payload", "get", "Scale", "5")
    assert "did you mean 'Scale'? known: Scale" in calib.fails("payload", "get", "scale", "3")
    path = Path(about["path"])
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    path.write_text("spoilt")
    assert "damaged" in calib.fails("payload", "get", "Scale", "3")
    path.unlink()
    assert "is gone" in calib.fails("payload", "get", "Scale", "3")


@pytest.mark.parametrize("name", ["nowhere/own.json", "taken", ".", "pipe"])
def test_payload_get_says_which_file_it_cannot_write(busy: World, calib: Calib, name: str) -> None:
    Path("taken").mkdir()
    os.mkfifo("pipe")
    before = sorted(Path().iterdir())
    stderr = calib.fails("payload", "get", "Scale", "3", "--output", name)
    assert f"error: {name} " in stderr
    assert str(os.getpid()) not in stderr
    assert sorted(Path().iterdir()) == before


def test_db(world: World, calib: Calib, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "which fits" in calib.plain("db", "check")
    assert "already" in calib.plain("db", "upgrade")
    elsewhere = world.folder / "elsewhere"
    monkeypatch.setenv("CALIB_HOME", str(elsewhere))
    if "CALIB_LEDGER" in os.environ:
        is_new(elsewhere, empty=True)
        monkeypatch.setenv("CALIB_LEDGER", ledger_url(elsewhere))
    assert "calib db upgrade" in calib.fails("db", "check")
    assert "calib db upgrade" in calib.fails("status")
    round_folder = elsewhere / "spool/prompt.demo.skim.run-r1.g1.s0.r1"
    round_folder.mkdir(parents=True)
    assert "jobs of another one" in calib.fails("db", "upgrade")
    round_folder.rmdir()
    assert calib.json("db", "upgrade")["before"] is None
    assert calib.json("db", "check")["version"]
    assert "no campaign prompt yet" in calib.fails("status")


def test_a_file_that_is_no_ledger(world: World, calib: Calib) -> None:
    file = world.ledger.file
    if file is None:
        pytest.skip("only SQLite's ledger is a file")
    world.ledger.close()
    for name in (file, file.with_name(file.name + "-wal"), file.with_name(file.name + "-shm")):
        name.unlink(missing_ok=True)
    file.write_text("no database at all, but long enough to be taken for one" * 40)
    assert "error:" in calib.fails("status")


def test_a_wrong_command_line(world: World, calib: Calib) -> None:
    assert "--help" in calib.fails("status", "--nonsense", code=2)
    assert "error:" in calib.fails("nonsense", code=2)
    assert "error:" in calib.fails("jobs", "logs", "run-r2", "skim", "minus", code=2)


def test_text_of_others_is_not_taken_for_markup(busy: World, calib: Calib) -> None:
    calib.plain("skip", "8", "--reason", "[bold]not [red]here")
    assert "[bold]not [red]here" in calib.plain("explain", "8", "--no-airflow")
