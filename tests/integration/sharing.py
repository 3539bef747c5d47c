"""Which modules share an Airflow: to start one costs as much as many tests."""

from __future__ import annotations

from pathlib import PurePath

SHARED = {
    "people": (
        "test_browser_forms.py",
        "test_browser_tasks.py",
        "test_clicks.py",
        "test_files.py",
        "test_messages.py",
        "test_mirror.py",
        "test_people.py",
    ),
    "kills": ("test_kills.py",),
    "pool": ("test_condor.py", "test_condor_operator.py"),
    "cluster": ("test_kubernetes_kills.py", "test_kubernetes.py"),
    "demo": ("test_demo.py",),
    "git": ("test_git.py",),
    "kinds": (
        "test_campaigns.py",
        "test_amending.py",
        "test_failed_runs.py",
        "test_approval.py",
        "test_set_approval.py",
        "test_publishing.py",
        "test_iterating.py",
        "test_kinds.py",
        "test_waiting.py",
        "test_from_airflow.py",
        "test_backfill_modes.py",
        "test_locks.py",
    ),
}
"""Name of the installation → its modules; those that take long come first, so that the last one does not run alone."""

FOLDER = "tests/integration/"


def installation_of(node: str) -> str:
    """The name of the installation of a test, or of a module; nothing, if there is none.

    :param node: its id.
    """
    file = node.partition("::")[0]
    if not file.startswith(FOLDER):
        return ""
    return next(name for name, modules in SHARED.items() if PurePath(file).name in modules)
