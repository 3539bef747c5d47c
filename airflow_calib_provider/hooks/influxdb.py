"""The Airflow connection to an InfluxDB that the ledger is mirrored to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.mirror.client import InfluxClient
    from airflow_calib_provider.mirror.target import InfluxTarget

CONNECTION_TYPE = "calib_influxdb"

FOREIGN_TYPE = "influxdb"
"""That of apache-airflow-providers-influxdb: its connections are read, too."""

_OF_BOTH = ("token", "org", "bucket", "database", "retention_policy", "timeout", "verify", "ca_file", "routes")


def influx_target(connection: Connection) -> InfluxTarget:
    """What a connection says of an InfluxDB.

    The host is an address such as ``https://influxdb.example.org:8086``, or a name beside schema and port. Without a
    login the password is a token. The rest stands in the extra fields, by the names of
    :class:`~airflow_calib_provider.mirror.target.InfluxTarget`.

    :raises MirrorError: a field is unknown, missing, or has a value that it must not have.
    """
    from airflow_calib_provider.errors import MirrorError
    from airflow_calib_provider.mirror.target import InfluxTarget

    name = str(connection.conn_id or CONNECTION_TYPE)
    values: dict[str, Any] = dict(connection.extra_dejson)
    if connection.conn_type == FOREIGN_TYPE:
        values = {"org": values.get("org_name"), **{key: values.get(key) for key in _OF_BOTH if key in values}}
    elif connection.conn_type != CONNECTION_TYPE:
        raise MirrorError(
            f"the connection {name} has the type {connection.conn_type!r}", f"give it the type {CONNECTION_TYPE!r}"
        )
    if connection.password and connection.login:
        values |= {"user": connection.login, "password": connection.password}
    elif connection.password:
        values["token"] = connection.password
    return InfluxTarget.from_mapping({**values, "name": name, "url": _address(connection)})


def _address(connection: Connection) -> str:
    host = connection.host or ""
    if "://" not in host and host:
        host = f"{connection.schema or 'http'}://{host}"
    name = host.partition("://")[2]
    return f"{host}:{connection.port}" if connection.port and ":" not in name and "/" not in name else host


class InfluxHook(BaseHook):
    """An InfluxDB that the ledger is mirrored to, for code in a task of one's own, and for the connection's test.

    :param influx_conn_id: the connection.
    """

    conn_name_attr = "influx_conn_id"
    default_conn_name = "calib_influxdb"
    conn_type = CONNECTION_TYPE
    hook_name = "InfluxDB (calibration mirror)"

    def __init__(self, influx_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.influx_conn_id = influx_conn_id

    def get_conn(self) -> InfluxClient:
        """The InfluxDB, to write lines to and to ask InfluxQL.

        :raises MirrorError: the connection's fields are not what they should be.
        """
        from airflow_calib_provider.mirror.client import InfluxClient

        return InfluxClient(influx_target(self.get_connection(self.influx_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Whether it answers, can be read and written, and its version; else what is wrong. No point is written."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.mirror.testing import examine

        try:
            client = self.get_conn()
            try:
                return True, examine(client)
            finally:
                client.close()
        except CalibError as error:
            return False, str(error)


def task_target(connection_id: str = CONNECTION_TYPE) -> InfluxTarget | None:
    """What Airflow knows of an InfluxDB, for code in a task; ``None``: there is no such connection.

    :raises MirrorError: its fields are not what they should be.
    """
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return influx_target(BaseHook.get_connection(connection_id))
    except AirflowNotFoundException:
        return None


async def trigger_target(connection_id: str) -> InfluxTarget | None:
    """As :func:`task_target`, for code in a trigger, where connections can be had in its event loop only."""
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return influx_target(await BaseHook.aget_connection(connection_id))
    except AirflowNotFoundException:
        return None
