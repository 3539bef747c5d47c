"""Named crash points, so that a test can let a process die exactly there.

``CALIB_CRASH_AT`` holds a comma-separated list of ``point`` or ``point@scope`` entries (a scope is a group's, task's or
DAG run's name). ``CALIB_CRASH_FOLDER`` must then name a folder: each entry fires once, remembered there by an empty
file, so that the process that comes after the dead one gets through. Without both variables a crash point costs one
dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

POINTS = frozenset(
    {
        "inject.before_commit",
        "inject.after_commit",
        "skip.after_commit",
        "campaign.after_commit",
        "form.after_create",
        "backfill.after_begin",
        "backfill.after_add",
        "backfill.after_day",
        "adopt.before_commit",
        "adopt.after_commit",
        "amend.before_commit",
        "amend.after_commit",
        "amend.after_clear",
        "request.after_claim",
        "request.after_trigger",
        "request.after_record",
        "generation.before_create",
        "generation.after_create",
        "round.before_submit",
        "round.after_submit",
        "round.after_record",
        "cancel.after_part",
        "cancel.before_remove",
        "cancel.after_remove",
        "held.before_act",
        "held.after_act",
        "jobs.before_apply",
        "jobs.after_apply",
        "products.before_promote",
        "products.after_promote",
        "product.before_remove",
        "product.after_remove",
        "generation.before_done",
        "generation.after_done",
        "step.before_freeze",
        "step.after_freeze",
        "step.before_update",
        "step.after_update",
        "step.before_judge",
        "step.after_judge",
        "step.before_next",
        "step.after_next",
        "worker.before_replace",
        "worker.after_replace",
        "mailbox.after_give",
        "mailbox.before_say",
        "mailbox.after_say",
        "mailbox.before_refuse",
        "mailbox.after_refuse",
        "payload.before_store",
        "payload.after_store",
        "payload.after_publish",
        "message.before_send",
        "message.after_send",
        "message.after_record",
        "fallback.before_commit",
        "fallback.after_commit",
        "publication.after_put",
        "publication.after_plan",
        "publication.before_apply",
        "publication.after_apply",
        "publication.after_receipt",
        "publication.before_publish",
        "publication.after_publish",
        "publication.after_refusal",
        "publication.after_return",
        "publication.after_back",
        "supervisor.after_start",
        "supervisor.job_started",
    }
)


def crash_point(point: str, scope: str = "") -> None:
    """Die by SIGKILL here if the environment asks for it.

    :param point: one of :data:`POINTS`.
    :param scope: group or task name that an entry ``point@scope`` must match.
    """
    wanted = os.environ.get("CALIB_CRASH_AT")
    if not wanted:
        return
    assert point in POINTS, point
    folder = Path(os.environ["CALIB_CRASH_FOLDER"])
    for entry in wanted.split(","):
        name, _, only = entry.partition("@")
        if name == point and (not only or only == scope):
            try:
                (folder / entry.replace("/", "_")).touch(exist_ok=False)
            except FileExistsError:
                continue
            os.kill(os.getpid(), signal.SIGKILL)
