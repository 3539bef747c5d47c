"""The Airflow connection to a nopayloaddb."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.outside.nopayloaddb_client import Server


def nopayloaddb_server(connection: Connection) -> Server:
    """Where a server is, how one is let in, and where the payloads are kept.

    :raises OutsideError: the connection's fields are not what they should be.
    """
    from airflow_calib_provider.hooks.connections import plain_connection
    from airflow_calib_provider.outside.nopayloaddb_client import Server

    return Server.of_connection(plain_connection(str(connection.conn_id or ""), connection))


class NopayloaddbHook(BaseHook):
    """A nopayloaddb, for the connection's test and for code in a task of one's own.

    :param nopayloaddb_conn_id: the connection.
    """

    conn_name_attr = "nopayloaddb_conn_id"
    default_conn_name = "calib_nopayloaddb"
    conn_type = "calib_nopayloaddb"
    hook_name = "nopayloaddb (calibration constants)"

    def __init__(self, nopayloaddb_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.nopayloaddb_conn_id = nopayloaddb_conn_id

    def get_conn(self) -> Server:
        """The server.

        :raises OutsideError: the connection's fields are not what they should be.
        """
        return nopayloaddb_server(self.get_connection(self.nopayloaddb_conn_id))

    def test_connection(self) -> tuple[bool, str]:
        """Whether it answers as a nopayloaddb does, and the folder is there; else what is wrong."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.outside.nopayloaddb_client import answers

        try:
            return True, answers(self.get_conn())
        except CalibError as error:
            return False, str(error)
