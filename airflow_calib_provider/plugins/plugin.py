"""The plugin of this package."""

from __future__ import annotations

from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_calib_provider.plugins.priority import PromptFirst


class CalibPlugin(AirflowPlugin):
    """What Airflow must know before it can read DAGs of ours."""

    name = "calib"
    priority_weight_strategies: list[Any] = [PromptFirst]  # noqa: RUF012 - as Airflow declares it
