"""A task that iterates, in a real Airflow: one cell of the grid, whose triggerer dies meanwhile."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

RESERVED = "workers: {count: 2, reserve: true, heartbeat: 1s, lost_after: 20s}"

UPDATE = (
    'read -r x < "$CALIB_CONSTANTS"; echo $((x / 2)) > "$CALIB_OUT/c.txt"; '
    'echo "{\\"metrics\\": {\\"offset\\": {\\"value\\": $x, \\"error\\": 0.1}}}" >> "$CALIB_REPORT"'
)
SPEC = """\
apiVersion: calib/v1
workflow: WORKFLOW
runs: {source: WORKFLOW, since: 1}
tasks:
  work:
    group_by: run
    iterate:
      constants: {file: c.txt, from: {file: "{{ spec.folder }}/offset.txt"}}
      phases:
        halve:
          measure:
            split: {count: 2}
            command: [sh, -c, 'sleep 1; cp "$CALIB_CONSTANTS" "$CALIB_OUT/m.txt"']
            products: {m: m.txt}
          update: {command: [sh, -c, 'UPDATE']}
          metrics: {offset: {target: 0, within: 1}}
    products: {constants: c.txt}
  deliver:
    group_by: run
    needs: [work]
    publish: {tag: TAG, file: "{{ tasks.work.products.constants }}"}
"""


@pytest.mark.parametrize(
    ("workflow", "run", "more"),
    [("looped", 7301, ""), pytest.param("kept", 7302, f"{RESERVED}\n      ", marks=pytest.mark.long)],
    ids=["a round per step", "reserved"],
)
def test_it_goes_on_where_the_triggerer_died(installation: Installation, workflow: str, run: int, more: str) -> None:
    installation.add_workflow(workflow)
    (installation.specs / "offset.txt").write_text("64\n")
    tag, group = f"{workflow.capitalize()}Constants", f"run-r{run}"
    text = SPEC.replace("UPDATE", UPDATE).replace("WORKFLOW", workflow).replace("TAG", tag)
    installation.edit(installation.specs / f"{workflow}.yaml", text.replace("phases:", f"{more}phases:"))
    installation.add_runs([run])
    assert installation.inject() == "success"

    of_it = select(tables.generation.c.id).join(tables.run_group, tables.run_group.c.id == tables.generation.c.group_id)
    of_it = of_it.where(tables.run_group.c.name == group, tables.run_group.c.workflow == workflow)

    def judged() -> int:
        here = tables.step.c.generation_id.in_(of_it)
        return len(installation.rows(select(tables.step.c.n).where(here, tables.step.c.state == "judged")))

    installation.wait(lambda: judged() >= 2, 300, "two steps")
    installation.kill("triggerer")
    task = (f"{workflow}/{group}", "deliver")
    installation.wait(lambda: installation.task_states().get(task) == "done", 400, "the publication")
    found = json.loads(installation.calib("steps", group, "--workflow", workflow, "--json"))
    values = [one["metrics"]["offset"]["value"] for one in found]
    assert values == [64, 32, 16, 8, 4, 2, 1]
    assert found[-1]["ending"] == "converged"
    assert installation.calib("payload", "get", tag, str(run)) == "1\n", "what was measured to be good"
    where = f"/api/v2/dags/{workflow}__run/dagRuns/prompt__{group}/taskInstances/work/xcomEntries/reason"
    assert "stage 1, halve, step 7: converged" in installation.airflow.call("GET", where)["value"]
    attempts = installation.rows(
        select(tables.attempt.c.step, tables.attempt.c.job_index).where(
            tables.attempt.c.generation_id.in_(of_it), tables.attempt.c.step > 0
        )
    )
    assert len(attempts) == len(set(attempts)), "no job ran twice"
