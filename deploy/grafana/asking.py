"""Asks InfluxDB what Grafana's data source asks: InfluxQL over ``/query``, the same on 1.x, 2.x and 3."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any


class Refused(RuntimeError):
    """The server did not answer a query; the text holds the query and what it said."""


@dataclass(frozen=True)
class Asker:
    """Where to ask.

    :ivar authorization: the header; empty: none.
    """

    url: str
    database: str
    authorization: str = ""

    def __call__(self, query: str) -> list[dict[str, Any]]:
        """Series with ``tags``, ``columns`` and ``values``; times in milliseconds.

        :raises Refused: the server does not take it.
        """
        parameters = urllib.parse.urlencode({"db": self.database, "q": query, "epoch": "ms"})
        request = urllib.request.Request(f"{self.url}/query?{parameters}")  # noqa: S310 - the operator's own server
        if self.authorization:
            request.add_header("Authorization", self.authorization)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                [result] = json.load(answer)["results"]
        except urllib.error.HTTPError as error:
            raise Refused(f"{query}: {error.code} {error.read()[:500].decode(errors='replace')}") from None
        if "error" in result:
            raise Refused(f"{query}: {result['error']}")
        return list(result.get("series", []))
