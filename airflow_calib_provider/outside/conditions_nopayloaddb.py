"""nopayloaddb, the reference of the HSF: a global tag has a list of intervals for each payload type, which is our tag.

The server keeps where payloads are, and not the files: these lie below a folder that the connection names. Its
intervals end before their end, and its look-up ignores ends, so ours compares. Of what overlaps, an unlocked global
tag cuts what is there without a word: so the server is asked what it has after each step.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_calib_provider.errors import NoSuchTag, OutsideError, StoreRefused, StoreUnavailable
from airflow_calib_provider.outside import nopayloaddb_client as client
from airflow_calib_provider.outside.conditions import PlacedPayload, checked
from airflow_calib_provider.outside.contents import StoredFile, altered_files, with_hashes
from airflow_calib_provider.outside.placing import Capabilities, Ref
from airflow_calib_provider.outside.writing import TagChange, WritableStore, ending_of

OPEN = 2**63 - 1
"""The end that stands for none."""
LONGEST = 255
"""Characters of a payload's address."""

_PREFIX = "sha256:"


class NopayloaddbStore(WritableStore):
    """A global tag; the place is ``connection/global_tag``."""

    name = "nopayloaddb"
    place_key = "global_tag"
    last_run = OPEN - 2

    def capabilities(self) -> Capabilities:
        """Ends, and cuts without a word."""
        return Capabilities(True, "cut", False, False, self.last_run)

    def listing(self, tag: str) -> list[PlacedPayload]:
        """What the global tag has of the payload type."""
        server = self._server()
        return self._listed(tag, self._global_tag(server))

    def ready(self, tags: Sequence[str]) -> None:
        """The global tag must be unlocked, and have a list for each payload type."""
        whole = self._global_tag(self._server())
        status = whole.get("status")
        state = str(status.get("name") if isinstance(status, dict) else status)
        if state != "unlocked":
            said = f"the global tag {self.inside} is {state}"
            raise StoreRefused(said, "publish to another one, or ask its manager to unlock it")
        lists = _lists(whole)
        for tag in tags:
            if tag not in lists:
                said = f"the global tag {self.inside} has no payload list of the type {tag}"
                raise StoreRefused(said, "ask its manager to attach one; it is not ours to make")

    def ref(self, tag: str, digest: str, file_name: str) -> Ref:
        """Below a folder of the tag, by its hash, with the ending that it had."""
        file = _ours(tag, digest, file_name)
        if len(file) > LONGEST:
            raise StoreRefused(f"the address {file} has more than {LONGEST} characters", "choose a shorter tag")
        return Ref(file, digest)

    def put(self, tag: str, content: Path, ref: Ref, file_name: str) -> None:
        """A copy in the folder of payloads."""
        folder = self._server().files
        final = folder / ref.file
        if final.exists():
            return
        if not folder.is_dir():
            raise StoreUnavailable(f"{folder} is not there", "see the field `files` of the connection")
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=final.parent, prefix=".new-", delete=False) as made:
                try:
                    with content.open("rb") as source:
                        shutil.copyfileobj(source, made)
                    made.flush()
                    os.fsync(made.fileno())
                    Path(made.name).chmod(0o444)
                    Path(made.name).replace(final)
                except BaseException:
                    Path(made.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise StoreUnavailable(f"{final} cannot be written: {error.strerror or error}", "is it full?") from error

    def altered(self, tag: str, listing: Sequence[PlacedPayload], *, quickly: bool = False) -> list[str]:
        """Of the files that we have brought there: what others have put elsewhere is not ours to judge."""
        folder = self._server().files
        ours = {file: digest for file, digest in with_hashes(listing).items() if file == _ours(tag, digest, file)}
        if ours and not folder.is_dir():
            raise StoreUnavailable(f"{folder} is not there", "see the field `files` of the connection")
        return altered_files((StoredFile(file, folder / file, one) for file, one in ours.items()), quickly=quickly)

    def change(self, changes: Mapping[str, TagChange], key: str) -> str:
        """One step after the other, each seen from what the server then has: it cuts on its own account."""
        server = self._server()
        for tag, change in changes.items():
            for _ in range(4 * (len(change.missing) + len(change.extra)) + 8):
                whole = self._global_tag(server)
                now = TagChange(tuple(self._listed(tag, whole)), change.target)
                if not now.missing and not now.extra:
                    break
                new = _first(now) if now.missing else None
                goes = now.extra[0] if new is None else _longer(now, new)
                if goes is not None:
                    self._remove(server, tag, goes)
                elif new is not None:
                    self._attach(server, _lists(whole)[tag]["name"], new)
        return ""

    def _attach(self, server: client.Server, payload_list: str, one: PlacedPayload) -> None:
        open_end = one.last_run is None
        made = client.ask(
            server, "POST", "piov",
            body={
                "payload_url": one.file,
                "checksum": f"{_PREFIX}{one.hash}",
                "major_iov": one.first_run,
                "minor_iov": 0,
                "major_iov_end": OPEN if open_end else (one.last_run or 0) + 1,
                "minor_iov_end": OPEN if open_end else 0,
            },
        )  # fmt: skip
        if not isinstance(made, dict) or "id" not in made:
            raise _strange(server)
        # A death here leaves an interval that is in no list: nobody sees it.
        client.ask(server, "PUT", "piov_attach", body={"payload_list": payload_list, "piov_id": made["id"]})

    def _remove(self, server: client.Server, tag: str, one: PlacedPayload) -> None:
        end = (OPEN, OPEN) if one.last_run is None else (one.last_run + 1, 0)
        client.ask(server, "DELETE", "deletePayloadIOV", self.inside, tag, one.first_run, 0, *end)

    def _server(self) -> client.Server:
        return client.Server.of(self.connection(self.place))

    def _global_tag(self, server: client.Server) -> dict[str, Any]:
        whole = client.found(server, "globalTag", self.inside)
        if whole is None:
            said = f"there is no global tag {self.inside} at {server.service.url}"
            raise StoreRefused(said, "correct its name, or ask the manager of the database to make it")
        if not isinstance(whole, dict) or not isinstance(whole.get("payload_lists"), list):
            raise _strange(server)
        if not all(isinstance(one, dict) and {"payload_type", "name"} <= one.keys() for one in whole["payload_lists"]):
            raise _strange(server)
        return whole

    def _listed(self, tag: str, whole: Mapping[str, Any]) -> list[PlacedPayload]:
        lists = _lists(whole)
        if tag not in lists:
            raise NoSuchTag(f"the global tag {self.inside} has nothing of the type {tag}")
        try:
            return checked(tag, [_placed(tag, one) for one in lists[tag]["payload_iov"]])
        except (KeyError, TypeError, ValueError) as error:
            raise OutsideError(f"the list of {tag} in {self.inside} cannot be read: {error}") from error


def _ours(tag: str, digest: str, file_name: str) -> str:
    """Where a content is below the folder of payloads."""
    return f"{tag}/{digest[:2]}/{digest}{ending_of(file_name)}"


def _strange(server: client.Server) -> OutsideError:
    return OutsideError(f"{server.service.url} does not answer as a nopayloaddb does", "see its version, and any proxy")


def _lists(whole: Mapping[str, Any]) -> dict[str, Any]:
    return {str(one["payload_type"]): one for one in whole["payload_lists"]}


def _placed(tag: str, one: Mapping[str, Any]) -> PlacedPayload:
    first, end = int(one["major_iov"]), int(one["major_iov_end"])
    minor = (int(one["minor_iov"]), int(one["minor_iov_end"]))
    if minor[0] or (end < OPEN and minor[1]):
        raise OutsideError(f"an interval of {tag} from {first} has a minor number, which is no run")
    digest = str(one["checksum"]).removeprefix(_PREFIX)
    return PlacedPayload(first, None if end >= OPEN else end - 1, str(one["payload_url"]), digest)


def _first(change: TagChange) -> PlacedPayload:
    """What is placed first: what is new, as the server cuts for it what is there; then what is still missing."""
    there = {one.file for one in change.current}
    return next((one for one in change.missing if one.file not in there), change.missing[0])


def _longer(change: TagChange, new: PlacedPayload) -> PlacedPayload | None:
    """One that begins where a shorter one will: cut by the server it would be left with no run at all."""
    if new.last_run is None:
        return None
    same = (one for one in change.extra if one.first_run == new.first_run)
    return next((one for one in same if one.last_run is None or one.last_run > new.last_run), None)


STORE = NopayloaddbStore
