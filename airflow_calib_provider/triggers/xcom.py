"""XCom from a trigger: shown in the UI while the task is deferred."""

from __future__ import annotations

from airflow.triggers.base import BaseTrigger


async def push(trigger: BaseTrigger, key: str, value: str) -> None:
    """Set an XCom of the trigger's task; nothing happens for a trigger without a task."""
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
    await task_runner.SUPERVISOR_COMMS.asend(message)
