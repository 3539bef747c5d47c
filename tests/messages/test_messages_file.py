"""``messages.yaml``: what it says, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_calib_provider.domain.topics import TOPICS
from airflow_calib_provider.errors import SpecErrors
from airflow_calib_provider.spec.known import workflow_files
from airflow_calib_provider.spec.messages_file import load_messages

TEXT = """\
apiVersion: calib/v1
link: https://airflow.example.org/
channels:
  shift:
    mattermost: {connection: chat, channel: calib}
    tell: [failed, deadline]
    workflows: [zee]
    campaigns: [prompt]
    quiet: {from: "22:00", until: "07:00", zone: Europe/Zurich}
  mail:
    email: {to: [shift@example.org], from: calib@example.org}
    every: 1h
    at_most: 1
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "zee.yaml").write_text("apiVersion: calib/v1\nworkflow: zee\n")
    (tmp_path / "odd.yaml").write_text("workflow: [\n")
    (tmp_path / "messages.yaml").write_text(TEXT)
    return tmp_path / "messages.yaml"


def test_what_it_says(file: Path) -> None:
    shift, mail = load_messages(file)
    assert (shift.name, shift.kind, shift.topics, shift.workflows) == (
        "shift",
        "mattermost",
        ("failed", "deadline"),
        ("zee",),
    )
    assert (shift.campaigns, shift.quiet, shift.every, shift.at_most) == (
        ("prompt",),
        ("22:00", "07:00", "Europe/Zurich"),
        30.0,
        5,
    )
    assert (mail.topics, mail.workflows, mail.every, mail.link) == (
        tuple(TOPICS),
        (),
        3600,
        "https://airflow.example.org",
    )
    assert mail.block == {"connection": "smtp_default", "to": ["shift@example.org"], "from": "calib@example.org"}


def test_it_is_no_workflow(file: Path) -> None:
    assert file not in workflow_files(file.parent)


def test_a_team_is_told_of_its_own(file: Path) -> None:
    (file.parent / "sources.yaml").write_text("apiVersion: calib/v1\nteam: ecal\n")
    shift, mail = load_messages(file)
    assert (shift.name, mail.name) == ("ecal/shift", "ecal/mail")
    assert mail.workflows == ("zee",)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("channels:", "chanels:", "3:1: unknown key 'chanels' in the messages file"),
        ("connection: chat", "conection: chat", "5:18: unknown key 'conection' in mattermost"),
        ("connection: chat, ", "", "5:17: the key 'connection' is missing in mattermost"),
        ("connection: chat", "connection: https://chat/hooks/x", "5:30: connection is 'https://chat/…'"),
        ("failed, d", "faild, d", "6:12: a topic is 'faild'; expected one of failed"),
        ("[zee]", "[zeee]", "7:17: unknown workflow 'zeee'; expected zee; did you mean 'zee'?"),
        ("[zee]", "[]", "7:16: workflows is empty; expected the name of a workflow"),
        ('"07:00"', '"22:00"', "9:35: until is '22:00', as from is"),
        ("Europe/Zurich", "Europe/Zuerich", "9:50: zone is 'Europe/Zuerich'"),
        (", zone: Europe/Zurich", "", "9:12: the key 'zone' is missing in quiet"),
        ("mattermost: {", "matermost: {", "4:3: the channel 'shift' has neither mattermost nor email"),
        ("mattermost: {", "email: {to: [a@b.c]}\n    mattermost: {", "5:5: the channel 'shift' has mattermost and em"),
        ("shift@example.org", "shift", "11:18: an address is 'shift'; expected an e-mail address"),
        ("[shift@example.org]", '["a@b.c\\r\\nBcc: x@y.z"]', "11:18: an address is"),
        ("1h", "1s", "12:12: every is 1s; expected 5s to 1d"),
        ("at_most: 1", "at_most: 0", "13:14: at_most is 0"),
        ("https://airflow", "ftp://airflow", "2:7: link is 'ftp://airflow.example.org/'"),
        ("https://airflow", "https://user:secret@airflow", "2:7: link is"),
        ("apiVersion: calib/v1", "apiVersion: calib/v9", "1:13: apiVersion 'calib/v9' is not known"),
    ],
)
def test_mistakes(file: Path, old: str, new: str, said: str) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new))
    with pytest.raises(SpecErrors) as caught:
        load_messages(file)
    assert any(str(error).startswith(f"{file}:{said}") for error in caught.value.errors), str(caught.value)


def test_what_cannot_be_read_at_all(file: Path) -> None:
    file.write_text("channels: [}\n")
    with pytest.raises(SpecErrors, match=r"messages\.yaml:1:12"):
        load_messages(file)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("connection: chat", 'connection: "{}"'),
        ("connection: chat", "connection: {}"),
        ("connection: chat", "connection: [{}]"),
        ("channel: calib", 'channel: ["{}"]'),
        ("channel: calib", '"{}": calib'),
        ("  shift:", '  "{}":'),
        ("tell: [failed", 'tell: ["{}"'),
        ("workflows: [zee]", "workflows: ['{}']"),
        ("link: https://airflow.example.org/", 'link: "{}?x"'),
        ("every: 1h", 'every: "{}"'),
        ("email: {to: [shift@example.org]", 'email: {to: ["{}"]'),
        ("    every: 1h", '    mattermost: "{}"'),
        ("apiVersion: calib/v1", "apiVersion: {}"),
    ],
)
@pytest.mark.parametrize(
    "address",
    [
        "https://chat.example.org/hooks/s3cret",
        "HTTPS://chat.example.org:8065/hooks/s3cret",
        "chat.example.org/hooks/s3cret",
        "localhost:8065/hooks/s3cret",
        "https://me:s3cret@chat.example.org",
        "mattermost://:https%3A%2F%2Fchat.example.org%2Fhooks%2Fs3cret@/",
        "https%3A%2F%2Fchat.example.org%2Fhooks%2Fs3cret",
        "https://chat.example.org/" + "h" * 60 + "/s3cret",
    ],
)
def test_no_mistake_repeats_a_secret_address(file: Path, old: str, new: str, address: str) -> None:
    assert old in TEXT
    file.write_text(TEXT.replace(old, new.replace("{}", address)))
    with pytest.raises(SpecErrors) as caught:
        load_messages(file)
    for error in caught.value.errors:
        assert "s3cret" not in f"{error} {error.context} {error.args}"
        assert error.line
        assert error.file == file
    assert "s3cret" not in str(caught.value)
