"""Whether credentials hold now, and whether one had expired when a job ended."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_calib_provider.credentials import CALLED, VARIABLES, standing, told
from airflow_calib_provider.credentials.standing import had_expired, is_lapse, lapse
from tests.credentials import making

HOUR = timedelta(hours=1)


def put(file: Path, content: bytes) -> None:
    """As whoever renews it does: a new file in the place of the old one."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


@pytest.mark.parametrize("kind", VARIABLES)
def test_one_that_has_expired_says_since_when_until_it_is_renewed(tmp_path: Path, kind: str) -> None:
    file, now = tmp_path / "file", making.now()
    put(file, making.content(kind, now + HOUR))
    stated = {kind: str(file)}
    assert lapse(stated, now) == ""
    said = lapse(stated, now + HOUR)
    when = (now + HOUR).strftime("%Y-%m-%d %H:%M:%S UTC")
    assert said == f"the {CALLED[kind]} {file} expired at {when}: no job is submitted until it is renewed"
    assert is_lapse(said)
    assert had_expired(stated, now + 2 * HOUR) == f"its {CALLED[kind]} had expired at {when}"
    put(file, making.content(kind, now + 3 * HOUR))
    assert lapse(stated, now + HOUR) == ""


def test_what_failed_before_a_renewal_is_known_after_it(tmp_path: Path) -> None:
    file, now = tmp_path / "file", making.now()
    stated = {"proxy": str(file)}
    put(file, making.proxy(now - HOUR))
    assert lapse(stated, now)
    put(file, making.proxy(now + HOUR))
    assert lapse(stated, now) == ""
    assert had_expired(stated, now - 2 * HOUR) == ""
    assert had_expired(stated, now - HOUR / 2).startswith("its proxy had expired at ")
    assert had_expired(stated, now + standing.AFTERMATH / 2)
    assert had_expired(stated, now + 2 * standing.AFTERMATH) == ""
    put(file, making.proxy(now + 2 * HOUR))
    # One that was renewed in time leaves nothing behind.
    assert had_expired(stated, now - HOUR / 2) == ""


def test_a_file_that_is_not_there_or_is_none_says_so(tmp_path: Path) -> None:
    file, now = tmp_path / "file", making.now()
    stated = {"token": str(file)}
    assert lapse(stated, now).startswith(f"the token {file} cannot be used: No such file")
    os.mkfifo(file)  # must not be waited for
    assert "it is no file" in lapse(stated, now)
    file.unlink()
    file.write_text("secret word")
    said = lapse(stated, now)
    assert "no JSON Web Token" in said
    assert "secret" not in said
    assert is_lapse(said)
    assert had_expired(stated, now) == ""
    put(file, making.token({"exp": now.timestamp() + 10}))
    assert lapse(stated, now) == ""
    file.unlink()
    assert had_expired(stated, now + HOUR)  # it would have by then, wherever it is


def test_several_are_told_together(tmp_path: Path) -> None:
    now = making.now()
    stated = {kind: str(tmp_path / kind) for kind in VARIABLES}
    for kind, path in stated.items():
        put(Path(path), making.content(kind, now + (HOUR if kind == "token" else -HOUR)))
    said = lapse(stated, now)
    assert [kind for kind in VARIABLES if f"the {CALLED[kind]} {stated[kind]} expired" in said] == ["proxy", "kerberos"]


def test_other_trouble_is_no_lapse() -> None:
    assert not is_lapse("the schedd does not answer: the token /t expired at noon")


def test_which_files_jobs_are_told_of() -> None:
    stated = {"proxy": "/p", "kerberos": "/k", "token": "/t"}
    environment = {"X509_USER_PROXY": "/p", "KRB5CCNAME": "FILE:/k", "BEARER_TOKEN_FILE": "/elsewhere"}
    assert told(stated, environment) == ["/p", "/k"]
