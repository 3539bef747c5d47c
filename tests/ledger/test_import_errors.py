"""What `calib explain` makes of Airflow's import errors: every mistake, once, in the order of the file."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from airflow_calib_provider.errors import Place, SpecError, SpecErrors
from airflow_calib_provider.ledger.explain import DagRun, Explanation
from airflow_calib_provider.ledger.explain_airflow import AirflowFacts, DagRunFacts, airflow_causes
from airflow_calib_provider.spec.loader import load_workflow

MISTAKES = [SpecError(f"mistake {number}", Place(Path("/specs/demo.yaml"), number, 1)) for number in range(1, 5)]


def of(*labels: str) -> Explanation:
    """Groups of two groupings of one workflow, and the DAG run of calib_inject beside them."""
    runs = [
        DagRun("demo", f"{label}-r1", f"demo__{label}", "prompt__x", "opened", {"t": "new"}, False) for label in labels
    ]
    return Explanation(dag_runs=runs)


def facts(explanation: Explanation, *traces: tuple[str, str]) -> AirflowFacts:
    health = {name: {"status": "healthy"} for name in ("metadatabase", "scheduler", "triggerer", "dag_processor")}
    errors = [{"filename": file, "stack_trace": trace, "timestamp": None} for file, trace in traces]
    known = {(item.dag_id, item.run_id): DagRunFacts(None, None) for item in explanation.dag_runs}
    return AirflowFacts(health=health, import_errors=errors, dag_runs=known)


def trace_of(error: Exception, cause: Exception | None = None) -> str:
    try:
        raise error from cause
    except type(error):
        return traceback.format_exc()


@pytest.mark.parametrize("cause", [None, MISTAKES[3]])
def test_all_mistakes_of_a_file_are_told_once(cause: Exception | None) -> None:
    asked = of("run", "fill")
    trace = trace_of(SpecErrors([*MISTAKES, MISTAKES[1]]), cause)
    found = airflow_causes(asked, facts(asked, ("demo.py", trace), ("calib_system.py", trace)))
    (told,) = [item for item in found if item.code == "dag_import_error"]
    said = [str(mistake) for mistake in MISTAKES]
    assert told.reason["error"].splitlines() == said
    assert all(told.text.count(line) == 1 for line in said)


def test_another_error_is_its_last_line() -> None:
    asked = of("run")
    (told,) = airflow_causes(asked, facts(asked, ("demo.py", trace_of(KeyError("x")))))
    assert told.text == "Airflow cannot import demo.py: KeyError: 'x'"


def test_an_import_error_without_a_text() -> None:
    asked = of("run")
    (told,) = airflow_causes(asked, facts(asked, ("demo.py", "")))
    assert told.text == "Airflow cannot import demo.py: unknown"


def test_airflow_shows_each_mistake_of_a_file_once(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    for content in (b"apiVersion: [\n", b"\xff", b""):
        file.write_bytes(content)
        with pytest.raises(SpecErrors) as caught:
            load_workflow(file, sources={})
        trace = "".join(traceback.format_exception(caught.value))
        assert trace.count(caught.value.errors[0].message) == 1
