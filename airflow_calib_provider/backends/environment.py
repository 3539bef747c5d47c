"""What payload code inherits from the environment of the process that submits it."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Airflow's own settings carry its database and its keys, and would let a job's `import airflow` reach them.
_AIRFLOW = re.compile(r"_?AIRFLOW")
# The ledger's address may hold a password; nothing on this side of the spool has business with the ledger.
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY|^CALIB_LEDGER")
# Paths to secrets are what jobs use to reach data (BEARER_TOKEN_FILE, KRB5CCNAME, X509_USER_PROXY): they stay.
_PATH = re.compile(r"_(FILE|PATH|DIR)$")
_CRASH = re.compile(r"^CALIB_CRASH_")


def for_supervisor(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without Airflow's variables and without secrets."""
    return {
        name: value
        for name, value in environment.items()
        if not _AIRFLOW.match(name) and (_PATH.search(name) or not _SECRET.search(name.upper()))
    }


def for_job(environment: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """The environment of a job: what the supervisor has, without crash points, and the job's own variables as given."""
    inherited = {name: value for name, value in for_supervisor(environment).items() if not _CRASH.match(name)}
    return inherited | dict(own)
