"""``calib campaign compare``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from airflow_calib_provider.cli.common import Json, TaskName, WorkflowName, examples, open_ledger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_calib_provider.api import CampaignComparison, PayloadPair, ValuePair


def register(app: typer.Typer) -> None:
    """Add the command that compares campaigns."""
    app.command(
        epilog=examples(
            "calib campaign compare prompt rereco-2026A",
            "calib campaign compare prompt rereco-2026A --value scale_EB --groups",
            "calib campaign compare prompt rereco-2026A --task scale --plot scale.png",
        )
    )(compare)


def compare(
    first: Annotated[str, typer.Argument(help="A campaign.")],
    second: Annotated[str, typer.Argument(help="Another one.")],
    value: Annotated[str | None, typer.Option("--value", help="Only this value.", metavar="NAME")] = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only payloads of this tag.")] = None,
    task: TaskName = None,
    workflow: WorkflowName = None,
    groups: Annotated[bool, typer.Option("--groups", help="Each group, and each interval of payloads.")] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw values and differences into this file.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Put what two campaigns have made side by side: the values of the same groups, the payloads of the same runs.

    Differences are those of the second from the first. Payloads of base campaigns do not count.
    """
    from airflow_calib_provider import api
    from airflow_calib_provider.cli.output import emit_json
    from airflow_calib_provider.cli.plotting import plot_pairs, require_matplotlib

    if plot is not None:
        require_matplotlib()
    found = api.compare_campaigns(open_ledger(), first, second, workflow=workflow, task=task, name=value, tag=tag)
    if plot is not None:
        plot_pairs(_series(found.values), first, second, plot)
    if as_json:
        emit_json(_plain(found))
        return
    if groups:
        _show_groups(found)
    else:
        _show_totals(found)
    _show_payloads(found, groups)
    if plot is not None:
        print(f"drawn into {plot}")


def _plain(found: CampaignComparison) -> dict[str, object]:
    return {
        "first": found.first,
        "second": found.second,
        "values": [{**vars(pair), "difference": pair.difference} for pair in found.values],
        "payloads": [
            {
                "tag": pair.tag,
                "first_run": pair.first_run,
                "last_run": pair.last_run,
                "state": pair.state,
                "first": pair.first._asdict() if pair.first else None,
                "second": pair.second._asdict() if pair.second else None,
            }
            for pair in found.payloads
        ],
    }


def _series(found: Sequence[ValuePair]) -> Mapping[tuple[str, str, str], list[ValuePair]]:
    from collections import defaultdict

    series: dict[tuple[str, str, str], list[ValuePair]] = defaultdict(list)
    for pair in found:
        series[pair.workflow, pair.task, pair.name].append(pair)
    return series


def _show_totals(found: CampaignComparison) -> None:
    from airflow_calib_provider.cli.output import table
    from airflow_calib_provider.cli.value_commands import rounded

    rows = []
    for (workflow, task, name), pairs in _series(found.values).items():
        both = [(pair, pair.difference) for pair in pairs if pair.difference is not None]
        only = [sum(pair.second is None for pair in pairs), sum(pair.first is None for pair in pairs)]
        largest = max(both, key=lambda item: abs(item[1]), default=None)
        n = len(both)
        rows.append(
            [
                name,
                f"{workflow}.{task}",
                n,
                rounded(sum(pair.first or 0.0 for pair, _ in both) / n) if n else "",
                rounded(sum(pair.second or 0.0 for pair, _ in both) / n) if n else "",
                rounded(sum(difference for _, difference in both) / n) if n else "",
                f"{rounded(largest[1])} ({largest[0].group})" if largest else "",
                sum(not pair.same_runs for pair in pairs),
                *only,
            ]
        )
    heads = ["value", "task", "groups", f"mean {found.first}", f"mean {found.second}", "mean difference"]
    more = ["largest", "of other runs", f"only {found.first}", f"only {found.second}"]
    table([*heads, *more], rows, empty="neither has reported values")


def _show_groups(found: CampaignComparison) -> None:
    from airflow_calib_provider.cli.output import table
    from airflow_calib_provider.cli.value_commands import rounded

    rows = [
        [
            pair.name,
            f"{pair.workflow}.{pair.task}",
            pair.group,
            rounded(pair.first),
            rounded(pair.second),
            rounded(pair.difference),
            "" if pair.same_runs else "other runs",
        ]
        for pair in found.values
    ]
    heads = ["value", "task", "group", found.first, found.second, "difference", ""]
    table(heads, rows, empty="neither has reported values")


def _show_payloads(found: CampaignComparison, each: bool) -> None:
    from airflow_calib_provider.cli.output import table

    print()
    if each:
        rows: list[list[object]] = [
            [
                pair.tag,
                pair.first_run,
                pair.last_run,
                _payload(pair, first=True),
                _payload(pair, first=False),
                _words(found, pair.state),
            ]
            for pair in found.payloads
        ]
        table(["tag", "first", "last", found.first, found.second, ""], rows, empty="neither has published payloads")
        return
    tags = sorted({pair.tag for pair in found.payloads})
    states = ("same", "different", "only first", "only second")
    counted = [
        [tag, *(sum(pair.tag == tag and pair.state == state for pair in found.payloads) for state in states)]
        for tag in tags
    ]
    heads = ["tag: intervals", *(_words(found, state) for state in states)]
    table(heads, counted, empty="neither has published payloads")


def _words(found: CampaignComparison, state: str) -> str:
    return {"only first": f"only {found.first}", "only second": f"only {found.second}"}.get(state, state)


def _payload(pair: PayloadPair, *, first: bool) -> str:
    row = pair.first if first else pair.second
    return f"{row.content_hash[:12]} (revision {row.revision})" if row is not None else ""
