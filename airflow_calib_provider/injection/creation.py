"""Creating a campaign: everything that a person asks for is checked before anything is written (rules 53–55)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from airflow_calib_provider.domain.new_campaign import NewCampaign, PreparedCampaign
from airflow_calib_provider.domain.run import RunRecord
from airflow_calib_provider.domain.run_ranges import parse_ranges
from airflow_calib_provider.errors import CalibError, Mistakes, NotFound
from airflow_calib_provider.injection import fitting
from airflow_calib_provider.injection.own_specs import begins
from airflow_calib_provider.injection.serving import Served, serve
from airflow_calib_provider.ledger import campaigns, spec_files, steering
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.ledger.spec_files import KeptText
from airflow_calib_provider.runsources import read_source
from airflow_calib_provider.spec import overrides as settings
from airflow_calib_provider.spec.language import SOURCES_FILE
from airflow_calib_provider.spec.models import RunSource, Workflow
from airflow_calib_provider.spec.problems import nearest
from airflow_calib_provider.spec.team import team_of


class _Found:
    """The mistakes that were found so far."""

    def __init__(self) -> None:
        self.errors: list[CalibError] = []

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Go on after a mistake."""
        try:
            yield
        except CalibError as error:
            self.errors.append(error)

    def add(self, message: str, hint: str = "") -> None:
        self.errors.append(CalibError(message, hint))

    def raise_all(self, what: str) -> None:
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise Mistakes(what, self.errors)


def prepare(ledger: Ledger, folder: Path, wanted: NewCampaign) -> PreparedCampaign:
    """Check what a person asks for. Nothing is written.

    :param folder: of the YAML files.
    :raises CalibError: the one mistake, or all of them (:class:`~airflow_calib_provider.errors.Mistakes`).
    """
    return _prepare(ledger, folder, wanted)[0]


def _prepare(ledger: Ledger, folder: Path, wanted: NewCampaign) -> tuple[PreparedCampaign, Mapping[str, Workflow]]:
    """What it would be, and its workflows."""
    found = _Found()
    with ledger.read() as connection:
        kept = spec_files.kept_texts(connection, team_of(folder))
        base = wanted.base or (campaigns.PROMPT if wanted.first_tasks else None)
        with found.collected():
            campaigns.check_name(connection, wanted.name, wanted.kind)
            if base == wanted.name:  # of a name that is taken this would be the same mistake once more
                campaigns.check_base(connection, wanted.name, base)
        based = False
        if base != wanted.name:
            with found.collected():
                campaigns.check_base(connection, wanted.name, base)
                based = True
    _check_numbers(wanted, found)
    served = serve(folder, lambda: kept)
    if wanted.source is None and _needs_source(wanted) and len(known := sources_of(served, wanted.workflows)) == 1:
        wanted = replace(wanted, source=known[0])
    workflows = _workflows(served, folder, wanted, found)
    records = _runs(served, folder, wanted, found)
    # Of a workflow or a source with a wrong name nobody knows what it has: that is the one mistake then.
    complete = set(wanted.workflows) <= set(workflows) and (bool(workflows) or wanted.source is None)
    overrides, mistakes = settings.sorted_out(wanted.overrides, workflows, complete=complete)
    if not mistakes:
        for name, places in overrides.items():
            source = served.sources.get(workflows[name].runs.source)
            mistakes += settings.mistakes_of(workflows[name], places, source)
    for said in dict.fromkeys(mistakes):  # what a workflow says for all its tasks is a mistake in each of them
        found.add(said)
    first = _first_tasks(wanted, workflows, found, complete=complete)
    found.errors += fitting.other_sources(wanted, workflows) if wanted.source in served.sources else []
    if complete and based:
        with ledger.read() as connection:
            found.errors += fitting.unmet(connection, wanted, base, workflows, first, [one.number for one in records])
    found.raise_all(f"the campaign {wanted.name[:80]!r}")
    fixed = workflows if wanted.workflows or not wanted.streamed or overrides else {}
    numbers = [record.number for record in records]
    incomplete = [record.number for record in records if not record.completed]
    hashes = {name: item.hash for name, item in fixed.items()}
    return PreparedCampaign(wanted, base, numbers, incomplete, hashes, overrides, first), fixed


def create(
    ledger: Ledger,
    folder: Path,
    wanted: NewCampaign,
    now: datetime,
    *,
    person: str | None = None,
    dag_run: str | None = None,
) -> PreparedCampaign:
    """Create a campaign as it is asked for.

    :param dag_run: that of Airflow which asks for it.
    :returns: what was created.
    :raises CalibError: as :func:`prepare`.
    """
    found, workflows = _prepare(ledger, folder, wanted)
    texts = [KeptText(item.name, Path(item.file).name, item.hash, item.text, now) for item in workflows.values()]
    with ledger.write() as connection:
        if wanted.name != campaigns.PROMPT:
            campaigns.ensure_prompt(connection)
        for text in texts:
            spec_files.keep_text(connection, text)
    campaigns.create_large(
        ledger,
        wanted.name,
        kind=wanted.kind,
        runs={found.wanted.source: found.runs} if found.wanted.source is not None else None,
        base_campaign=found.base,
        spec_hashes=found.workflows,
        collecting=wanted.collecting,
        overrides={name: dict(places) for name, places in found.overrides.items()},
        first_tasks={name: begins(workflows[name], list(tasks)) for name, tasks in found.first_tasks.items()},
        run_order=None if wanted.order == campaigns.ORDERS[0] else wanted.order,
        priority=wanted.priority,
        max_groups=wanted.max_groups or None,
        max_jobs=wanted.max_jobs or None,
        created_by=person,
        dag_run=dag_run,
    )
    return found


