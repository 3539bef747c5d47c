"""Actions from chat: who may do what, and the signed text that a button carries (rule 68).

Mattermost sends back what a button was given, and nothing by which the server could be known; but what a button was
given never reaches those who read the post. So all that is acted on stands in there, signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

RoleName = Literal["shifter", "expert"]

RIGHTS: dict[str, frozenset[str]] = {
    "shifter": frozenset({"retry"}),
    "expert": frozenset({"retry", "skip", "pause", "resume"}),
}
"""Role → the actions that it may ask for. An approval is none: it is Airflow's own question."""

assert tuple(RIGHTS) == get_args(RoleName)

ACTIONS = frozenset().union(*RIGHTS.values())

CONFIRMED = frozenset({"skip"})
"""What cannot be taken back: it is asked for twice."""

SHORTEST_SECRET = 32
"""Characters; a shorter secret could be guessed."""

LONGEST = 4_000
"""Characters of a signed text."""


class Unsigned(Exception):
    """A text that none of the secrets has signed."""


@dataclass(frozen=True)
class WantedAction:
    """What a press of a button asks for.

    :ivar campaign: to whose, :ivar workflow, group and task: to which task; all empty but the campaign: to it.
    :ivar state: in which the task, or the campaign, must still be, :ivar since: and must have been since then.
    :ivar expires: seconds since 1970 from which on nothing is done.
    :ivar nonce: that is used once.
    """

    action: str
    campaign: str
    workflow: str
    group: str
    task: str
    state: str
    since: str
    expires: int
    nonce: str


def new_nonce() -> str:
    """One that nobody has had."""
    return secrets.token_hex(16)


def signed(wanted: WantedAction, secret: str) -> str:
    """The text for a button."""
    payload = base64.urlsafe_b64encode(json.dumps(asdict(wanted)).encode()).decode()
    return f"{payload}.{_signature(payload, secret)}"


def read_signed(text: object, secrets_: Sequence[str]) -> WantedAction:
    """What was signed with any of the secrets.

    :raises Unsigned: nothing was.
    """
    if not isinstance(text, str) or len(text) > LONGEST or not text.isascii():
        raise Unsigned
    payload, _, signature = text.rpartition(".")
    # Each is compared, so that the time says not even which one fits.
    fits = [hmac.compare_digest(_signature(payload, secret), signature) for secret in secrets_]
    if not any(fits):
        raise Unsigned
    try:
        found = json.loads(base64.urlsafe_b64decode(payload))
        return WantedAction(**{field.name: found[field.name] for field in fields(WantedAction)})
    except (ValueError, TypeError, KeyError):
        raise Unsigned from None  # of another version of this package


def _signature(payload: str, secret: str) -> str:
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
