"""A nopayloaddb that answers as a real one was seen to, its oddities included; continuous intervals."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

OPEN = 2**63 - 1

_PAGE = b"<!doctype html><html><title>Server Error (500)</title></html>"


class _Refused(Exception):
    """HTTP 500 with a detail."""


class _Page(Exception):
    """HTTP 500 with a page: whatever Django dies of."""


class _Denied(Exception):
    """HTTP 403."""


class Nopayloaddb(ThreadingHTTPServer):
    """The server, and what it has.

    :ivar intervals: each with its list, or none: such a one nobody sees.
    :ivar token: that must be shown, if any.
    :ivar faults: what befalls the request of a number, counted from 1.
    """

    daemon_threads = True
    refusal = _Refused

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.states: dict[str, str] = {}
        self.lists: dict[str, tuple[str, str]] = {}
        self.intervals: list[dict[str, Any]] = []
        self.token = ""
        self.guard = threading.RLock()
        self.count = 0
        self.faults: dict[int, tuple[str, int]] = {}
        self.last_id = 0
        self.refusing = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens at its address until the end of the block."""
        self.shutdown()
        self.server_close()
        try:
            yield
        finally:
            self.socket = socket.socket(self.address_family, self.socket_type)
            self.server_bind()
            self.server_activate()
            self.serve()

    def serve(self) -> None:
        """Answer, in a thread."""
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def make(self, global_tag: str, *types: str, state: str = "unlocked") -> None:
        """A global tag with lists."""
        self.states[global_tag] = state
        for kind in types:
            self.lists[f"{kind}_{len(self.lists) + 1}"] = (global_tag, kind)

    def list_of(self, global_tag: str, kind: str) -> str | None:
        return next((name for name, one in self.lists.items() if one == (global_tag, kind)), None)

    def place(self, global_tag: str, kind: str, url: str, first: int, end: int | None, checksum: str = "") -> None:
        """An interval as it is, without what attaching does; its end is not part of it."""
        if self.list_of(global_tag, kind) is None:
            self.make(global_tag, kind, state=self.states.get(global_tag, "unlocked"))
        ends = (OPEN, OPEN) if end is None else (end, 0)
        made = self._new(url, checksum, first, 0, *ends)
        made["payload_list"] = self.list_of(global_tag, kind)

    def _new(self, url: str, checksum: str, first: int, minor: int, end: int, minor_end: int) -> dict[str, Any]:
        self.last_id += 1
        keys = ("id", "payload_url", "checksum", "major_iov", "minor_iov", "major_iov_end", "minor_iov_end")
        made = dict(zip(keys, (self.last_id, url, checksum, first, minor, end, minor_end), strict=True))
        self.intervals.append({**made, "payload_list": None, "inserted": "2026-07-01T00:00:00Z"})
        return self.intervals[-1]

    def of_list(self, name: str) -> list[dict[str, Any]]:
        return [one for one in self.intervals if one["payload_list"] == name]

    # what it does

    def global_tag(self, name: str) -> dict[str, Any] | None:
        if name not in self.states:
            return None
        lists = [
            {"name": label, "global_tag": name, "payload_type": kind, "payload_iov": self.of_list(label)}
            for label, (tag, kind) in self.lists.items()
            if tag == name
        ]
        return {"name": name, "author": "x", "status": {"name": self.states[name]}, "payload_lists": lists}

    def new_interval(self, data: dict[str, Any]) -> tuple[int, Any]:
        missing = [key for key in ("payload_url", "checksum", "major_iov", "minor_iov") if key not in data]
        if missing:
            return 400, {missing[0]: ["This field is required."]}
        if len(data["payload_url"]) > 255:
            return 400, {"payload_url": ["Ensure this field has no more than 255 characters."]}
        ends = (data.get("major_iov_end", OPEN), data.get("minor_iov_end", OPEN))
        begins = (data["major_iov"], data["minor_iov"])
        if ends <= begins:
            raise _Refused("PayloadIOV end is before its start")
        return 200, self._new(data["payload_url"], data["checksum"], *begins, *ends)

    def attach(self, data: dict[str, Any]) -> tuple[int, Any]:
        if data.get("payload_list") not in self.lists:
            raise _Page
        one = next((item for item in self.intervals if item["id"] == data.get("piov_id")), None)
        if one is None:
            raise _Page
        state = self.states[self.lists[data["payload_list"]][0]]
        there = self.of_list(data["payload_list"])
        if state == "frozen":
            raise _Refused("Global Tag is frozen.")
        if state == "locked":
            self._append_only(one, there)
        else:
            self._cut(one, there)
        one["payload_list"] = data["payload_list"]
        return 200, one

    def _append_only(self, one: dict[str, Any], there: list[dict[str, Any]]) -> None:
        if any(_begin(item) == _begin(one) for item in there):
            raise _Refused("GT is LOCKED. You are attempting to insert IOV. Conflicts with existing IOV")
        last = max(there, key=_begin, default=None)
        both_open = last is not None and _end(last) == _end(one) == (OPEN, OPEN) and _begin(last) < _begin(one)
        if any(_begin(item) < _begin(one) for item in there) and not both_open:
            raise _Page  # KeyError: 'is_conflicting_iov_tail'

    def _cut(self, one: dict[str, Any], there: list[dict[str, Any]]) -> None:
        for item in there:
            if _begin(item) >= _begin(one) and _end(item) <= _end(one):
                item["payload_list"] = None
            elif _begin(item) <= _begin(one) < _end(item):
                was = _end(item)
                item["major_iov_end"], item["minor_iov_end"] = _begin(one)
                if _end(one) < was:
                    rest = self._new(item["payload_url"], item["checksum"], *_end(one), *was)
                    rest["payload_list"] = item["payload_list"]
            elif _begin(one) < _begin(item) < _end(one):
                item["major_iov"], item["minor_iov"] = _end(one)

    def delete(self, global_tag: str, kind: str, numbers: list[int]) -> tuple[int, Any]:
        first, minor, *ends = numbers
        wanted = ((first, minor), tuple(ends) or (OPEN, OPEN))
        label = self.list_of(global_tag, kind)
        one = next((item for item in self.of_list(label or "") if (_begin(item), _end(item)) == wanted), None)
        if one is None:
            raise _Refused("PayloadIOV with given parameters doesn't exist")
        if self.states[global_tag] == "frozen":
            raise _Refused("Global Tag is frozen.")
        self.intervals.remove(one)
        return 200, {"detail": f"PayloadIOV {one['payload_url']} deleted."}

    def look_up(self, query: dict[str, str]) -> tuple[int, Any]:
        """For each type what begins last: its end does not count."""
        if not {"gtName", "majorIOV", "minorIOV"} <= set(query):
            return 200, []
        point = (int(query["majorIOV"]), int(query["minorIOV"]))
        found = []
        for label, (tag, kind) in self.lists.items():
            begun = [one for one in self.of_list(label) if tag == query["gtName"] and _begin(one) <= point]
            if begun:
                found.append({"name": label, "payload_type": kind, "payload_iov": [max(begun, key=_begin)]})
        return 200, found


