"""The newest good commit of a bundle, for tasks that have not begun (rule 11): Airflow runs them from an older one.

A DAG run keeps the commit with which it was made, and its tasks with it. What the ledger has of the workflow comes from
the last injection.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from airflow.dag_processing.bundles.base import BaseDagBundle
    from airflow.sdk import Context

    from airflow_calib_provider.ledger.engine import Ledger
    from airflow_calib_provider.spec.models import Workflow

log = structlog.get_logger(__name__)


class LeftOut(Exception):
    """The newest good commit has no such task any more, and it has not begun: there is nothing to be done."""


def bundle_of(context: Context) -> BaseDagBundle | None:
    """The bundle that a task runs from; ``None`` outside of Airflow."""
    found: BaseDagBundle | None = getattr(context["ti"], "bundle_instance", None)
    return found


def version_of(context: Context) -> str | None:
    """The version of the bundle that a task runs from: a commit."""
    bundle = bundle_of(context)
    return None if bundle is None else bundle.version


@contextmanager
def newest(ledger: Ledger, workflow: Workflow, context: Context) -> Iterator[tuple[Workflow, str | None]]:
    """The workflow as it is in the newest good commit, and this commit; Airflow leaves its files alone meanwhile.

    It is the one that the task was started with where that is newer, where there are no commits, and where the newest
    cannot be had.
    """
    bundle = bundle_of(context)
    own = None if bundle is None else bundle.version
    if bundle is None or own is None:
        yield workflow, None
        return
    version = _known_version(ledger, workflow.name, bundle.name)
    if version is None or version == own:
        yield workflow, own
        return

    from airflow.dag_processing.bundles.base import BundleVersionLock

    with BundleVersionLock(bundle_name=bundle.name, bundle_version=version):  # type: ignore[no-untyped-call]
        found = _served(bundle, workflow, version)
        if found is None:
            yield workflow, own
        else:
            log.info("the newest good commit is taken", commit=version, instead_of=own)
            yield found, version


def left_out(task: str, commit: str | None) -> LeftOut:
    """With what is told."""
    return LeftOut(f"not run: the workflow has no task {task} any more, as of commit {commit}")


def end_left_out(context: Context, error: LeftOut) -> dict[str, object]:
    """End a task that is run no more; what comes after it goes on."""
    log.info(str(error))
    context["ti"].xcom_push("reason", str(error))
    return {"left_out": str(error)}


def _known_version(ledger: Ledger, workflow: str, bundle: str) -> str | None:
    from airflow_calib_provider.ledger import spec_files

    with ledger.read() as connection:
        owner = spec_files.owner_of(connection, workflow)
    return owner.version if owner is not None and owner.bundle == bundle else None


def _served(bundle: BaseDagBundle, workflow: Workflow, version: str) -> Workflow | None:
    """The workflow in another commit of the bundle; ``None``: that is older, or cannot be had."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    from airflow_calib_provider.errors import CalibError
    from airflow_calib_provider.hooks.specs import served_workflow

    path = Path(workflow.file)
    root = next((parent for parent in path.parents if parent.name == bundle.version), None)
    bare = getattr(bundle, "bare_repo_path", None)
    if root is None or bare is None:
        return None
    try:
        other = DagBundlesManager().get_bundle(bundle.name, version)  # type: ignore[no-untyped-call]
        other.initialize()
    except Exception as error:  # noqa: BLE001 - whatever a bundle raises: the commit that Airflow gave us is there
        log.warning("the newest good commit cannot be had", commit=version, error=f"{type(error).__name__}: {error}")
        return None
    if _is_older(bare, version, str(bundle.version)):
        return None
    try:
        return served_workflow(root.with_name(version) / path.relative_to(root), worker=True)
    except CalibError as error:
        log.warning("the newest good commit cannot be read", commit=version, error=str(error))
        return None


def _is_older(repository: Path, one: str, other: str) -> bool:
    """Whether a commit comes before another; not where history was rewritten, or git does not say."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), "merge-base", "--is-ancestor", one, other],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
