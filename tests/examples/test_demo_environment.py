"""The file that a shell sources to see the demonstration's Airflow."""

from __future__ import annotations

import subprocess
from pathlib import Path

from demo.__main__ import write_environment


def test_a_shell_gets_every_value_as_it_is(tmp_path: Path) -> None:
    values = {"CALIB_HOME": "/a b/'c'", "AIRFLOW_CONN_X": '{"extra": {"$HOME": "`id`"}}', "SECRET": "not this one"}
    file = write_environment(tmp_path / "environment", values)
    assert file.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(
        ["sh", "-c", f'. {file}; printf "%s\\n" "$CALIB_HOME" "$AIRFLOW_CONN_X" "$SECRET"'],
        capture_output=True,
        text=True,
        check=True,
        env={},
    )
    assert shown.stdout.splitlines() == [values["CALIB_HOME"], values["AIRFLOW_CONN_X"], ""]
