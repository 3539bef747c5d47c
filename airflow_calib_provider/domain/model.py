"""The base of what is checked once and never changes."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=60)]
"""A workflow, task, product or grouping: becomes part of Airflow's ids, of keys and of file names."""


class Model(BaseModel):
    """Strict and immutable. What checks it is made when the first one is: a command may need none."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)
