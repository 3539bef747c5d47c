"""XCom from a trigger: shown in the UI while the task is deferred."""

from __future__ import annotations

import structlog
from airflow.triggers.base import BaseTrigger

log = structlog.get_logger(__name__)


async def push(trigger: BaseTrigger, key: str, value: str) -> None:
    """Set an XCom of the trigger's task; nothing happens for a trigger without a task.

    An API server that does not answer is no reason to end a wait, at the cost of one of Airflow's few retries.
    """
    from airflow.sdk.execution_time import task_runner
    from airflow.sdk.execution_time.comms import SetXCom

    instance = trigger.task_instance
    if instance is None:
        return
    message = SetXCom(
        key=key,
        value=value,
        dag_id=instance.dag_id,
        run_id=instance.run_id,
        task_id=instance.task_id,
        map_index=instance.map_index,
    )
    try:
        await task_runner.SUPERVISOR_COMMS.asend(message)
    except Exception as error:  # noqa: BLE001 - whatever it is, the text is in the task's log too
        await log.awarning("an XCom could not be set", key=key, error=f"{type(error).__name__}: {error}")
