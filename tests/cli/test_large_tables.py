"""A list of very many lines is printed in a moment."""

from __future__ import annotations

import time

import pytest

from airflow_calib_provider.cli import output

HEADS = ["tag", "first", "state", "made by", "published"]


def lines(rows: int) -> list[list[object]]:
    return [["Fit", number, "published", f"ecal.deliver of fill-r{number}", None] for number in range(rows)]


def test_a_large_table_says_the_same(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    output.table(HEADS, lines(20))
    drawn = capsys.readouterr().out
    monkeypatch.setattr(output, "LARGE", 10)
    output.table(HEADS, lines(20))
    plain = capsys.readouterr().out
    words = [[line.split() for line in text.splitlines() if line.strip(" ─-")] for text in (drawn, plain)]
    assert words[0] == words[1]
    assert "published" in plain
    assert len({line.index("published") for line in plain.splitlines()[3:] if line}) == 1


def test_control_characters_are_escaped_there_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LARGE", 0)
    output.table(["said"], [["a\x1b[31mb"]])
    assert "a\\x1b[31mb" in capsys.readouterr().out


def test_twenty_five_thousand_lines(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.process_time()
    output.table(HEADS, lines(25_000))
    assert time.process_time() - begin < 1.5
    assert len(capsys.readouterr().out.splitlines()) == 25_004
