"""The application: which view is at which address, who may ask for it, and what is told to the browser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, RedirectResponse
from markupsafe import Markup
from sqlalchemy import Connection
from starlette.exceptions import HTTPException as AnyHTTPException

from airflow_calib_provider.domain import page_addresses as addresses
from airflow_calib_provider.domain.page_addresses import view_address
from airflow_calib_provider.errors import CalibError, NotFound
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.page import campaigns, group, intervals, people, runs, tags
from airflow_calib_provider.page.parameters import (
    CampaignsQuery,
    DagQuery,
    DagRunQuery,
    GroupQuery,
    RunsQuery,
    TagQuery,
)
from airflow_calib_provider.page.render import html
from airflow_calib_provider.page.rights import Reader, Rights, rights_of
from airflow_calib_provider.spec.language import APPROVE_SUFFIX, CANDIDATE_SUFFIX

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
FILES = {"style.css": "text/css", "page.js": "text/javascript"}

HEADERS = {
    # What data might bring into a page is not run: scripts and styles are files of this package alone.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}

router = APIRouter(default_response_class=HTMLResponse)


def make_app(ledger: Callable[[], Ledger], reader: Callable[..., Reader]) -> FastAPI:
    """The application of the page.

    :param ledger: opens it; called for each request, in a thread.
    :param reader: a dependency of FastAPI that says who asks; it raises ``HTTPException`` (401) for those who may not.
    """
    asked = Depends(reader)

    def remember(request: Request, person: Reader = asked) -> None:
        request.state.reader, request.state.ledger = person, ledger

    # Nothing is answered to nobody, not even what there is: every address is behind the dependency.
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(remember)])
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(AnyHTTPException, _refused)
    app.add_exception_handler(NotFound, _not_found)
    app.add_exception_handler(CalibError, _in_trouble)
    app.middleware("http")(_with_headers)
    return app


async def _with_headers(request: Request, call_next: Callable[[Request], Any]) -> Response:
    response: Response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers[name] = value
    return response


def _failed(code: int, heading: str, said: str) -> HTMLResponse:
    return HTMLResponse(html("failed.html", heading=heading, said=said), code)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    wrong = {str(one["loc"][-1]): str(one["msg"]) for one in error.errors()}
    return _failed(422, "Not understood", "; ".join(f"{name}: {said}" for name, said in wrong.items()))


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, AnyHTTPException)
    answer: Response = PlainTextResponse("log in to Airflow first\n", 401)
    if error.status_code != 401:
        answer = _failed(error.status_code, "Not shown", str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


def _not_found(_: Request, error: Exception) -> Response:
    assert isinstance(error, NotFound)
    return _failed(404, "Not found", error.message)


def _in_trouble(_: Request, error: Exception) -> Response:
    log.error("the page cannot be shown: %s", error)
    return _failed(503, "The ledger cannot be read now", "The log of Airflow's API server says why.")


@contextmanager
def _reading(request: Request) -> Iterator[tuple[Connection, Rights]]:
    """The ledger at one moment, and what of it the person may see."""
    with request.state.ledger().read() as connection:
        yield connection, rights_of(connection, request.state.reader)


def _page(view: str, **data: Any) -> HTMLResponse:
    return HTMLResponse(html(f"{view}.html", view=view, **data))


@router.get("/")
def start() -> Response:
    """The view that one begins with."""
    return RedirectResponse(addresses.RUNS)


@router.get("/static/{name}")
def static(name: str) -> Response:
    """A style or a script."""
    if name not in FILES:
        raise HTTPException(404, "there is no such file")
    return Response((STATIC / name).read_bytes(), media_type=FILES[name])


@router.get(f"/{addresses.RUNS}")
def runs_view(request: Request, query: Annotated[RunsQuery, Query()]) -> Response:
    """Runs × tasks."""
    with _reading(request) as (connection, rights):
        names = campaigns.names(connection, rights)
        if not names and not query.given("campaign"):
            return _page("nothing", said="The ledger has no runs yet of a DAG that you may read.")
        query.campaign = query.campaign or (names[0] if "prompt" not in names else "prompt")
        found = runs.matrix(connection, rights, runs.Wanted(**query.model_dump()))
    following = None
    if found.following is not None:
        before, source = found.following
        following = view_address(addresses.RUNS, **{**query.model_dump(), "before": before, "source": source})
    return _page("runs", query=query, campaigns=names, found=found, states=runs.STATES, following=following)


@router.get(f"/{addresses.GROUP}")
def group_view(request: Request, query: Annotated[GroupQuery, Query()]) -> Response:
    """A group."""
    with _reading(request) as (connection, rights):
        found = group.found_groups(connection, rights, query.campaign, query.workflow, query.name)
        if len(found) > 1:
            return _page("choose", groups=found)
        view = group.group_view(connection, found[0], datetime.now(UTC))
    # The picture's texts are escaped where it is drawn.
    pictures = [Markup(one.picture) for one in view.iterated]  # noqa: S704
    return _page("group", found=view, pictures=pictures)


@router.get(f"/{addresses.TAG}")
def tag_view(request: Request, query: Annotated[TagQuery, Query()]) -> Response:
    """A tag; without one all tags of a campaign."""
    with _reading(request) as (connection, rights):
        names = campaigns.names(connection, rights)
        if not names and not query.given("campaign"):
            return _page("nothing", said="The ledger has no payloads yet of a DAG that you may read.")
        query.campaign = query.campaign or (names[0] if "prompt" not in names else "prompt")
        if not query.tag:
            listed = tags.tags_of(connection, rights, query.campaign)
            return _page("tags", query=query, campaigns=names, tags=listed)
        found = tags.tag_view(connection, rights, query.campaign, query.tag, query.before)
    label = f"intervals of validity of {query.tag} over runs"
    picture = Markup(intervals.picture(found.payloads, found.gaps, label))  # noqa: S704 - escaped where it is drawn
    following = None
    if found.following is not None:
        following = view_address(addresses.TAG, campaign=query.campaign, tag=query.tag, before=found.following)
    return _page("tag", query=query, found=found, picture=picture, following=following)


@router.get(f"/{addresses.CAMPAIGNS}")
def campaigns_view(request: Request, query: Annotated[CampaignsQuery, Query()]) -> Response:
    """Campaigns with their progress."""
    with _reading(request) as (connection, rights):
        found, more = campaigns.campaign_views(connection, rights, datetime.now(UTC), query.offset)
    following = view_address(addresses.CAMPAIGNS, offset=query.offset + campaigns.SIZE) if more else None
    return _page("campaigns", found=found, following=following)


@router.get(f"/{addresses.PEOPLE}")
def people_view(request: Request) -> Response:
    """What waits for a person."""
    with _reading(request) as (connection, rights):
        found = people.people_view(connection, rights, datetime.now(UTC))
    return _page("people", found=found, hours=people.LONG.total_seconds() / 3600)


@router.get(f"/{addresses.OF_DAG}")
def dag_view(request: Request, query: Annotated[DagQuery, Query()]) -> Response:
    """What there is of a DAG of Airflow's: the runs of its workflow."""
    if query.dag_id not in request.state.reader.dag_ids:
        raise NotFound(f"there is no DAG {query.dag_id}, or you may not read it")
    with _reading(request) as (_, rights):
        of_dag = sorted(pair for pair in rights.pairs if "__".join(pair) == query.dag_id)
        having = [name for name, pairs in rights.groupings.items() if of_dag and of_dag[0] in pairs]
    if not having:
        return _page("nothing", said=f"The ledger has nothing of the DAG {query.dag_id}.")
    campaign = "prompt" if "prompt" in having else sorted(having)[0]
    return RedirectResponse(view_address(addresses.RUNS, campaign=campaign, workflow=of_dag[0][0]))


@router.get(f"/{addresses.OF_DAG_RUN}")
def dag_run_view(request: Request, query: Annotated[DagRunQuery, Query()]) -> Response:
    """The group of a DAG run of Airflow's."""
    with _reading(request) as (connection, _):
        found = group.group_of_dag_run(connection, request.state.reader, query.dag_id, query.run_id)
    if found is None:
        return _page("nothing", said=f"The ledger has no group of the DAG run {query.run_id} of {query.dag_id}.")
    where = view_address(addresses.GROUP, campaign=found.campaign, workflow=found.workflow, name=found.name)
    task = query.task_id
    for suffix in (".locks", CANDIDATE_SUFFIX, APPROVE_SUFFIX):
        task = task.removesuffix(suffix)
    return RedirectResponse(f"{where}#task-{quote(task.replace('.', '+'))}" if task else where)


@router.get("/{rest:path}")
def elsewhere(rest: str) -> Response:
    """Nothing; asked for by nobody it is a login that is missing, as everywhere."""
    raise HTTPException(404, "there is no such view")
