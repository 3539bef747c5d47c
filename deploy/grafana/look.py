"""What all panels share: colours, variables, links, and one function for each kind of panel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafana_foundation_sdk.builders import bargauge, common, dashboard, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.influxql import CAMPAIGN, SOURCE, InfluxQuery, Target, tag_values
from deploy.grafana.transformations import GROUPING

GREEN, RED, CYAN, PURPLE, PINK, GRAY, AMBER, STONE = (
    "#22c55e",
    "#ef4444",
    "#06b6d4",
    "#a855f7",
    "#ec4899",
    "#9ca3af",
    "#f59e0b",
    "#78716c",
)

STATE_COLOURS = {
    # Of tasks. Airflow paints what waits as deferred, what works as running.
    "new": GRAY,
    "waiting": PURPLE,
    "processing": CYAN,
    "done": GREEN,
    "failed": RED,
    "skipped": PINK,
    # Of groups, locks and payloads.
    "forming": PURPLE,
    "closed": CYAN,
    "dropped": PINK,
    "open": GREEN,
    "never": RED,
    "candidate": PURPLE,
    "validated": PURPLE,
    "approved": CYAN,
    "publishing": CYAN,
    "published": GREEN,
    "superseded": GRAY,
    "withdrawn": PINK,
    "rejected": RED,
    "expired": GRAY,
    # Of campaigns, beside open and closed.
    "collecting": GRAY,
    "grouping": PURPLE,
    "paused": AMBER,
    "cancelled": PINK,
    # Of jobs.
    "submitted": STONE,
    "running": CYAN,
    "held": AMBER,
    "succeeded": GREEN,
    "left_out": GRAY,
    "removed": PINK,
}
"""Colours of states: those of Airflow's UI, where it has the same state."""

HOUR, DAY = 3600.0, 86400.0

DAG_RUN = (
    "${airflow_url:raw}/dags/${__data.fields.workflow}__${__data.fields.grouping}"
    "/runs/${campaign:raw}__${__data.fields.group}"
)
"""Airflow's page of a group: its DAG run, with the grid beside it."""

TASK_LOG = DAG_RUN + "/tasks/${__data.fields.task}"
"""Airflow's page of a task of a group, which shows its log."""

RUN_BOARD = "/d/calib-run?${campaign:queryparam}&var-workflow=${__data.fields.workflow}&var-run=${__data.fields.run}"

AnyPanel = Builder[models.Panel]
Link = tuple[str, str]


def state_mappings() -> list[models.ValueMapping]:
    """Words that are states, in their colours."""
    return [
        models.ValueMap(
            options={
                name: models.ValueMappingResult(color=colour, index=place)
                for place, (name, colour) in enumerate(STATE_COLOURS.items())
            }
        )
    ]


def thresholds(*steps: tuple[float, str], base: str = GREEN) -> dashboard.ThresholdsConfig:
    """Colours from these values on; below the first one: ``base``."""
    first = models.Threshold(value=None, color=base)
    return (
        dashboard.ThresholdsConfig()
        .mode(models.ThresholdsMode.ABSOLUTE)
        .steps([first, *(models.Threshold(value=value, color=colour) for value, colour in steps)])
    )


def _links(links: Sequence[Link]) -> list[Any]:
    return [{"title": title, "url": url, "targetBlank": url.startswith("${airflow_url")} for title, url in links]


def _add(panel: Any, queries: Sequence[InfluxQuery], title: str, text: str) -> Any:
    panel.title(title).description(text).datasource(SOURCE)
    for place, query in enumerate(queries):
        query.ref_id = chr(ord("A") + place)
        panel.with_target(Target(query))
    return panel


def _transform(panel: Any, steps: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    for name, settings in steps:
        panel.with_transformation(models.DataTransformerConfig(id_val=name, options=dict(settings)))


def number(
    title: str,
    text: str,
    *queries: InfluxQuery,
    unit: str = "short",
    limits: dashboard.ThresholdsConfig | None = None,
    colours: Mapping[str, str] | None = None,
    graph: bool = False,
    reduce: str = "lastNotNull",
    span: int = 4,
    height: int = 4,
) -> stat.Panel:
    """Large numbers, one for each series.

    :param colours: of series, by name.
    """
    panel: stat.Panel = _add(stat.Panel(), queries, title, text)
    panel.unit(unit).thresholds(limits or thresholds()).span(span).height(height).no_value("none")
    panel.reduce_options(common.ReduceDataOptions().calcs([reduce]).values(False).fields(""))
    panel.color_mode(options.BigValueColorMode.VALUE).text_mode(
        options.BigValueTextMode.AUTO if len(queries) == 1 else options.BigValueTextMode.VALUE_AND_NAME
    )
    panel.graph_mode(options.BigValueGraphMode.AREA if graph else options.BigValueGraphMode.NONE)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fixed(colour)])
    return panel