def _begin(one: dict[str, Any]) -> tuple[int, int]:
    return one["major_iov"], one["minor_iov"]


def _end(one: dict[str, Any]) -> tuple[int, int]:
    return one["major_iov_end"], one["minor_iov_end"]


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Nopayloaddb

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def do_PATCH(self) -> None:
        """What is to befall a request from now on, from a test that may be another process."""
        number, what, pid = self.rfile.read(int(self.headers["Content-Length"])).decode().split()
        self.server.faults[self.server.count + int(number)] = (what, int(pid))
        self._reply(200, b"{}", "application/json")

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = json.loads(self.rfile.read(length)) if length else {}
        with self.server.guard:
            self.server.count += 1
            fault, pid = self.server.faults.pop(self.server.count, ("", 0))
            if fault == "kill_before":
                os.kill(pid, signal.SIGKILL)
            elif fault == "before":
                return self._reply(500, _PAGE, "text/html")
            if fault != "kill_before":
                status, said = self._done(data)
            if fault == "kill_after":
                os.kill(pid, signal.SIGKILL)
        if fault in ("after", "kill_before", "kill_after"):
            self.close_connection = True
            return None
        if isinstance(said, bytes):
            return self._reply(status, said, "text/html")
        return self._reply(status, json.dumps(said).encode(), "application/json")

    def _done(self, data: dict[str, Any]) -> tuple[int, Any]:
        try:
            if self.server.token and self.headers.get("Authorization") != f"Bearer {self.server.token}":
                raise _Denied
            return self._routed(data)
        except _Denied:
            return 403, {"detail": "Permission denied."}
        except _Refused as error:
            return 500, {"detail": str(error)}
        except _Page:
            return 500, _PAGE

    def _routed(self, data: dict[str, Any]) -> tuple[int, Any]:
        parts = urlsplit(self.path)
        path = [unquote(one) for one in parts.path.removeprefix("/api/cdb_rest").strip("/").split("/")]
        asked = (self.command, path[0])
        if asked == ("GET", "globalTag"):
            found = self.server.global_tag(path[1])
            return (200, found) if found is not None else (404, {"detail": "Not found."})
        if asked == ("POST", "piov"):
            return self.server.new_interval(data)
        if asked == ("PUT", "piov_attach"):
            return self.server.attach(data)
        if asked == ("DELETE", "deletePayloadIOV"):
            return self.server.delete(path[1], path[2], [int(one) for one in path[3:]])
        if asked == ("GET", "payloadiovs"):
            return self.server.look_up({key: values[-1] for key, values in parse_qs(parts.query).items()})
        return 404, _PAGE

    def _reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def nopayloaddb() -> Iterator[Nopayloaddb]:
    """One that runs until the end of the block."""
    server = Nopayloaddb()
    server.serve()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
