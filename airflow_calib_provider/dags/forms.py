"""The forms that Airflow's trigger dialog shows: what people need first, and one section with the rest.

The dialog has all sections shut but that of the fields without one. It quietly cuts numbers to their limits, and does
not check what belongs together: that is the first task's (rule 57).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import Param

from airflow_calib_provider.spec.by_hand import by_hand_fields

if TYPE_CHECKING:
    from airflow_calib_provider.domain.grouping import Grouping
    from airflow_calib_provider.spec.models import Workflow

ADVANCED = "Advanced"


def by_hand_form(workflow: Workflow, policy: Grouping) -> dict[str, Param]:
    """The fields by which a person lets a DAG of a workflow process given runs; its params come after them.

    DAG runs that calib_inject opens have nothing in them.
    """
    fields = by_hand_fields(workflow)
    runs = "The run" if policy.is_single else "The runs of one group, such as `355100-355110, 355112`"
    return {
        fields["runs"]: Param(
            "",
            type=["string", "null"],
            format="multiline",
            title="Runs",
            description_md=f"{runs}. What is named here is processed in a campaign of its own, based on `prompt`.",
        ),
        fields["campaign"]: Param(
            "",
            type=["string", "null"],
            title="Campaign",
            description_md="Its name, if it is to have one: letters, digits, `-` and `_`.",
        ),
    }


def campaign_form() -> dict[str, Param]:
    """The fields of ``calib_campaign``; :data:`airflow_calib_provider.injection.forms.TYPES` reads them."""
    return {
        "name": Param(
            "",
            type="string",
            title="Name",
            description_md="Of the campaign, such as `rereco-2026A`: letters, digits, `-` and `_`; never used twice.",
        ),
        "runs": Param(
            "",
            type=["string", "null"],
            format="multiline",
            title="Runs",
            description_md="Such as `355100-355180, 355200`, or one of these a line; `all` that the source lists.",
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
            description_md="Only check, and say what it would be, in the log of the task `check`.",
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
            description_md="Its name: one that is collecting, or a new one. It has the other fields when it is new.",
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
            description_md="Of these runs; of runs that are still added until it is started; of new runs as they come.",
            section=ADVANCED,
        ),
        "source": Param(
            "",
            type=["string", "null"],
            title="Run source",
            description_md="If the workflows take their runs from several.",
            section=ADVANCED,
        ),
        "overrides": Param(
            None,
            type=["object", "null"],
            title="Overrides",
            description_md='Params, backend or resources otherwise: `{"window": 4, "zee.resources.memory": "4GB"}`.',
            section=ADVANCED,
        ),
        "first_tasks": Param(
            [],
            type=["array", "null"],
            items={"type": "string"},
            title="First tasks",
            description_md="Begin in the middle, such as with `fit`, one a line; what comes before is the base's.",
            section=ADVANCED,
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
            description_md="Which groups open first.",
            section=ADVANCED,
        ),
        "priority": Param(
            0,
            type=["integer", "null"],
            title="Priority",
            description_md="Higher ones open first, but `prompt` before all.",
            section=ADVANCED,
        ),
        "max_groups": Param(
            None,
            type=["integer", "null"],
            title="Groups at once",
            description_md="So many may be open; nothing: no limit.",
            section=ADVANCED,
        ),
        "max_jobs": Param(
            None,
            type=["integer", "null"],
            title="Jobs at once",
            description_md="So many may be submitted; nothing: no limit.",
            section=ADVANCED,
        ),
    }