def _fixed(colour: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": colour})


def curves(
    title: str,
    text: str,
    *queries: InfluxQuery,
    unit: str = "short",
    limits: dashboard.ThresholdsConfig | None = None,
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    bars: bool = False,
    points: bool = False,
    repeat: str | None = None,
    bands: Mapping[str, str] | None = None,
    interval: str | None = None,
    minimum: float | None = 0.0,
    span: int = 12,
    height: int = 8,
) -> timeseries.Panel:
    """Series over time.

    :param stacked: on top of each other.
    :param bands: series → the series that the area below it is filled to.
    :param interval: the shortest one that is counted in.
    """
    panel: timeseries.Panel = _add(timeseries.Panel(), queries, title, text)
    panel.unit(unit).span(span).height(height).line_width(1).show_points(
        options.VisibilityMode.ALWAYS if points else options.VisibilityMode.NEVER
    )
    style = options.GraphDrawStyle
    panel.draw_style(style.BARS if bars else style.POINTS if points else style.LINE)
    panel.fill_opacity(60 if bars or stacked else 5 if not points else 0).span_nulls(not bars)
    panel.tooltip(common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING))
    panel.legend(_legend())
    if minimum is not None:
        panel.min(minimum)
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if limits is not None:
        panel.thresholds(limits)
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    if interval is not None:
        panel.interval(interval)
    if repeat is not None:
        panel.repeat(repeat).repeat_direction("h").max_per_row(2)
    for name, colour in (colours or {}).items():
        panel.override_by_name(name, [_fixed(colour)])
    for name, below in (bands or {}).items():
        panel.override_by_regexp(
            f"/{name}$/",
            [
                models.DynamicConfigValue(id_val="custom.fillBelowTo", value=below),
                models.DynamicConfigValue(id_val="custom.drawStyle", value="line"),
            ],
        )
    return panel


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().display_mode(options.LegendDisplayMode.LIST)
    return legend.placement(options.LegendPlacement.BOTTOM).show_legend(True).calcs([])


def lanes(title: str, text: str, *queries: InfluxQuery, span: int = 24, height: int = 14) -> statetimeline.Panel:
    """States over time, one lane for each series."""
    panel: statetimeline.Panel = _add(statetimeline.Panel(), queries, title, text)
    panel.mappings(state_mappings()).span(span).height(height).per_page(40).merge_values(True)
    panel.show_value(options.VisibilityMode.AUTO).row_height(0.85).fill_opacity(90).line_width(0)
    panel.align_value(options.TimelineValueAlignment.LEFT)
    panel.color_scheme(dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(GRAY))
    panel.legend(_legend())
    return panel


def rows(
    title: str,
    text: str,
    *queries: InfluxQuery,
    steps: Sequence[tuple[str, Mapping[str, Any]]] = (),
    units: Mapping[str, str] | None = None,
    links: Mapping[str, Sequence[Link]] | None = None,
    all_links: Sequence[Link] = (),
    limits: Mapping[str, dashboard.ThresholdsConfig] | None = None,
    sort: tuple[str, bool] | None = None,
    states: Sequence[str] = ("state",),
    all_states: bool = False,
    span: int = 24,
    height: int = 9,
) -> table.Panel:
    """A table.

    :param steps: transformations: name and options.
    :param units: of columns.
    :param links: of columns.
    :param limits: thresholds of columns, which colour their text.
    :param sort: a column, and whether the highest comes first.
    :param states: columns with states, shown in their colours.
    :param all_states: every column that is not named otherwise shows states.
    """
    panel: table.Panel = _add(table.Panel(), queries, title, text)
    panel.span(span).height(height).filterable(True).cell_height(options.TableCellHeight.SM).show_header(True)
    panel.no_value("")
    if all_links:
        panel.override_by_regexp("/.*/", [models.DynamicConfigValue(id_val="links", value=_links(all_links))])
    leads_to_airflow = any(DAG_RUN in url for targets in (links or {}).values() for _, url in targets)
    named = any('"grouping"' in query.query for query in queries)
    _transform(panel, [*steps, GROUPING] if leads_to_airflow and not named else steps)
    if all_states:
        panel.mappings(state_mappings()).cell_options(_background())
    for column in () if all_states else states:
        panel.override_by_name(
            column,
            [
                models.DynamicConfigValue(id_val="mappings", value=state_mappings()),
                models.DynamicConfigValue(id_val="custom.cellOptions", value=_background()),
            ],
        )
    for column, unit in (units or {}).items():
        panel.override_by_name(column, [models.DynamicConfigValue(id_val="unit", value=unit)])
    for column, limit in (limits or {}).items():
        panel.override_by_name(
            column,
            [
                models.DynamicConfigValue(id_val="thresholds", value=limit.build()),
                models.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
            ],
        )
    for column, targets in (links or {}).items():
        panel.override_by_name(column, [models.DynamicConfigValue(id_val="links", value=_links(targets))])
    if sort is not None:
        panel.sort_by([common.TableSortByFieldState().display_name(sort[0]).desc(sort[1])])
    return panel


