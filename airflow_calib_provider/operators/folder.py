"""What the operators of the system DAGs share that read a folder of specs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator


class FolderOperator(BaseOperator):
    """Does something with the specs of a folder.

    :param specs: the folder of the YAML files.
    """

    ui_color = "#eadcf4"

    def __init__(self, *, specs: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._specs = Path(specs)
