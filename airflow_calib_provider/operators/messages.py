"""The work of the system DAG calib_messages."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_calib_provider.hooks.told import told
from airflow_calib_provider.operators.folder import FolderOperator
from airflow_calib_provider.settings import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context


class MessagesOperator(FolderOperator):
    """Tells people what has happened, from the triggerer: it holds no worker."""

    ui_color = "#dff0d8"

    @told
    def execute(self, context: Context) -> None:
        """Read who is told what, and defer: sending is the trigger's work."""
        from airflow.sdk.configuration import conf

        from airflow_calib_provider.spec.language import MESSAGES_FILE
        from airflow_calib_provider.spec.messages_file import load_declared
        from airflow_calib_provider.triggers.messages import MessagesTrigger

        # Mistakes end this try only: the DAG always runs, and would begin anew at once.
        found = load_declared(self._specs / MESSAGES_FILE)
        link = str(conf.get("api", "base_url", fallback="") or "").rstrip("/")
        until = time.time() + 60 * number("MESSAGES_DAG_MINUTES")
        declared = [channel.as_json() for channel in found.channels]
        actions = replace(found.actions, link=found.actions.link or link).as_json()
        self.defer(trigger=MessagesTrigger(declared, link, until, actions), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Mapping[str, str]) -> None:
        """The trigger has ended: its time is over."""
        self.log.info("the next DAG run goes on")
