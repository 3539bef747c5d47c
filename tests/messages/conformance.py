"""What every channel must do. Its tests subclass :class:`ChannelConformance` and override fixtures only."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from airflow_calib_provider.messages.base import Channel, ChannelTrouble, open_channel
from airflow_calib_provider.outside.connections import OutsideConnection
from airflow_calib_provider.spec.kinds import channel_kind
from airflow_calib_provider.spec.messages_file import ChannelSpec, load_messages
from tests.messages.conftest import message

ODD = "a\nb\x1b[31m\u202e @channel **bold** <b> `x` \ud83d 中 " + "long " * 200
HANGS = 40.0


class ChannelConformance:
    """A channel, what arrives, and how to make it fail."""

    @pytest.fixture
    def block(self) -> str:
        """The block, as it is written in ``messages.yaml``: ``name: {…}``."""
        raise NotImplementedError

    @pytest.fixture
    def connection(self) -> OutsideConnection | None:
        """The connection that it names."""
        raise NotImplementedError

    @pytest.fixture
    def arrived(self) -> Callable[[], Sequence[str]]:
        """The texts that have reached people."""
        raise NotImplementedError

    @pytest.fixture
    def break_it(self) -> Callable[[], None]:
        """Take the other side away."""
        raise NotImplementedError

    @pytest.fixture
    def spec(self, block: str, tmp_path: Path) -> ChannelSpec:
        (tmp_path / "messages.yaml").write_text(f"apiVersion: calib/v1\nchannels:\n  one:\n    {block}\n")
        (made,) = load_messages(tmp_path / "messages.yaml")
        return made

    @pytest.fixture
    def channel(self, spec: ChannelSpec, connection: OutsideConnection | None) -> Channel:
        return open_channel(spec, connection)

    def test_its_declaration_survives_a_trigger(self, spec: ChannelSpec) -> None:
        import json

        assert ChannelSpec.of_json(json.loads(json.dumps(spec.as_json()))) == spec

    def test_a_message_arrives_whole(self, channel: Channel, arrived: Callable[[], Sequence[str]]) -> None:
        channel.send(message(7, to_do="`calib retry run-r7`", lines=("one", "two"), link="https://a.example/x"))
        channel.send(message(8), plain=True)
        channel.close()
        first, second = arrived()
        for part in ("zee", "scale", "2 of 3 jobs failed", "calib retry run", "one", "two", "https://a.example/x"):
            assert part in first.replace("\\", "")
        assert "run-r8" in second.replace("\\", "")

    def test_whatever_is_said_is_one_message(self, channel: Channel, arrived: Callable[[], Sequence[str]]) -> None:
        parts: dict[str, Any] = {"title": ODD, "where": ODD, "why": ODD * 10, "to_do": ODD, "lines": (ODD,) * 20}
        channel.send(message(1, thread=ODD, **parts))
        channel.close()
        (text,) = arrived()
        assert "\x1b" not in text
        assert "\u202e" not in text

    def test_it_can_be_opened_again_and_closed_twice(
        self, spec: ChannelSpec, connection: OutsideConnection | None, arrived: Callable[[], Sequence[str]]
    ) -> None:
        for number in (1, 2):
            channel = open_channel(spec, connection)
            channel.send(message(number))
            channel.close()
            channel.close()
        assert len(arrived()) == 2

    def test_trouble_is_told_and_nothing_secret(
        self, channel: Channel, connection: OutsideConnection | None, break_it: Callable[[], None]
    ) -> None:
        break_it()
        begun = time.monotonic()
        with pytest.raises(ChannelTrouble) as caught:
            channel.send(message(1))
        channel.close()
        assert time.monotonic() - begun < HANGS
        if connection is not None and connection.password:
            assert connection.password not in f"{caught.value!r} {caught.value.__cause__!r}"

    def test_its_place_holds_no_secret(self, spec: ChannelSpec, connection: OutsideConnection | None) -> None:
        place = channel_kind(spec.kind).place(spec.block)
        assert place
        if connection is not None and connection.password:
            assert connection.password not in f"{place} {spec.as_json()}"
