"""What becomes of a press of a button: who it was, whether they may, and what they are told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_calib_provider.chat.rate import RateLimit
from airflow_calib_provider.domain.chat_actions import ACTIONS, RIGHTS, Unsigned, WantedAction, read_signed
from airflow_calib_provider.ledger import chat_actions
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.base import CONTEXT, ChannelTrouble
from airflow_calib_provider.messages.making import became_in_words
from airflow_calib_provider.messages.markdown import inert, shortened
from airflow_calib_provider.messages.offering import secrets_of
from airflow_calib_provider.outside.connections import Lookup
from airflow_calib_provider.spec.chat_keys import ID, ActionsSpec

log = logging.getLogger(__name__)

PRESSES, UNSIGNED, WITHIN = 20, 60, 60.0
"""Of one person, and of everybody whose button nobody has signed, within so many seconds."""

LONGEST_OUTCOME = 500
"""Characters of what has come of an action, that are told."""

_SAYS = {
    "wanted": "It will be done within a minute.",
    "too_soon": "A moment: read first, then press once more.",
    "used": "This button was used already.",
    "stale": "Nothing is done: something has happened since this message was sent.",
    "expired": "Nothing is done: this button is too old. Open Airflow.",
    "unknown_person": "Nothing is done: you are not one of those who may do this from here.",
    "no_right": "Nothing is done: your role does not allow this.",
    "wrong_channel": "Nothing is done: not from this channel.",
    "unknown_action": "Nothing is done: this is nothing that can be done from here.",
}


@dataclass(frozen=True)
class PressAnswer:
    """What Mattermost is answered.

    :ivar text: that the person alone sees; of an error it is what is wrong.
    """

    status: int
    text: str


class Presses:
    """Takes presses of buttons.

    :param ledger: opens it, :param connection: looks one up; called for each press, in a thread.
    """

    def __init__(self, ledger: Callable[[], Ledger], connection: Lookup) -> None:
        self._ledger = ledger
        self._connection = connection
        self._by_person = RateLimit(PRESSES, WITHIN)
        self._unsigned = RateLimit(UNSIGNED, WITHIN)

    def declared(self, team: str) -> tuple[ActionsSpec, tuple[str, ...]] | None:
        """What is declared, and the secrets; ``None``: nothing that is of use."""
        found = chat_actions.declared_of(self._ledger(), team, datetime.now(UTC))
        if found is None:
            return None
        spec = ActionsSpec.of_json(found)
        try:
            return spec, secrets_of(self._connection(spec.connection), spec.link)
        except ChannelTrouble as error:
            log.warning("actions from chat are off: %s", error)
            return None

    def take(self, spec: ActionsSpec, secrets: tuple[str, ...], body: Mapping[str, Any]) -> PressAnswer:
        """Take a press, as Mattermost tells of it; of what it says user, channel and context are read, nothing else."""
        user_id, context = body.get("user_id"), body.get("context")
        if not isinstance(user_id, str) or not ID.fullmatch(user_id):
            return PressAnswer(400, "no user_id")
        try:
            wanted = read_signed(context.get(CONTEXT) if isinstance(context, dict) else None, secrets)
        except Unsigned:
            return self._refuse_unsigned(user_id)
        if not self._by_person.admits(user_id):
            log.warning("chat: %s presses too often", user_id)
            return PressAnswer(429, "too often: wait a minute")
        known = spec.people.get(user_id)
        person, now = str(known["person"]) if known is not None else "", datetime.now(UTC)
        refused = _refused(spec, known, wanted, body.get("channel_id"), now)
        if refused:
            with self._ledger().write() as connection:
                chat_actions.tell_refused(connection, refused, user_id, person, wanted)
        outcome = refused or chat_actions.press(self._ledger(), wanted, person, user_id, now)
        log.info("chat: %s of %s by %s (%s): %s", wanted.action, _what(wanted), person or "nobody", user_id, outcome)
        return PressAnswer(200, self._says(outcome, wanted))

    def _says(self, outcome: str, wanted: WantedAction) -> str:
        if outcome == "asked":
            return _asks(wanted)
        return f"{_SAYS[outcome]}{self._became(wanted.nonce)}" if outcome == "used" else _SAYS[outcome]

    def _became(self, nonce: str) -> str:
        """What the press that used a button has come to."""
        found = chat_actions.taken(self._ledger(), nonce)
        if found is None:
            return ""
        state, who, outcome = found
        if state in ("wanted", "carrying"):
            return f" What {inert(who)} asked for is being done."
        said = inert(shortened(became_in_words(state, outcome), LONGEST_OUTCOME))
        return f" What {inert(who)} asked for {'is done' if state == 'done' else 'was not done'}: {said}"

    def _refuse_unsigned(self, user_id: str) -> PressAnswer:
        # A flood of them must not fill the ledger.
        if not self._unsigned.admits(""):
            return PressAnswer(429, "too often: wait a minute")
        with self._ledger().write() as connection:
            chat_actions.tell_refused(connection, "unsigned", user_id)
        log.warning("chat: a press by %s that nobody has signed", user_id)
        return PressAnswer(403, "not signed")


def _refused(
    spec: ActionsSpec, known: Mapping[str, str] | None, wanted: WantedAction, channel: object, now: datetime
) -> str:
    """Why nothing comes of a press; empty: the ledger is asked."""
    if wanted.action not in ACTIONS:
        return "unknown_action"
    if known is None:
        return "unknown_person"
    if wanted.action not in RIGHTS.get(str(known["role"]), frozenset()):
        return "no_right"
    if spec.channels and channel not in spec.channels:
        return "wrong_channel"
    return "expired" if now.timestamp() >= wanted.expires else ""


def _what(wanted: WantedAction) -> str:
    parts = (wanted.campaign, wanted.workflow, wanted.group, wanted.task)
    return "/".join(part for part in parts if part)


def _asks(wanted: WantedAction) -> str:
    what = f"{wanted.workflow}.{wanted.task}, group {wanted.group}"
    if wanted.campaign != "prompt":
        what += f", campaign {wanted.campaign}"
    return f"Skip all runs of {inert(what)}? It cannot be taken back. Press once more within two minutes to confirm."
