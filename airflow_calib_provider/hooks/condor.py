"""The Airflow connection to an HTCondor pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.backends.condor.backend import CondorBackend
    from airflow_calib_provider.backends.condor.settings import CondorSettings

CONNECTION_TYPE = "calib_condor"


def condor_settings(connection: Connection) -> CondorSettings:
    """What a connection says of a pool.

    Host and port are the collector's, the password is a token; the rest stands in the extra fields, by the names of
    :class:`~airflow_calib_provider.backends.condor.settings.CondorSettings`.

    :raises BackendError: a field is unknown, or has a value that it must not have.
    """
    from airflow_calib_provider.backends.condor.settings import CondorSettings
    from airflow_calib_provider.errors import BackendError

    values: dict[str, Any] = dict(connection.extra_dejson)
    name = str(connection.conn_id or CONNECTION_TYPE)
    if connection.conn_type != CONNECTION_TYPE:
        raise BackendError(
            f"the connection {name} has the type {connection.conn_type!r}", f"give it the type {CONNECTION_TYPE!r}"
        )
    if connection.host:
        values["collector"] = f"{connection.host}:{connection.port}" if connection.port else connection.host
    if connection.password:
        values["token"] = connection.password
    return CondorSettings.from_mapping(name, values)


class CondorHook(BaseHook):
    """An HTCondor pool, for code in a task of one's own, and for the connection's test.

    :param condor_conn_id: the connection.
    """

    conn_name_attr = "condor_conn_id"
    default_conn_name = "calib_condor"
    conn_type = CONNECTION_TYPE
    hook_name = "HTCondor pool (calibration)"

    def __init__(self, condor_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.condor_conn_id = condor_conn_id

    def get_conn(self) -> CondorBackend:
        """The pool, to submit to, look at and remove from.

        :raises BackendError: the connection's fields are not what they should be.
        """
        from airflow_calib_provider.backends.condor.backend import CondorBackend

        return CondorBackend(condor_settings(self.get_connection(self.condor_conn_id)))

    def test_connection(self) -> tuple[bool, str]:
        """Whether the schedd answers, and as whom; else what is wrong."""
        from airflow_calib_provider.errors import CalibError

        try:
            pool = self.get_conn()
            try:
                return True, pool.check()
            finally:
                pool.close()
        except CalibError as error:
            return False, str(error)
