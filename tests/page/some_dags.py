"""An auth manager of Airflow's with a person who may read some DAGs only, which Airflow's simple one does not know."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

SOME = "some"
THEIRS = frozenset({"demo__run", "demo__fill"})
"""Who, and what they may read."""


class SomeDags(SimpleAuthManager):
    """The simple one, but for that person."""

    def is_authorized_dag(self, *, user: SimpleAuthManagerUser, details: Any = None, **more: Any) -> bool:
        allowed = bool(super().is_authorized_dag(user=user, details=details, **more))
        if user.username != SOME or details is None or details.id is None:
            return allowed
        return allowed and details.id in THEIRS
