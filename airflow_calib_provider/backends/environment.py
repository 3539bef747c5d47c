"""What processes that are started from Airflow's see of its environment.

Jobs see what is listed here and nothing else, as on a pool: names of secrets cannot be listed, they are anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

JOB = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*",
    # Where credentials for data lie, not what they are.
    "X509_USER_PROXY", "X509_CERT_DIR", "KRB5CCNAME", "BEARER_TOKEN_FILE",
)  # fmt: skip
"""The variables of Airflow's processes that a job on this machine has too; ``*`` stands for any ending."""

_SUPERVISOR = (*JOB, "PYTHON*", "LD_*", "VIRTUAL_ENV", "CALIB_CRASH_*", "CALIB_LOCAL_JOB")

_AIRFLOW = re.compile(r"_?AIRFLOW")
# The ledger's address may hold a password; nothing on this side of the spool has business with the ledger.
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|FERNET|_PASS$|_PWD$"
    r"|^(DATABASE|BROKER|REDIS|MONGO\w*|AMQP|CELERY\w*)_URL$|^CALIB_LEDGER"
)
_PATH = re.compile(r"_(FILE|PATH|DIR)$")


def _listed(environment: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    starts = tuple(name[:-1] for name in names if name.endswith("*"))
    return {name: value for name, value in environment.items() if name in names or name.startswith(starts)}


def for_job(environment: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: what is listed in :data:`JOB`, and its own variables as given."""
    return _listed(environment, JOB) | dict(own)


def for_supervisor(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of the process that starts jobs, which they can read: what they have, and what Python needs."""
    return _listed(environment, _SUPERVISOR)


def for_helper(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without Airflow's variables and secrets: for HTCondor's library, which a site sets up by its own.

    Paths to secrets are what it authenticates with: they stay.
    """
    return {
        name: value
        for name, value in environment.items()
        if not _AIRFLOW.match(name) and (_PATH.search(name) or not _SECRET.search(name.upper()))
    }
