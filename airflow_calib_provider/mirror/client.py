"""InfluxDB by HTTP: one call to write, one to read, no repetition inside. What answers may be anything."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.mirror.target import InfluxTarget
from airflow_calib_provider.outside.limits import retry_after, without_secrets

if TYPE_CHECKING:
    import urllib3

_RETENTION = re.compile(r"points? beyond retention policy|outside (?:the )?retention", re.IGNORECASE)
_NO_POLICY = re.compile(r"retention policy not found", re.IGNORECASE)
_DROPPED = re.compile(r"dropped[= ](\d+)")
_SHOWN = 300
_READ = 5_000
"""Bytes of an answer in which is looked for what it says; a secret that is cut there is never shown."""


class Kind(StrEnum):
    """What an answer means."""

    OK = "ok"
    BUSY = "busy"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    MISSING = "missing"
    TOO_LARGE = "too_large"
    BAD_POINTS = "bad_points"
    TOO_OLD = "too_old"
    NOT_INFLUXDB = "not_influxdb"


@dataclass(frozen=True)
class Answer:
    """What became of a call.

    :ivar said: by the server, or by us about it; holds no secret.
    :ivar retry_after: seconds that the server asked for.
    :ivar dropped: points that were older than the retention; the others were written.
    """

    kind: Kind
    said: str = ""
    retry_after: float | None = None
    dropped: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is left to send: points older than what is retained are not wanted."""
        return self.kind in (Kind.OK, Kind.TOO_OLD)


HINTS = {
    Kind.BUSY: "wait; calib_mirror asks again by itself",
    Kind.UNREACHABLE: "check the address (http or https, host, port), and that the server is up; calib_mirror asks "
    "again by itself",
    Kind.REFUSED: "check the token (it stands without a login), or user and password, and that they may write and read "
    "there",
    Kind.MISSING: "correct the name in the connection, or create it there; calib_mirror goes on by itself then",
    Kind.TOO_LARGE: "raise the limit on requests of the server, or of the proxy before it",
    Kind.NOT_INFLUXDB: "check the address: a proxy, a portal or another server answers there",
}


class Series(TypedDict):
    """A series of an answer to InfluxQL; which types its values have depends on the columns."""

    name: str
    columns: list[str]
    values: NotRequired[list[list[Any]]]


