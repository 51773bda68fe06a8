"""Channels: how one notice reaches one person, and how much is known afterwards of whether it did."""

import asyncio
import hashlib
import hmac
import logging
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol, Self
from urllib.parse import quote

import httpx
import msgspec

from alerting.alert import Notice
from registry.clock import MINUTE, SECOND

IDEMPOTENCY_KEY = "Idempotency-Key"
TIMESTAMP = "X-Fenghuo-Timestamp"
SIGNATURE = "X-Fenghuo-Signature"

RETRY_STATUS = frozenset({408, 425, 429})
"""Statuses by which a receiver says "not taken, try again" (RFC 9110 §15.5.9, RFC 8470, RFC 6585)."""

MISDIRECTED_STATUS = frozenset({*range(300, 400), 401, 403, 404})
"""Statuses of a receiver that has moved, or has another secret or path: somebody will mend that."""

LATE = MINUTE
"""A notice that goes out so long after it was written says so, µs."""


class Outcome(StrEnum):
    """What is known after one attempt."""

    DELIVERED = "delivered"  # the receiver said so
    REFUSED = "refused"  # the receiver will never take it: trying again is in vain
    MISDIRECTED = "misdirected"  # the receiver is not, or not yet, set up for us: try again, slowly
    NOT_DELIVERED = "not_delivered"  # surely not delivered: try again, as if for the first time
    UNKNOWN = "unknown"  # may have been delivered: try again, marked as a repeat


class Delivery(msgspec.Struct, frozen=True):
    """The outcome of one attempt, and what went wrong, in a few words fit for a log."""

    outcome: Outcome
    error: str = ""


class Channel(Protocol):
    """One way to people: a webhook, a phone gateway."""

    @property
    def concurrency(self) -> int:
        """How many addresses of this channel may be called at the same time."""
        ...

    async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
        """Try once; every failure is an outcome, not an exception. ``now``: µs, signed with the message."""
        ...

    async def close(self) -> None: ...


class ChannelSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One channel as configured; the secret itself stands in a file or an environment variable.

    name: as people's contacts name it. base: URL of a gateway, to which the address is added as the last
    part of the path; "" where the address is the URL itself. secret_file, secret_env: where the signing
    secret is (exactly one).
    connect_timeout, timeout: seconds, to connect and for the whole attempt.
    concurrency: addresses called at the same time.
    """

    name: str
    base: str = ""
    secret_file: str = ""
    secret_env: str = ""
    connect_timeout: float = 3.0
    timeout: float = 10.0
    concurrency: int = 32


class ChannelError(ValueError):
    """A channel's settings cannot be used; says which channel and why, never the secret."""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON body that a receiver gets.

    repeat: it may have had this notice before. late_seconds: since it was written; 0 within a minute.
    """

    id: str
    alert: str
    step: int
    role: str
    person: str
    address: str
    title: str
    text: str
    repeat: bool
    created: datetime
    late_seconds: int


# httpx writes every URL into its log, and a webhook's URL is often a secret itself.
logging.getLogger("httpx").setLevel(logging.WARNING)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def lateness(notice: Notice, now: int) -> int:
    """How long ago the notice was written, µs; 0 if not long ago."""
    return now - notice.created if now - notice.created > LATE else 0


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """HMAC-SHA256 over ``timestamp.body``, hex. ``timestamp``: whole seconds since 1970, as sent."""
    return hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def verify(
    secret: bytes, timestamp: str, body: bytes, signature: str, *, now: int, tolerance: int = 5 * MINUTE
) -> bool:
    """For receivers: whether this body was signed with the secret, and not too long ago.

    Args:
        timestamp, signature: the two headers as received. now, tolerance: µs.
    """
    expected = sign(secret, timestamp, body)
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        return False
    # Only a text that we signed ourselves gets here, so it is a number.
    return abs(now - int(timestamp) * SECOND) <= tolerance


class HttpChannel:
    """A signed POST to an address that is a URL, or to a gateway that calls the address.

    Redirects are not followed and no proxy of the environment is used: a notice goes where the
    configuration says. No connection is kept for the next notice, because one that the receiver has just
    closed cannot be told from one lost after sending, and would make a repeat of what never arrived.
    """

    def __init__(self, settings: ChannelSettings, secret: bytes) -> None:
        if not secret:
            raise ChannelError(f"channel {settings.name}: the signing secret is empty")
        self.concurrency = settings.concurrency
        self._base = settings.base
        self._timeout = settings.timeout
        self._secret = secret
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(settings.timeout, connect=settings.connect_timeout),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
            trust_env=False,
        )

    @classmethod
    def open(cls, settings: ChannelSettings, environment: Mapping[str, str] = os.environ) -> Self:
        """Reads the secret from where the settings say it is. Raises ChannelError."""
        return cls(settings, _secret(settings, environment))

    async def send(self, notice: Notice, *, repeat: bool, now: int) -> Delivery:
        body = msgspec.json.encode(
            Message(
                id=notice.id,
                alert=notice.alert,
                step=notice.step,
                role=notice.role,
                person=notice.person,
                address=notice.address,
                title=notice.title,
                text=notice.text,
                repeat=repeat,
                created=EPOCH + timedelta(microseconds=notice.created),
                late_seconds=lateness(notice, now) // SECOND,
            )
        )
        timestamp = str(now // SECOND)
        headers = {
            "Content-Type": "application/json",
            IDEMPOTENCY_KEY: notice.id,
            TIMESTAMP: timestamp,
            SIGNATURE: sign(self._secret, timestamp, body),
        }
        try:
            async with (
                asyncio.timeout(self._timeout),
                # The answer's body is never read: its status says all, and it could be endless.
                self._client.stream(
                    "POST", self._url(notice.address), content=body, headers=headers
                ) as reply,
            ):
                return _judge(reply.status_code)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            return Delivery(Outcome.REFUSED, _words(error))
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            return Delivery(Outcome.NOT_DELIVERED, _words(error))
        except (httpx.TransportError, TimeoutError) as error:
            return Delivery(Outcome.UNKNOWN, _words(error))

    async def close(self) -> None:
        await self._client.aclose()

    def _url(self, address: str) -> str:
        return f"{self._base.rstrip('/')}/{quote(address, safe='')}" if self._base else address


def _judge(status: int) -> Delivery:
    if 200 <= status < 300:
        return Delivery(Outcome.DELIVERED)
    if status in RETRY_STATUS:
        return Delivery(Outcome.NOT_DELIVERED, f"HTTP {status}")
    if status in MISDIRECTED_STATUS:
        return Delivery(Outcome.MISDIRECTED, f"HTTP {status}")
    if status < 500:
        return Delivery(Outcome.REFUSED, f"HTTP {status}")
    return Delivery(Outcome.UNKNOWN, f"HTTP {status}")


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _secret(settings: ChannelSettings, environment: Mapping[str, str]) -> bytes:
    if bool(settings.secret_file) == bool(settings.secret_env):
        raise ChannelError(f"channel {settings.name}: give one of secret_file and secret_env")
    if settings.secret_env:
        if settings.secret_env not in environment:
            raise ChannelError(
                f"channel {settings.name}: environment variable {settings.secret_env} is not set"
            )
        return environment[settings.secret_env].encode()
    try:
        return Path(settings.secret_file).read_bytes().strip()
    except OSError as error:
        raise ChannelError(f"channel {settings.name}: secret file: {error}") from error
