"""What is wrong with one file, and keeps others from being right, is told once."""

from __future__ import annotations

import pickle
from pathlib import Path

from airflow_calib_provider.errors import told_once
from airflow_calib_provider.spec.loader import load_folder
from tests.spec.test_loader import SOURCES, task, workflow


def test_what_follows_from_the_mistakes_of_another_file_is_told_there_alone(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(workflow(name, task("t"), "bad"))
    (tmp_path / "sources.yaml").write_text(SOURCES + "  bad: {csv: {}}\n")
    workflows, mistakes = load_folder(tmp_path)
    assert workflows == {}
    assert len(mistakes) == 3
    (told,) = told_once(mistakes)
    assert told.file == tmp_path / "sources.yaml"
    kept = pickle.loads(pickle.dumps(mistakes))
    assert [str(one) for one in told_once(kept)] == [str(told)]
    alone = [one for one in mistakes if one.file != tmp_path / "sources.yaml"]
    assert told_once(alone) == alone, "of a file alone it is all that is known"
