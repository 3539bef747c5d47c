"""What a view may be asked for: names without control characters, numbers that can be runs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from airflow_calib_provider.domain.run import MAX_RUN_NUMBER
from airflow_calib_provider.ledger.campaigns import PROMPT
from airflow_calib_provider.page.runs import STATES

_PRINTED = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(max_length=250, pattern=_PRINTED, strip_whitespace=True)]
Given = Annotated[str, StringConstraints(min_length=1, max_length=250, pattern=_PRINTED)]
Search = Annotated[str, StringConstraints(max_length=2_000, pattern=_PRINTED, strip_whitespace=True)]


def _or_none(value: Any) -> Any:
    """A field of a form that nobody filled in."""
    return None if value == "" else value


RunNumber = Annotated[Annotated[int, Field(ge=0, le=MAX_RUN_NUMBER)] | None, BeforeValidator(_or_none)]


class PageQuery(BaseModel):
    """What all have in common: what nobody knows is passed over, as Airflow may add something."""

    model_config = ConfigDict(extra="ignore")

    def given(self, name: str) -> bool:
        """Whether there is something in a field."""
        return bool(getattr(self, name))


class RunsQuery(PageQuery):
    """Of runs × tasks."""

    campaign: Name = ""
    workflow: Name = ""
    state: Literal["", *STATES] = ""  # type: ignore[valid-type]
    search: Search = ""
    before: RunNumber = None
    source: Name = ""
    size: Annotated[int, Field(ge=1, le=500)] = 50


class GroupQuery(PageQuery):
    """Of a group."""

    campaign: Name = PROMPT
    workflow: Name = ""
    name: Given


class TagQuery(PageQuery):
    """Of a tag."""

    campaign: Name = ""
    tag: Name = ""
    before: RunNumber = None


class CampaignsQuery(PageQuery):
    """Of campaigns."""

    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class DagQuery(PageQuery):
    """Of a DAG."""

    dag_id: Given


class DagRunQuery(DagQuery):
    """Of a DAG run, or a task of one."""

    run_id: Given
    task_id: Name = ""
