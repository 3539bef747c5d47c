"""What a connection to an InfluxDB says."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from airflow_calib_provider.errors import MirrorError
from airflow_calib_provider.mirror.schema import MEASUREMENTS

DEFAULT_CONNECTION = "calib_influxdb"

_EXTRA = ("bucket", "org", "database", "retention_policy", "timeout", "verify", "ca_file", "routes")


class InfluxTarget(BaseModel):
    """One InfluxDB, and where in it points go.

    :ivar name: the connection's id.
    :ivar url: ``http://host:port``, with a path where a proxy wants one.
    :ivar token: of 2.x and 3; of 1.8 user and password are enough.
    :ivar org: of 2.x.
    :ivar bucket: of 2.x and 3; of 1.8 ``database/retention policy``.
    :ivar database: of 1.x, instead of a bucket; with a bucket: by which name InfluxQL knows it, if not by its own.
    :ivar retention_policy: of 1.x; empty: the database's default.
    :ivar timeout: seconds within which the server must answer a call.
    :ivar verify: whether the server's certificate is checked.
    :ivar ca_file: the certificates that are trusted, instead of the system's.
    :ivar routes: measurement → its bucket, or its retention policy where there is no bucket.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, hide_input_in_errors=True)

    name: str = DEFAULT_CONNECTION
    url: str
    token: SecretStr = SecretStr("")
    user: str = ""
    password: SecretStr = SecretStr("")
    org: str = ""
    bucket: str = ""
    database: str = ""
    retention_policy: str = ""
    timeout: float = Field(default=10.0, gt=0, le=300)
    verify: bool = True
    ca_file: str = ""
    routes: dict[str, str] = Field(default_factory=dict)

    @field_validator("url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an address such as http://influxdb.example.org:8086")
        if "@" in parts.netloc or parts.query:
            raise ValueError("must hold no user, password or query: give them in fields of their own")
        return value.rstrip("/")

    @field_validator("token")
    @classmethod
    def _fits_a_header(cls, value: SecretStr) -> SecretStr:
        # What sends it would quote it in its error.
        if not re.fullmatch(r"[ -~]*", value.get_secret_value()):
            raise ValueError("must be one line of ASCII characters")
        return value

    @field_validator("routes")
    @classmethod
    def _are_measurements(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := sorted(set(value) - MEASUREMENTS.keys()):
            raise ValueError(f"{unknown[0]!r} is no measurement; there are {', '.join(MEASUREMENTS)}")
        return value

    @model_validator(mode="after")
    def _has_a_place(self) -> InfluxTarget:
        if not self.bucket and not self.database:
            raise ValueError("neither a bucket (InfluxDB 2, 3) nor a database (1.x) is given")
        if self.bucket and self.retention_policy:
            raise ValueError("a retention policy belongs to a database; a bucket has its own retention")
        return self

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], hint: str = "correct its fields") -> InfluxTarget:
        """A target from fields; empty ones count as not given.

        :param hint: what to do about a mistake.
        :raises MirrorError: a field is unknown, missing, or has a value that it must not have.
        """
        given = {key: value for key, value in values.items() if value is not None and value != ""}
        name = str(given.get("name", DEFAULT_CONNECTION))
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            said = "; ".join(cls._mistake(item["loc"], item["type"], item["msg"]) for item in error.errors())
            raise MirrorError(f"the connection {name} to InfluxDB: {said}", hint) from None

    @classmethod
    def _mistake(cls, path: tuple[int | str, ...], kind: str, said: str) -> str:
        """A mistake for people. Values are not repeated: one of them may be a token in the wrong place."""
        key = ".".join(map(str, path))
        if kind == "extra_forbidden":
            return f"{key}: there is no such field; there are {', '.join(_EXTRA)}"
        if kind == "missing" and key == "url":
            return "there is no address (host in the connection)"
        said = said.removeprefix("Value error, ")
        return f"{'address' if key == 'url' else key}: {said}" if key else said

    def route(self, measurement: str) -> str:
        """The bucket, or where there is none the retention policy, that a measurement goes to; empty: the default."""
        return self.routes.get(measurement) or self.bucket or self.retention_policy

    def routes_of(self, measurements: Mapping[str, object] = MEASUREMENTS) -> dict[str, list[str]]:
        """Each bucket or retention policy with its measurements."""
        found: dict[str, list[str]] = {}
        for name in measurements:
            found.setdefault(self.route(name), []).append(name)
        return found

    def readable(self, route: str) -> tuple[str, str]:
        """Database and retention policy by which InfluxQL knows a route; an empty policy is the default one."""
        if not self.bucket:
            return self.database, route
        if self.database and route == self.bucket:
            return self.database, ""
        database, _, policy = route.partition("/")
        return database, policy

    @property
    def credentials(self) -> str:
        """User and password, as they are sent; they may have any characters."""
        return b64encode(f"{self.user}:{self.password.get_secret_value()}".encode()).decode()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        given = tuple(item.get_secret_value() for item in (self.token, self.password) if item.get_secret_value())
        return (*given, self.credentials) if self.password.get_secret_value() else given

    @property
    def place(self) -> str:
        """Where it is, for people."""
        if self.bucket:
            return f"{self.url}, bucket {self.bucket}"
        policy = f", retention policy {self.retention_policy}" if self.retention_policy else ""
        return f"{self.url}, database {self.database}{policy}"
