"""Names of Jobs, labels by which they are found, and sets of indexes as Kubernetes writes them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from airflow_calib_provider.backends.kubernetes.names import LABEL_VALUE, OURS, PREFIX
from airflow_calib_provider.domain.round_key import RoundKey

INSTALLATION, CONNECTION, ROUND = f"{PREFIX}installation", f"{PREFIX}connection", f"{PREFIX}round"
"""Labels of Jobs and pods."""

KEY = f"{PREFIX}key"
"""The annotation with the key of the round, which no label could hold."""

ABOUT = ("campaign", "workflow", "task", "group", "generation")
"""What of a round's key people look for Jobs by, each a label."""

JOB_NAME, INDEX = "batch.kubernetes.io/job-name", "batch.kubernetes.io/job-completion-index"
"""The labels that Kubernetes gives the pods of a Job."""


def digest(installation: str, key: RoundKey) -> str:
    """What tells the Jobs of a round from all others, as the value of a label and in a name."""
    return hashlib.sha256(f"{installation}\n{key}".encode()).hexdigest()[:20]


def job_name(installation: str, key: RoundKey, part: int) -> str:
    """The name of a Job, the same whenever it is asked for.

    With the largest index it is the host name of a pod, hence short.
    """
    return f"{OURS}{digest(installation, key)}-{part}"


def about(key: RoundKey) -> dict[str, str]:
    """Labels by which people find the Jobs of a round, and their pods; what cannot be a label's value has none."""
    values = {name: str(getattr(key, name)) for name in ABOUT}
    return {f"{PREFIX}{name}": value for name, value in values.items() if LABEL_VALUE.fullmatch(value)}


def connection_label(name: str) -> str:
    """The name of a connection as the value of a label."""
    return name if len(name) <= 63 and name[0].isalnum() and name[-1].isalnum() else _short(name)


def _short(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:20]


def indexes(text: str) -> set[int]:
    """``0-2,5`` as a set."""
    found: set[int] = set()
    for part in text.split(",") if text else ():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def one_of(label: str, values: Iterable[object]) -> str:
    """A selector for what has one of these values."""
    return f"{label} in ({','.join(map(str, values))})"
