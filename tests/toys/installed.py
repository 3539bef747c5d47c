"""The toys as another package that is installed: on the path of this process and of those that it starts."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airflow_calib_provider import kinds
from airflow_calib_provider.domain import grouping, keys

PACKAGES = ("calib_toys", "my_kinds")
SITE = Path(__file__).parent / "site"


@contextmanager
def toys(patch: pytest.MonkeyPatch, site: Path = SITE) -> Iterator[None]:
    """Install them, or what else is in a folder, for a while."""
    patch.syspath_prepend(site)
    patch.setenv("PYTHONPATH", os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])]))
    _forget()
    yield
    patch.undo()
    _forget()


def _forget() -> None:
    kinds._installed.cache_clear()
    grouping.rules_of.cache_clear()
    keys._together.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]
