"""The example of a whole iterative calibration, with real jobs and without Airflow; also to be killed anywhere."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from airflow_calib_provider.domain.new_campaign import NewCampaign
from airflow_calib_provider.injection.creation import create
from airflow_calib_provider.jobsets.begin import begin
from airflow_calib_provider.jobsets.folders import job_folder
from airflow_calib_provider.ledger import generations, steps, tables
from tests.examples.in_process import EXAMPLES
from tests.postgres.places import is_new, ledger_url, migrated
from tests.worlds import WithJobs, WithSpecs

NAMES = ("calo.yaml", "calo.py", "calo_start.json", "sources.yaml", "runs.csv")


class CaloPlace(WithSpecs, WithJobs):
    """An installation with the workflow.

    :param folder: of everything; what is there already is gone on with.
    :param changes: of the text of the workflow.
    """

    def __init__(self, folder: Path, changes: Sequence[tuple[str, str]] = ()) -> None:
        self.specs = folder / "workflow_specs"
        fresh = is_new(folder)
        self.ledger = migrated(ledger_url(folder))
        if fresh:
            self.specs.mkdir()
            for name in NAMES:
                shutil.copy(EXAMPLES / name, self.specs)
            text = (EXAMPLES / "calo.yaml").read_text()
            for before, after in changes:
                assert before in text
                text = text.replace(before, after)
            (self.specs / "calo.yaml").write_text(text)
            self.take()

    def campaign(self, name: str, **overrides: object) -> None:
        """Have the same runs calibrated once more."""
        wanted = NewCampaign(name, source="detector", runs="101", workflows=("calo",), overrides=overrides)
        create(self.ledger, self.specs, wanted, datetime.now(UTC))
        self.take()

    def begin(self, task: str, campaign: str = "prompt") -> int:
        flow, now = self.workflows["calo"], datetime.now(UTC)
        group = next(row.id for row in self.rows(tables.run_group) if row.campaign == campaign)
        own = flow.tasks[task]
        return begin(self.ledger, flow, own, group, max_tries=0, dag_run_id="x", now=now).generation_id

    def steps(self, generation: int) -> list[steps.StepRow]:
        with self.ledger.read() as connection:
            return steps.steps_of(connection, generation)

    def history(self, generation: int) -> list[tuple[int, str, str, str | None]]:
        """What must come out the same, whoever was killed meanwhile."""
        return [(one.n, one.state, one.constants_hash, one.updated_hash) for one in self.steps(generation)]

    def constants(self, generation: int) -> dict[str, float]:
        with self.ledger.read() as connection:
            row = generations.by_id(connection, generation)
        found: dict[str, float] = json.loads((job_folder(row.folder, 0) / "out" / "calo.json").read_text())
        return found


def work(folder: Path) -> None:
    """What a triggerer does."""
    place = CaloPlace(folder)
    print(place.finish(place.begin("constants"), 3600).state)
