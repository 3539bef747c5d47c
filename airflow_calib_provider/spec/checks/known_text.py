"""Templates that are known before there is a group."""

from __future__ import annotations

from pathlib import Path

from airflow_calib_provider.errors import RenderError
from airflow_calib_provider.spec.templates import render_text, variables_of


def known_text(template: str, folder: Path) -> str | None:
    """What a template comes to; ``None``: that is known only when there is a group, or a job.

    :param folder: of the workflow's file.
    """
    if variables_of(template) - {"spec.folder"}:
        return None
    try:
        return render_text(template, {"spec": {"folder": str(folder)}})
    except RenderError:  # such as {{ spec.folder + 1 }}: nothing will be made of it, and that says why
        return None
