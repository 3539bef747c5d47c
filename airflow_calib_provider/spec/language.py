"""The keys of the language, in one place: what may stand where."""

from __future__ import annotations

API_VERSION = "calib/v1"
SOURCES_FILE = "sources.yaml"

KEYS: dict[str, tuple[str, ...]] = {
    "the workflow": (
        "apiVersion", "workflow", "description", "owner", "tags", "runs", "params", "defaults", "tasks",
    ),
    "runs": ("source", "where", "since", "incomplete_after", "settle"),
    "defaults": ("backend", "retries", "quorum", "timeout", "resources", "environment", "failures", "keep"),
    "a task": ("group_by", "needs", "locks", "backend", "jobs", "products", "publish"),
    "group_by": ("run", "fill", "sum"),
    "group_by.run": ("name", "late_runs"),
    "group_by.fill": ("at_least", "short", "max_wait", "name", "late_runs"),
    "group_by.sum": ("tail", "name", "late_runs"),
    "a lock": ("payload",),
    "payload": ("tag", "covers"),
    "jobs": (
        "command", "split", "inputs", "environment", "resources", "retries", "quorum", "timeout", "failures", "keep",
    ),
    "split": ("count", "per_job", "inputs"),
    "inputs": ("command",),
    "resources": ("cpus", "memory", "disk", "gpus"),
    "failures": ("when", "then", "memory", "times", "after"),
    "failures.when": ("class", "exit_code", "signal", "hold_code"),
    "failures.memory": ("factor", "at_most"),
    "publish": ("tag", "file", "iov"),
    "the sources file": ("apiVersion", "sources"),
    "a source": ("fields",),
}  # fmt: skip

FAILURE_CLASSES = (
    "exit", "signal", "timeout", "memory", "disk", "product", "start", "transfer", "hold", "person", "lost",
)  # fmt: skip
"""As :class:`~airflow_calib_provider.domain.observation.FailureClass`, which says what they mean."""

SPLIT_INPUTS = ("shared", "all")
SHORT = ("next", "keep", "drop")
TAIL = ("keep", "drop", "previous")
MAX_RETRIES = 100
MAX_JOBS = 1_000_000

GROUP_SENSOR = "group"
LOCKS_SUFFIX = "__and_locks"
"""Names of a DAG's own nodes beside its tasks: the sensor of its group, and the box around a task and its locks."""

ALWAYS = ("number", "start", "end", "files")
"""Fields of a run that every template may use, whatever the source supplies; a time may be null."""