class InfluxClient:
    """Writes lines and asks InfluxQL.

    A bucket is written through influxdb-client, a database through ``/write``, which every 1.x has.
    """

    def __init__(self, target: InfluxTarget) -> None:
        import urllib3

        self.target = target
        options: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED" if target.verify else "CERT_NONE"}
        if target.ca_file:
            options["ca_certs"] = target.ca_file
        if not target.verify:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._timeout = urllib3.Timeout(connect=min(5.0, target.timeout), read=target.timeout)
        self._pool = urllib3.PoolManager(maxsize=2, timeout=self._timeout, retries=False, **options)
        self._influx: Any = None
        self._writer: Any = None

    def __repr__(self) -> str:
        return f"InfluxClient({self.target.place})"

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()
        if self._influx is not None:
            self._influx.close()
            self._influx = self._writer = None

    # writing

    def write(self, body: bytes, route: str) -> Answer:
        """Write lines.

        :param body: lines with times in nanoseconds.
        :param route: the bucket, or where there is none the retention policy; empty: the default one.
        """
        if self.target.bucket:
            return self._write_bucket(body, route)
        parameters = {"db": self.target.database, "precision": "ns", **({"rp": route} if route else {})}
        return self._call("POST", "/write", parameters, body, written=True)

    def try_route(self, route: str) -> Answer:
        """Write nothing, to see whether the place is there and may be written."""
        answer = self.write(b"\n", route)
        # An InfluxDB that only complains that there is nothing has accepted token and place.
        return Answer(Kind.OK) if answer.kind is Kind.BAD_POINTS else answer

    def _write_bucket(self, body: bytes, bucket: str) -> Answer:
        from influxdb_client.rest import ApiException
        from urllib3.exceptions import HTTPError

        try:
            _, status, headers = self._bucket_writer().post_write_with_http_info(
                self.target.org or "-",
                bucket,
                body,
                precision="ns",
                content_type="text/plain; charset=utf-8",
                _return_http_data_only=False,
                _request_timeout=(min(5.0, self.target.timeout) * 1000, self.target.timeout * 1000),
            )
            return self._judge(status, headers, b"", written=True)
        except ApiException as error:
            data = error.body or b""
            return self._judge(
                error.status or 0, error.headers or {}, data if isinstance(data, bytes) else str(data).encode(), True
            )
        except (HTTPError, OSError) as error:
            return self._unreachable(error)

    def _bucket_writer(self) -> Any:
        if self._writer is None:
            try:
                from influxdb_client import InfluxDBClient, WriteService
            except ImportError as error:
                hint = "pip install airflow-calib-provider[influxdb]"
                raise MirrorError(
                    f"influxdb-client, which writes to buckets, is not installed: {error}", hint
                ) from error
            target = self.target
            self._influx = InfluxDBClient(
                url=target.url,
                token=self._token(),
                org=target.org or "-",
                timeout=int(target.timeout * 1000),
                verify_ssl=target.verify,
                ssl_ca_cert=target.ca_file or None,
                retries=False,
            )
            self._writer = WriteService(self._influx.api_client)
        return self._writer

    def _token(self) -> str:
        token = self.target.token.get_secret_value()
        if token or not self.target.user:
            return token
        return f"{self.target.user}:{self.target.password.get_secret_value()}"  # as 1.8 reads it

    # reading

    def query(self, influxql: str, route: str = "", *, change: bool = False) -> list[Series]:
        """Ask InfluxQL.

        :param route: where, as in :meth:`write`.
        :param change: the statement changes something, so that it must not be a GET.
        :returns: the series of all statements, as InfluxDB gives them; times in nanoseconds.
        :raises MirrorError: it could not be answered.
        """
        database, policy = self.target.readable(route or self.target.route(""))
        parameters = {"db": database, "epoch": "ns", "q": influxql, **({"rp": policy} if policy else {})}
        answer, document = self._json("POST" if change else "GET", "/query", parameters)
        if not answer.ok:
            raise self.trouble(answer)
        if "results" not in document and not change:
            raise self.trouble(Answer(Kind.NOT_INFLUXDB, "what answered gave no results of InfluxQL"))
        series: list[Series] = []
        for result in document.get("results", ()):
            if said := result.get("error"):
                raise self.trouble(self._of_statement(str(said), database))
            series += result.get("series", ())
        return series

    def _of_statement(self, said: str, database: str) -> Answer:
        if "database not found" in said or "retention policy not found" in said or "dbrp" in said.lower():
            return Answer(Kind.MISSING, f"InfluxQL knows no database {database}: {said}")
        return Answer(Kind.BAD_POINTS, said)

    def call(
        self, method: str, path: str, parameters: Mapping[str, str], body: object = None
    ) -> tuple[Answer, dict[str, Any]]:
        """One call of the API of 2.x, and the JSON that it answers."""
        return self._json(method, path, parameters, None if body is None else json.dumps(body).encode())

    def _json(
        self, method: str, path: str, parameters: Mapping[str, str], body: bytes | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        from urllib3.exceptions import HTTPError

        try:
            answer = self._send(method, path, parameters, body, "application/json")
            data = answer.data
        except (HTTPError, OSError) as error:
            return self._unreachable(error), {}
        judged = self._judge(answer.status, answer.headers, data, written=False)
        if not judged.ok or not data:
            return judged, {}
        try:
            document = json.loads(data)
        except ValueError:
            document = None
        if isinstance(document, dict):
            return judged, document
        return Answer(Kind.NOT_INFLUXDB, f"what answered is not InfluxDB: {self._clean(_told(data))}"), {}

    def ping(self) -> tuple[Answer, str]:
        """Whether an InfluxDB answers, and which version."""
        from urllib3.exceptions import HTTPError

        try:
            answer = self._send("GET", "/ping", {}, None, "application/json")
        except (HTTPError, OSError) as error:
            return self._unreachable(error), ""
        version = answer.headers.get("X-Influxdb-Version", "")
        if answer.status in (200, 204) and version:
            return Answer(Kind.OK), version
        judged = self._judge(answer.status, answer.headers, answer.data, written=True)
        if judged.ok:
            judged = Answer(Kind.NOT_INFLUXDB, "what answered gave no version of InfluxDB")
        elif judged.kind is Kind.MISSING:
            judged = Answer(Kind.NOT_INFLUXDB, "no InfluxDB answers below this path (HTTP 404 to /ping)")
        return judged, ""

    # both

    def _call(self, method: str, path: str, parameters: Mapping[str, str], body: bytes, *, written: bool) -> Answer:
        from urllib3.exceptions import HTTPError

        try:
            answer = self._send(method, path, parameters, body, "text/plain; charset=utf-8")
        except (HTTPError, OSError) as error:
            return self._unreachable(error)
        return self._judge(answer.status, answer.headers, answer.data, written)

    def _send(
        self, method: str, path: str, parameters: Mapping[str, str], body: bytes | None, kind: str
    ) -> urllib3.BaseHTTPResponse:
        from urllib.parse import urlencode

        address = f"{self.target.url}{path}?{urlencode(parameters)}" if parameters else f"{self.target.url}{path}"
        headers = {**self._authorization(), "Content-Type": kind, "Accept": "application/json"}
        # A redirect would take the token to another place.
        return self._pool.request(method, address, body=body, headers=headers, redirect=False)

    def _authorization(self) -> dict[str, str]:
        if token := self.target.token.get_secret_value():
            return {"Authorization": f"Token {token}"}
        if self.target.user:
            return {"Authorization": f"Basic {self.target.credentials}"}
        return {}

    def _unreachable(self, error: Exception) -> Answer:
        return Answer(Kind.UNREACHABLE, self._clean(f"{type(error).__name__}: {error}"))

    def _judge(self, status: int, headers: Mapping[str, str], data: bytes, written: bool) -> Answer:
        """What an answer means.

        :param written: nothing but 204 is the success of a write.
        """
        said = self._clean(_told(data))
        if status == 204 or (status == 200 and not written) or (status == 201 and not written):
            return Answer(Kind.OK)
        if _NO_POLICY.search(said):
            return Answer(Kind.MISSING, said)  # 1.8 calls it its own failure
        if status in (429, 503) or (status >= 500 and not _RETENTION.search(said)):
            return Answer(Kind.BUSY, f"HTTP {status}: {said}", retry_after(headers))
        if status in (401, 403):
            return Answer(Kind.REFUSED, f"HTTP {status}: {said}")
        if status == 413:
            return Answer(Kind.TOO_LARGE, f"HTTP {status}: {said}")
        if status < 400 or not _is_influxdb(headers, data):
            return Answer(Kind.NOT_INFLUXDB, f"what answered (HTTP {status}) is not InfluxDB" + (said and f": {said}"))
        if status == 404:
            if not self.target.org and 'organization name "-"' in said:
                said = "the organization is missing (org), which InfluxDB 2 wants"
            return Answer(Kind.MISSING, said)
        if _RETENTION.search(said):
            dropped = _DROPPED.search(said)
            return Answer(Kind.TOO_OLD, said, dropped=int(dropped[1]) if dropped else 0)
        return Answer(Kind.BAD_POINTS, f"HTTP {status}: {said}")

    def _clean(self, text: str) -> str:
        """A text as it may be shown: without secrets, on one line, not long."""
        return without_secrets(text, self.target.secrets, _SHOWN)

    def trouble(self, answer: Answer) -> MirrorError:
        """An answer as an error: what, where, what to do."""
        return MirrorError(f"{self.target.name} ({self.target.place}): {answer.said}", HINTS.get(answer.kind, ""))


def _is_influxdb(headers: Mapping[str, str], data: bytes) -> bool:
    """Whether an answer with an error looks like one of InfluxDB, which says what is wrong in JSON or a header."""
    names = {name.lower() for name in headers}
    if names & {"x-influxdb-version", "x-influxdb-error", "x-platform-error-code"}:
        return True
    try:
        document = json.loads(data)
    except ValueError:
        return False
    return isinstance(document, dict) and bool(document.keys() & {"error", "message"})


def _told(data: bytes) -> str:
    """What a body says."""
    text = data[:_READ].decode(errors="replace")
    try:
        document = json.loads(text)
    except ValueError:
        return text
    return str(document.get("error") or document.get("message") or text) if isinstance(document, dict) else text
