"""The plugin of this package."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from typing import Any

from airflow.sdk.plugins_manager import AirflowPlugin

from airflow_calib_provider.domain.page_addresses import CHAT_MOUNT, MOUNT, OF_DAG, OF_DAG_RUN, RUNS
from airflow_calib_provider.plugins.priority import PromptFirst

NAME = "Calibration"


class LazyApp:
    """An application that is made when somebody asks for it: of all processes one needs it.

    :param module: of this package, in which it is called ``app``.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._app: Callable[..., Awaitable[None]] | None = None

    async def __call__(
        self, scope: MutableMapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]
    ) -> None:
        """As ASGI wants it."""
        if self._app is None:
            self._app = import_module(f"airflow_calib_provider.{self._module}").app
        await self._app(scope, receive, send)


def _view(destination: str, url_route: str, href: str, **more: str) -> dict[str, str]:
    return {"name": NAME, "destination": destination, "url_route": url_route, "href": f"{MOUNT}/{href}", **more}


class CalibPlugin(AirflowPlugin):
    """What Airflow must know before it can read DAGs of ours, and the page in its UI."""

    name = "calib"
    priority_weight_strategies: list[Any] = [PromptFirst]  # noqa: RUF012 - as Airflow declares it
    fastapi_apps: list[Any] = [  # noqa: RUF012
        {"app": LazyApp("page.in_airflow"), "url_prefix": f"/{MOUNT}", "name": NAME},
        {"app": LazyApp("chat.in_airflow"), "url_prefix": f"/{CHAT_MOUNT}", "name": f"{NAME} (chat)"},
    ]
    external_views: list[Any] = [  # noqa: RUF012
        _view("nav", MOUNT, RUNS, category="browse"),
        _view("dag", f"{MOUNT}-dag", f"{OF_DAG}?dag_id={{DAG_ID}}"),
        _view("dag_run", f"{MOUNT}-run", f"{OF_DAG_RUN}?dag_id={{DAG_ID}}&run_id={{RUN_ID}}"),
        _view(
            "task_instance", f"{MOUNT}-task", f"{OF_DAG_RUN}?dag_id={{DAG_ID}}&run_id={{RUN_ID}}&task_id={{TASK_ID}}"
        ),
    ]
