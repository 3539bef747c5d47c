"""The application: one address, which is there only where it is declared."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse

from airflow_calib_provider.chat.pressed import PressAnswer, Presses
from airflow_calib_provider.errors import CalibError
from airflow_calib_provider.ledger.engine import Ledger
from airflow_calib_provider.messages.offering import PATH
from airflow_calib_provider.outside.connections import Lookup
from airflow_calib_provider.spec.chat_keys import ActionsSpec

log = logging.getLogger(__name__)

LARGEST = 16 * 1024
"""Bytes of a request."""

ANSWERED_WITHIN = 2.5
"""Seconds; Mattermost waits three."""

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def make_app(ledger: Callable[[], Ledger], connection: Lookup) -> FastAPI:
    """The application of the endpoint.

    :param ledger: opens it, :param connection: looks one up; called for each request, in a thread.
    """
    presses = Presses(ledger, connection)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    # One route for everything: what is not declared must not be told from what is not there.
    @app.api_route("/{path:path}", methods=METHODS)
    async def any_address(request: Request, path: str) -> JSONResponse:
        return await _answered(presses, request, path)

    return app


async def _answered(presses: Presses, request: Request, path: str) -> JSONResponse:
    head, _, team = path.partition("/")
    if head != PATH or request.method != "POST":
        return _nothing()
    found = await _within(presses.declared, team)
    if isinstance(found, PressAnswer):
        return _error(found)
    if found is None:
        return _nothing()
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        return _error(PressAnswer(415, "JSON is expected"))
    body = await _body(request)
    if isinstance(body, PressAnswer):
        return _error(body)
    spec, secrets = found
    answer = await _within(_take, presses, spec, secrets, body)
    return JSONResponse({"ephemeral_text": answer.text}) if answer.status == 200 else _error(answer)


def _take(presses: Presses, spec: ActionsSpec, secrets: tuple[str, ...], body: dict[str, Any]) -> PressAnswer:
    return presses.take(spec, secrets, body)


async def _within(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call in a thread says, or an error; a call that takes too long goes on by itself."""
    task = asyncio.ensure_future(run_in_threadpool(call, *arguments))
    try:
        return await asyncio.wait_for(asyncio.shield(task), ANSWERED_WITHIN)
    except TimeoutError:
        task.add_done_callback(_tell_trouble)
        return PressAnswer(503, "the ledger is slow: see in Airflow what has become of it")
    except CalibError as error:
        log.error("chat: the ledger cannot be used: %s", error)
        return PressAnswer(503, "the ledger cannot be used now: try again")


def _tell_trouble(task: asyncio.Future[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("chat: a press has come to nothing: %s", type(error).__name__)


async def _body(request: Request) -> dict[str, Any] | PressAnswer:
    """The JSON object of a request, of which no more is read than may be there."""
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > LARGEST:
            return PressAnswer(413, "too large")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else PressAnswer(400, "no JSON object")


def _nothing() -> JSONResponse:
    return JSONResponse({"detail": "Not Found"}, 404)


def _error(answer: PressAnswer) -> JSONResponse:
    headers = {"Retry-After": "60"} if answer.status == 429 else None
    return JSONResponse({"error": {"message": answer.text}}, answer.status, headers)
