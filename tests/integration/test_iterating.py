"""A task that iterates, in a real Airflow: one cell of the grid, whose triggerer dies meanwhile."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from airflow_calib_provider.ledger import tables
from tests.integration.harness import Installation

pytestmark = [pytest.mark.airflow, pytest.mark.timeout(900)]

WORKFLOW = "looped"
GROUP = "run-r7301"

UPDATE = (
    'read -r x < "$CALIB_CONSTANTS"; echo $((x / 2)) > "$CALIB_OUT/c.txt"; '
    'echo "{\\"metrics\\": {\\"offset\\": {\\"value\\": $x, \\"error\\": 0.1}}}" >> "$CALIB_REPORT"'
)
SPEC = f"""\
apiVersion: calib/v1
workflow: {WORKFLOW}
runs: {{source: {WORKFLOW}, since: 1}}
tasks:
  work:
    group_by: run
    iterate:
      constants: {{file: c.txt, from: {{file: "{{{{ spec.folder }}}}/offset.txt"}}}}
      phases:
        halve:
          measure:
            split: {{count: 2}}
            command: [sh, -c, 'sleep 1; cp "$CALIB_CONSTANTS" "$CALIB_OUT/m.txt"']
            products: {{m: m.txt}}
          update: {{command: [sh, -c, '{UPDATE}']}}
          metrics: {{offset: {{target: 0, within: 1}}}}
    products: {{constants: c.txt}}
  deliver:
    group_by: run
    needs: [work]
    publish: {{tag: LoopedConstants, file: "{{{{ tasks.work.products.constants }}}}"}}
"""


def test_it_goes_on_where_the_triggerer_died(installation: Installation) -> None:
    installation.add_workflow(WORKFLOW)
    (installation.specs / "offset.txt").write_text("64\n")
    installation.edit(installation.specs / f"{WORKFLOW}.yaml", SPEC)
    installation.add_runs([7301])
    assert installation.inject() == "success"

    def judged() -> int:
        return len(installation.rows(select(tables.step.c.n).where(tables.step.c.state == "judged")))

    installation.wait(lambda: judged() >= 2, 300, "two steps")
    installation.kill("triggerer")
    task = (f"{WORKFLOW}/{GROUP}", "deliver")
    installation.wait(lambda: installation.task_states().get(task) == "done", 400, "the publication")
    found = json.loads(installation.calib("steps", GROUP, "--workflow", WORKFLOW, "--json"))
    values = [one["metrics"]["offset"]["value"] for one in found]
    assert values == [64, 32, 16, 8, 4, 2, 1]
    assert found[-1]["ending"] == "converged"
    assert installation.calib("payload", "get", "LoopedConstants", "7301") == "1\n", "what was measured to be good"
    where = f"/api/v2/dags/{WORKFLOW}__run/dagRuns/prompt__{GROUP}/taskInstances/work/xcomEntries/reason"
    assert "stage 1, halve, step 7: converged" in installation.airflow.call("GET", where)["value"]
    attempts = installation.rows(
        select(tables.attempt.c.step, tables.attempt.c.job_index).where(tables.attempt.c.step > 0)
    )
    assert len(attempts) == len(set(attempts)), "no job ran twice"