def _background() -> options.TableColoredBackgroundCellOptions:
    return options.TableColoredBackgroundCellOptions(mode=options.TableCellBackgroundDisplayMode.BASIC)


def bars(
    title: str,
    text: str,
    *queries: InfluxQuery,
    unit: str = "short",
    limits: dashboard.ThresholdsConfig | None = None,
    reduce: str = "max",
    span: int = 12,
    height: int = 8,
) -> bargauge.Panel:
    """A bar for each series."""
    panel: bargauge.Panel = _add(bargauge.Panel(), queries, title, text)
    panel.unit(unit).min(0).thresholds(limits or thresholds()).span(span).height(height)
    panel.orientation(options.VizOrientation.HORIZONTAL).display_mode(options.BarGaugeDisplayMode.BASIC)
    panel.reduce_options(common.ReduceDataOptions().calcs([reduce]).values(False).fields(""))
    return panel


def choice(
    name: str,
    label: str,
    query: str,
    text: str,
    *,
    several: bool = False,
    preset: str | None = None,
    hide: bool = False,
) -> dashboard.QueryVariable:
    """A variable whose values the data source is asked for.

    :param several: more than one value, or all, may be chosen; all of them are at first.
    :param preset: the value at first; else the first one.
    """
    variable = (
        dashboard.QueryVariable(name)
        .label(label)
        .description(text)
        .query(query)
        .datasource(SOURCE)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.NATURAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if hide:
        variable.hide(models.VariableHide.HIDE_VARIABLE)
    if several:
        variable.current(models.VariableOption(text="All", value="$__all"))
    elif preset is not None:
        variable.current(models.VariableOption(text=preset, value=preset))
    return variable


def campaign() -> dashboard.QueryVariable:
    """The choice of one campaign, by which all others are narrowed."""
    return choice(
        "campaign",
        "Campaign",
        tag_values("run_task", "campaign"),
        "A pass over runs",
        preset="prompt",
    )


def workflow(*, several: bool) -> dashboard.QueryVariable:
    """The choice of a workflow of the campaign."""
    query = tag_values("run_task", "workflow", CAMPAIGN)
    return choice("workflow", "Workflow", query, "One YAML file each", several=several)


def make(
    name: str,
    title: str,
    text: str,
    variables: Sequence[dashboard.QueryVariable],
    panels: Sequence[AnyPanel],
    airflow_url: str,
    *,
    since: str = "now-7d",
) -> models.Dashboard:
    """Put a dashboard together.

    :param name: the end of its uid, ``calib-<name>``.
    :param airflow_url: where the links to Airflow lead at first.
    :param since: the beginning of its time range.
    """
    built = (
        dashboard.Dashboard(title)
        .uid(f"calib-{name}")
        .description(text)
        .tags(["calib"])
        .time(since, "now")
        .refresh("30s")
        .timezone("browser")
        .readonly()
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .link(
            dashboard.DashboardLink("Calibration")
            .type(models.DashboardLinkType.DASHBOARDS)
            .tags(["calib"])
            .as_dropdown(False)
            .include_vars(True)
            .keep_time(True)
        )
        .link(
            dashboard.DashboardLink("Airflow")
            .type(models.DashboardLinkType.LINK)
            .icon("external link")
            .url("${airflow_url:raw}")
            .target_blank(True)
        )
    )
    for variable in variables:
        built.with_variable(variable)
    built.with_variable(
        dashboard.TextBoxVariable("airflow_url")
        .label("Airflow")
        .description("The address of Airflow's UI, for links")
        .default_value(airflow_url)
        .current(models.VariableOption(text=airflow_url, value=airflow_url))
    )
    for panel in panels:
        built.with_panel(panel)
    made = built.build()
    for place, shown in enumerate(made.panels or [], start=1):
        shown.id_val = place
    return made