def _check_numbers(wanted: NewCampaign, found: _Found) -> None:
    for said in steering.Changes(wanted.priority, wanted.max_groups, wanted.max_jobs).mistakes():
        found.add(said)
    if wanted.order not in campaigns.ORDERS:
        found.add(f"the order is {wanted.order!r}", f"choose one of {', '.join(campaigns.ORDERS)}")
    if wanted.streamed and wanted.collecting:
        found.add("a streamed campaign takes runs as they come, and collects none", "leave out one of both")
    if wanted.streamed and wanted.first_tasks:
        found.add("only a finite campaign can begin in the middle", "leave out --from, or name its runs")


def _workflows(served: Served, folder: Path, wanted: NewCampaign, found: _Found) -> Mapping[str, Workflow]:
    """The campaign's workflows, as far as there are any."""
    known = served.to_inject
    if wanted.workflows:
        for name in wanted.workflows:
            if name not in known:
                hint = nearest(name, known)
                listed = f"it has {', '.join(sorted(known)) or 'none'}"
                broken = [str(error) for error in served.errors] if name not in served.workflows else []
                found.errors.append(
                    NotFound(f"{folder} has no workflow {name}", " ".join([hint, listed, *broken[:3]]).strip())
                )
        return {name: known[name] for name in wanted.workflows if name in known}
    if wanted.streamed or wanted.source is None:
        return known
    taking = {name: item for name, item in known.items() if item.runs.source == wanted.source}
    if not taking and wanted.source in served.sources:
        found.add(f"no workflow takes its runs from the source {wanted.source}", "name another with --source")
    return taking


def _needs_source(wanted: NewCampaign) -> bool:
    return not wanted.streamed and (not wanted.collecting or wanted.runs is not None)


def sources_of(served: Served, workflows: Sequence[str]) -> list[str]:
    """The run sources of these workflows, or of all if none is named: where it is one, nobody has to name it.

    Where no workflow is right, its name is the mistake: then they are all that there are.
    """
    known = served.to_inject
    chosen = [known[name] for name in workflows if name in known] if workflows else list(known.values())
    return sorted({item.runs.source for item in chosen} or served.sources)


def _runs(served: Served, folder: Path, wanted: NewCampaign, found: _Found) -> Sequence[RunRecord]:
    if wanted.streamed:
        if wanted.source is not None or wanted.runs is not None:
            found.add("a streamed campaign takes runs as they come", "leave out --source and --runs")
        return []
    if wanted.source is None:
        if _needs_source(wanted):
            sources = sources_of(served, wanted.workflows)
            known = f" ({', '.join(sources)})" if sources else ""
            found.add("a finite campaign needs a run source", f"name it with --source{known}, or create it --streamed")
        return []
    if wanted.collecting and wanted.runs is None:
        with found.collected():
            source_of(served.sources, folder, wanted.source)
        return []
    records: Sequence[RunRecord] = []
    with found.collected():
        source = source_of(served.sources, folder, wanted.source)
        records = listed(source, folder, wanted.runs)
        if not records:
            said = f"the finite campaign {wanted.name} would have no runs"
            found.add(said, f"state runs that the source {wanted.source} lists: `calib runs list` shows them")
    return records


def source_of(sources: Mapping[str, RunSource], folder: Path, name: str) -> RunSource:
    """:raises NotFound: there is no such source."""
    file = folder / SOURCES_FILE
    if not sources and not file.is_file():
        raise NotFound(f"there is no file {file}", "name the folder of the YAML files with --specs")
    if name not in sources:
        hint = nearest(name, sources)
        known = f"it has {', '.join(sorted(sources)) or 'none'}"
        raise NotFound(f"{file} has no run source {name}", f"{hint} {known}".strip())
    return sources[name]


def listed(source: RunSource, folder: Path, runs: str | None) -> list[RunRecord]:
    """The runs of a source that are named.

    :param runs: ranges and numbers; ``None``: all.
    :raises CalibError: the source cannot be read, or does not list a number that is named.
    """
    ranges = parse_ranges(runs) if runs is not None else None
    records = read_source(source, base_folder=folder)
    if ranges is None:
        return list(records)
    known = {record.number for record in records}
    if missing := [str(number) for number in ranges.single if number not in known]:
        more = f" and {len(missing) - 20} more" if len(missing) > 20 else ""
        said = f"the source {source.name} does not list {', '.join(missing[:20])}{more}"
        raise CalibError(said, "`calib runs list` shows the runs")
    return [record for record in records if record.number in ranges]


def _first_tasks(
    wanted: NewCampaign, workflows: Mapping[str, Workflow], found: _Found, *, complete: bool
) -> dict[str, list[str]]:
    """Workflow → the tasks with which it begins.

    :param complete: the workflows are all of the campaign's.
    """
    result: dict[str, list[str]] = {}
    known = [f"{name}.{task}" for name, item in workflows.items() for task in item.tasks]
    for text in wanted.first_tasks:
        fits = [one for one in known if text in (one, one.partition(".")[2])]
        if not fits and not complete:
            continue
        if len(fits) != 1:
            said = f"several workflows have a task {text}" if fits else f"no workflow of the campaign has a task {text}"
            hint = (
                f"write {' or '.join(fits)}" if fits else nearest(text, [*known, *(x.partition(".")[2] for x in known)])
            )
            found.add(said, hint or (f"they have {', '.join(known[:20])}" if known else "name its workflows first"))
            continue
        workflow, _, task = fits[0].partition(".")
        result.setdefault(workflow, []).append(task)
    return result
