"""The work of the system DAG calib_mirror."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_calib_provider.settings import number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.sdk import Context


class MirrorOperator(BaseOperator):
    """Mirrors the ledger's events to an InfluxDB, from the triggerer: it holds no worker.

    :param influx_conn_id: the Airflow connection.
    """

    ui_color = "#dff0d8"

    def __init__(self, *, influx_conn_id: str = "calib_influxdb", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.influx_conn_id = influx_conn_id

    def execute(self, context: Context) -> None:
        """Defer at once: carrying is the trigger's work, and holds no worker."""
        from airflow_calib_provider.triggers.mirror import MirrorTrigger

        until = time.time() + 3600 * number("MIRROR_DAG_HOURS")
        self.defer(trigger=MirrorTrigger(self.influx_conn_id, until), method_name="execute_complete")

    def execute_complete(self, context: Context, event: Mapping[str, str]) -> None:
        """The trigger has ended: its time is over, or there is nothing to mirror to."""
        if event["state"] == "no_connection":
            raise AirflowSkipException(
                f"no connection {self.influx_conn_id}: create one under Admin → Connections, type calib_influxdb, to "
                "mirror the ledger to an InfluxDB; nothing is lost until then"
            )
        self.log.info("the next DAG run goes on")
