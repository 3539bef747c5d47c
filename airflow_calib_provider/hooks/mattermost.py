"""The Airflow connection to an incoming webhook of Mattermost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_calib_provider.messages.mattermost import Mattermost, Webhook


def mattermost_webhook(connection: Connection) -> Webhook:
    """The webhook that a connection leads to.

    :raises ChannelTrouble: its fields are not what they should be.
    """
    from airflow_calib_provider.hooks.connections import plain_connection
    from airflow_calib_provider.messages.mattermost import Webhook

    return Webhook.of(plain_connection(str(connection.conn_id or ""), connection))


class MattermostHook(BaseHook):
    """An incoming webhook, for code in a task of one's own, and for the connection's test.

    :param mattermost_conn_id: the connection.
    """

    conn_name_attr = "mattermost_conn_id"
    default_conn_name = "calib_mattermost"
    conn_type = "calib_mattermost"
    hook_name = "Mattermost (calibration messages)"

    def __init__(self, mattermost_conn_id: str = default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.mattermost_conn_id = mattermost_conn_id

    def get_conn(self) -> Mattermost:
        """The webhook, to post to.

        :raises ChannelTrouble: the connection's fields are not what they should be.
        """
        from airflow_calib_provider.hooks.connections import plain_connection
        from airflow_calib_provider.messages.mattermost import Mattermost

        found = self.get_connection(self.mattermost_conn_id)
        return Mattermost({}, plain_connection(self.mattermost_conn_id, found))

    def test_connection(self) -> tuple[bool, str]:
        """Post a message to the webhook's channel; else what is wrong."""
        from airflow_calib_provider.errors import CalibError
        from airflow_calib_provider.messages.folding import trial

        try:
            webhook = self.get_conn()
            try:
                webhook.send(trial(self.mattermost_conn_id))
            finally:
                webhook.close()
        except CalibError as error:
            return False, str(error)
        return True, "a message was posted"
