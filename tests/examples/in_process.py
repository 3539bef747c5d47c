"""Examples that iterate, without processes: the core says which step is next, and what is to be made of it."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from airflow_calib_provider.domain.iteration.detectors import judge
from airflow_calib_provider.domain.iteration.metrics import Reported, read_report
from airflow_calib_provider.domain.iteration.phases import JudgedStep, MadeStep
from airflow_calib_provider.domain.iteration.sequence import IterationEnd, IterationPlan, Leg, Next, next_step
from airflow_calib_provider.spec.models import Jobs, PhaseJobs, Workflow
from airflow_calib_provider.spec.templates import render_command

EXAMPLES = Path(__file__).parents[2] / "workflow_specs" / "examples"


def program(name: str) -> ModuleType:
    """One of the programs beside the workflows of the field."""
    found = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class InProcess:
    """Runs the commands of a task's phases one after the other, in the order in which the core wants them.

    :param run: what a command's arguments are given to, :param skip: how many words before them name it.
    :param shares: the inputs of each job.
    """

    def __init__(
        self,
        workflow: Workflow,
        task: str,
        begun: Path,
        folder: Path,
        run: Callable[[Sequence[str]], object],
        skip: int,
        shares: Sequence[Sequence[Path]],
    ) -> None:
        iteration = workflow.tasks[task].iteration
        assert iteration is not None
        self.workflow, self.iteration, self.folder, self.begun = workflow, iteration, folder, begun
        self.run_command, self.skip, self.shares = run, skip, shares
        self.plan = IterationPlan(tuple(Leg(stage, iteration.phases[name].phase) for stage, name in iteration.legs))
        self.files: dict[tuple[int, bool], Path] = {}
        self.results: dict[str, Path] = {}
        self.steps: list[JudgedStep] = []

    def run(self) -> IterationEnd:
        """All steps, to the end."""
        while isinstance(following := next_step(self.plan, self.steps), Next):
            self._make(following)
        return following

    def constants(self, end: IterationEnd) -> Any:
        """What it ended with."""
        assert end.result is not None
        return json.loads(self.files[end.result.step, end.result.updated].read_text())

    def _make(self, step: Next) -> None:
        own: PhaseJobs = self.iteration.phases[step.phase]
        begun = self.begun if step.constants is None else self.files[step.constants.step, step.constants.updated]
        place = self.folder / f"{step.n}"
        outs = [
            self._job(own.measure, step, begun, place / f"{index}", index, share)
            for index, share in enumerate(self.shares)
        ]
        self.results[step.phase] = place / "results.json"
        made = [{name: out / file for name, file in own.measured.items()} for out in outs]
        listed = [{"products": {name: str(file) for name, file in one.items()}} for one in made]
        self.results[step.phase].write_text(json.dumps({"results": listed}))
        measured = [file for one in made for file in one.values()]
        out = self._job(own.update, step, begun, place / "update", 0, measured)
        self.files[step.n, False], self.files[step.n, True] = begun, out / self.iteration.file
        (told,) = _told(out) or [None]
        of_now = MadeStep(
            n=step.n,
            stage=step.stage,
            phase=step.phase,
            visit=step.visit,
            outcome=Reported() if told is None else read_report(told, own.phase.metrics),
            constants_in=begun.read_text(),
            constants_out=(out / self.iteration.file).read_text(),
            events=sum(int(one["value"]) for out in outs for one in _told(out) if one["name"] == "events"),
        )
        self.steps.append(judge(own.phase, self.steps, of_now))

    def _job(self, jobs: Jobs, step: Next, begun: Path, out: Path, index: int, inputs: Sequence[Path]) -> Path:
        out.mkdir(parents=True)
        (out / "inputs").write_text("\n".join(map(str, inputs)))
        results = self.results.get(step.phase)
        known: Mapping[str, Any] = {
            "params": self.workflow.params,
            "spec": {"folder": str(self.begun.parent)},
            "constants": {"file": str(begun)},
            "step": {"phase": step.phase, "results_file": str(results)},
            "phases": {name: {"results_file": str(file)} for name, file in self.results.items()},
            "job": {
                "index": index,
                "count": len(self.shares),
                "report": str(out / "report"),
                "out": str(out),
                "inputs_file": str(out / "inputs"),
            },
        }
        os.environ["CALIB_REPORT"] = str(out / "report")
        try:
            self.run_command(render_command(jobs.command, known)[self.skip :])
        finally:
            del os.environ["CALIB_REPORT"]
        return out


def _told(out: Path) -> list[Any]:
    report = out / "report"
    return [json.loads(line) for line in report.read_text().splitlines()] if report.exists() else []
