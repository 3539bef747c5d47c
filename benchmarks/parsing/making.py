"""The specs that are built, and their stubs."""

from __future__ import annotations

from pathlib import Path

TASKS = 10
SOURCES = "apiVersion: calib/v1\nsources:\n  daq: {csv: {path: runs.csv}, fields: {fill: int, lumi: float}}\n"
STUB = "from airflow_calib_provider.dags.factory import workflow_dags\n\nglobals().update(workflow_dags(__file__))\n"


def spec(name: str) -> str:
    """A workflow whose tasks are one behind the other."""
    lines = [f"apiVersion: calib/v1\nworkflow: {name}\nruns: {{source: daq, where: 'run.lumi > 0.5'}}\ntasks:"]
    for number in range(TASKS):
        needs = f"needs: [t{number - 1}], " if number else "group_by: run, "
        command = '[fit, "{{ run.number }}", "{{ job.out }}"]'
        lines.append(f"  t{number}: {{{needs}jobs: {{command: {command}}}, products: {{out: o.txt}}}}")
    return "\n".join(lines) + "\n"


def write_specs(folder: Path, count: int) -> list[str]:
    """So many specs with their stubs; their names."""
    specs, dags = folder / "workflow_specs", folder / "dags"
    specs.mkdir(parents=True)
    dags.mkdir()
    (specs / "sources.yaml").write_text(SOURCES)
    names = [f"w{number}" for number in range(count)]
    for name in names:
        (specs / f"{name}.yaml").write_text(spec(name))
        (dags / f"{name}.py").write_text(STUB)
    return names
