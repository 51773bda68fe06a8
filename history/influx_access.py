"""How InfluxDB is reached, how things are named in it, and what its refusals mean to whoever has to mend them."""

import json
from dataclasses import dataclass, field
from typing import Any

from influxdb_client.client.influxdb_client import InfluxDBClient
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as TookTooLong

Failure = ApiException | HTTPError | OSError
FAILURES = (ApiException, HTTPError, OSError)
"""What a call raises: an answer that is no success, or none."""

TESTED = "InfluxDB 2.7.12 with influxdb-client 1.50"
"""What this was tested with."""

_REFUSED = ("invalid", "unprocessable entity", "request too large")

BY_MINUTE, BY_HOUR = "-1m", "-1h"
"""What is added to the name of a cell's bucket for those of its roll-ups."""


@dataclass(frozen=True, slots=True)
class Access:
    """A server, and our part of it.

    url: http://HOST:PORT or https://…; prefix: what names of buckets begin with, the cell's id follows;
    level: of the grid whose cells have buckets of their own; timeout: seconds for an answer to a write;
    gzip: compress what is written, for a slow line.
    """

    url: str
    organisation: str
    token: str = field(repr=False)
    prefix: str = "fenghuo-"
    level: str = "district"
    timeout: float = 10.0
    gzip: bool = False

    def bucket(self, cell: str, of: str = "") -> str:
        """The bucket of a cell, or of its roll-ups BY_MINUTE or BY_HOUR."""
        return f"{self.prefix}{cell}{of}"

    @property
    def place(self) -> str:
        """Where readings go: what is said of another place says nothing of this one."""
        return json.dumps([self.url, self.organisation, self.prefix, self.level])

    def client(self, timeout: float | None = None) -> Any:
        """An InfluxDBClient that tries once, to be closed. timeout: seconds, else that of a write."""
        milliseconds = int((timeout or self.timeout) * 1000)
        return InfluxDBClient(
            self.url,
            self.token,
            org=self.organisation,
            timeout=milliseconds,
            enable_gzip=self.gzip,
            retries=False,
        )

    def why(self, error: Failure) -> str:
        """What is wrong, in one line, and which setting mends it."""
        if not isinstance(error, ApiException):
            return f"{self.url} {_silent(error)}: see `history.influx.url`, and whether InfluxDB runs there"
        told = said(error)
        if error.status == 401:
            return (
                f"{self.url} refuses the token: it is read from `history.influx.token_file`, or from "
                f"FENGHUO_INFLUX_TOKEN ({told})"
            )
        if error.status == 403:
            return f"{self.url} does not let this token do that: give it the right to, or us another one ({told})"
        if error.status == 404 and "organization" in told:
            return f"{self.url}: {told}: see `history.influx.organisation`"
        if error.status == 404 and "bucket" in told:
            return f"{self.url}: {told}: `fenghuo history setup` makes it"
        if refuses(error) or error.status == 409:
            return f"{self.url} refuses it ({told})"
        if error.status == 429 or (error.status or 0) >= 500:
            return f"{self.url} cannot now ({told})"
        return f"{self.url} does not answer as an InfluxDB 2 does: see `history.influx.url` ({told})"


def refuses(error: Failure) -> bool:
    """Whether InfluxDB itself says that what it was sent is at fault; of a proxy's 400 or 413 nobody knows that."""
    return isinstance(error, ApiException) and _answer(error)[0] in _REFUSED


def said(error: ApiException) -> str:
    """The server's own words, with its status: one line."""
    return f"{error.status}: {' '.join(_answer(error)[1].split())[:500]}"


def _answer(error: ApiException) -> tuple[str, str]:
    """InfluxDB's own code, "" where somebody else has answered, and what was said."""
    body = error.body.decode("utf-8", "replace") if isinstance(error.body, bytes) else str(error.body or "")
    try:
        answer = json.loads(body)
        return str(answer["code"]), str(answer["message"])
    except (ValueError, KeyError, TypeError):  # a proxy's page, or nothing
        return "", body or error.reason or ""


def _silent(error: HTTPError | OSError) -> str:
    if isinstance(error, NewConnectionError):  # it counts as a time-out too
        return "cannot be reached"
    return (
        "does not answer in time"
        if isinstance(error, TookTooLong)
        else f"breaks off ({type(error).__name__})"
    )
