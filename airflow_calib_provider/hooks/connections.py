"""Airflow's connections for the core, and the one to a service that answers with JSON by HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_calib_provider.outside.connections import OutsideConnection

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.outside.http import HttpService


def task_connection(name: str) -> OutsideConnection | None:
    """A connection of this Airflow, for code in a task; ``None``: there is none."""
    try:
        return plain_connection(name, BaseHook.get_connection(name))
    except AirflowNotFoundException:
        return None


async def trigger_connection(name: str) -> OutsideConnection | None:
    """As :func:`task_connection`, for code in a trigger, where connections can be had in its event loop only."""
    try:
        return plain_connection(name, await BaseHook.aget_connection(name))
    except AirflowNotFoundException:
        return None


def plain_connection(name: str, found: Connection) -> OutsideConnection:
    """A connection as the core knows it."""
    return OutsideConnection(
        name=name,
        kind=found.conn_type or "",
        host=found.host or "",
        port=found.port,
        schema=found.schema or "",
        login=found.login or "",
        password=found.password or "",
        extra=found.extra_dejson,
    )


def http_service(connection: Connection) -> HttpService:
    """What a connection says of a service that answers with JSON.

    :raises OutsideError: it has another type, no address, or a field that it must not have.
    """
    from airflow_calib_provider.outside.http import HttpService

    return HttpService.of(plain_connection(str(connection.conn_id or ""), connection))


class JsonServiceHook(BaseHook):
    """A service that answers with JSON, for the connection's test and for code in a task of one's own.

    :param http_conn_id: the connection.
    """

    conn_name_attr = "http_conn_id"
    default_conn_name = "calib_http"
    conn_type = "calib_http"
    hook_name = "JSON by HTTP (calibration)"

    def __init__(self, http_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id

    def get_conn(self) -> HttpService:
        """Where the service is, and how one is let in.

        :raises OutsideError: the connection's fields are not what they should be.
        """
        return http_service(self.get_connection(self.http_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Whether its address answers with JSON; else what is wrong."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.outside.http import HttpClient
        from airflow_calib_provider.outside.limits import Deadline

        try:
            service = self.get_conn()
            client = HttpClient(service, Deadline.within(10.0, service.url), tries=1)
            try:
                client.get_json(service.url)
                return True, f"{service.url} answers with JSON"
            finally:
                client.close()
        except CalibError as error:
            return False, str(error)
