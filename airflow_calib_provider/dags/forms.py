"""The forms that Airflow's trigger dialog shows: what people need first, and one section with the rest.

The dialog has all sections shut but that of the fields without one. It quietly cuts numbers to their limits, and does
not check what belongs together: that is the first task's (rule 57). Its boxes around code cover the line before and
behind them, so that what is to be typed is bold in the descriptions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Param

from airflow_calib_provider.spec.by_hand import by_hand_fields
from airflow_calib_provider.spec.language import BOX, PRESET

if TYPE_CHECKING:
    from airflow_calib_provider.domain.grouping import Grouping
    from airflow_calib_provider.spec.models import Workflow

MORE = "More fields"
"""The section of what is seldom filled in; the dialog has "Advanced Options" of its own."""


def by_hand_form(workflow: Workflow, policy: Grouping) -> dict[str, Param]:
    """The fields by which a person lets a DAG of a workflow process given runs; its params come after them.

    DAG runs that calib_inject opens have nothing in them.
    """
    fields = by_hand_fields(workflow)
    runs = "The run" if policy.is_single else "The runs of one group, such as **355100-355110, 355112**"
    return {
        fields["runs"]: Param(
            "",
            type=["string", "null"],
            format="multiline",
            title="Runs",
            description_md=f"{runs}. They are processed in a campaign of their own, based on prompt.",
        ),
        fields["campaign"]: Param(
            "",
            type=["string", "null"],
            title="Campaign",
            description_md="Its name, if it is to have one: letters, digits, hyphen and underscore.",
        ),
    }


def params_form(workflow: Workflow) -> dict[str, Param]:
    """The fields of a workflow's params. Those of its presets are chosen together."""
    chosen = {}
    if workflow.presets:
        about = "Params that are chosen together; another one holds for this DAG run only."
        names = list(workflow.presets)
        chosen[PRESET] = Param(workflow.preset, type="string", enum=names, title="Preset", description_md=about)
    of_presets = {name for values in workflow.presets.values() for name in values}
    return {**chosen, **{name: _param(value) for name, value in workflow.params.items() if name not in of_presets}}


def _param(value: object) -> Param:
    kinds = {bool: "boolean", int: "integer", float: "number", str: "string"}
    kind = kinds.get(type(value))
    about = "A param of the workflow; another value holds for this DAG run only."
    return Param(value, type=kind, description_md=about) if kind else Param(value, description_md=about)


def campaign_form() -> dict[str, Param]:
    """The fields of ``calib_campaign``; :data:`airflow_calib_provider.injection.forms.TYPES` reads them."""
    return {
        "name": Param(
            "",
            type="string",
            title="Name",
            description_md="Such as **rereco-2026A**: letters, digits, hyphen and underscore; never used twice.",
        ),
        "runs": Param(
            "",
            type=["string", "null"],
            format="multiline",
            title="Runs",
            description_md="Such as **355100-355180, 355200**, or one of these a line; **all** that the source lists.",
        ),
        "workflows": Param(
            [],
            type=["array", "null"],
            items={"type": "string"},
            title="Workflows",
            description_md="One name a line; none: all that take their runs from the source.",
        ),
        "base": Param(
            "prompt",
            type=["string", "null"],
            title="Base campaign",
            description_md="Whose payloads are used where this one has none.",
        ),
        "dry_run": Param(
            True,
            type="boolean",
            title="Dry run",
            description_md="Only check, and say what it would be, in the log of the task check.",
        ),
        **_advanced(),
    }


def backfill_form() -> dict[str, Param]:
    """The fields of ``calib_backfill``: a campaign that takes given runs, without its runs."""
    left_out = ("name", "runs", "dry_run", "kind")
    return {
        "campaign": Param(
            "",
            type=["string", "null"],
            title="Campaign",
            description_md=f"First tick **{BOX}** above: without it Airflow drops what is filled in here. The name of "
            "a new campaign, or of one that is collecting, which keeps what it has in the other fields.",
        ),
        **{key: field for key, field in campaign_form().items() if key not in left_out},
    }


def _advanced() -> dict[str, Param]:
    return {
        "kind": Param(
            "finite",
            type="string",
            enum=["finite", "collecting", "streamed"],
            title="Kind",
            values_display={
                "finite": "finite: these runs",
                "collecting": "collecting: runs are added until it is started",
                "streamed": "streamed: new runs as they come",
            },
            description_md="Which runs it takes.",
            section=MORE,
        ),
        "source": Param(
            "",
            type=["string", "null"],
            title="Run source",
            description_md="If the workflows take their runs from several.",
            section=MORE,
        ),
        "overrides": Param(
            None,
            type=["object", "null"],
            title="Overrides",
            description_md='Params, backend or resources otherwise: **{"window": 4, "zee.resources.memory": "4GB"}**',
            section=MORE,
        ),
        "first_tasks": Param(
            [],
            type=["array", "null"],
            items={"type": "string"},
            title="First tasks",
            description_md="Begin in the middle, such as with **fit**, one a line; what comes before is the base's.",
            section=MORE,
        ),
        **_limits(),
    }


def _limits() -> dict[str, Param]:
    """When it opens, and how much of it at once."""
    return {
        "order": Param(
            "ascending",
            type="string",
            enum=["ascending", "newest"],
            title="Order",
            values_display={"ascending": "ascending: by run number", "newest": "newest: the latest runs first"},
            description_md="Which groups open first.",
            section=MORE,
        ),
        "priority": Param(
            0,
            type=["integer", "null"],
            title="Priority",
            description_md="Higher ones open first, but prompt before all.",
            section=MORE,
        ),
        "max_groups": Param(
            None,
            type=["integer", "null"],
            title="Groups at once",
            description_md="So many may be open; nothing: no limit.",
            section=MORE,
        ),
        "max_jobs": Param(
            None,
            type=["integer", "null"],
            title="Jobs at once",
            description_md="So many may be submitted; nothing: no limit.",
            section=MORE,
        ),
    }
