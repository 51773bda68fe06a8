"""Grafana's data sources, as its HTTP API and its provisioning files take them."""

import json
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from dashboards.board import Source

TITLES = {
    Source.HISTORY: "烽火历史 · Fenghuo history",
    Source.ALERTS: "烽火警报 · Fenghuo alerts",
    Source.SYSTEM: "烽火系统 · Fenghuo system",
}

MARK = "fenghuo"
"""The key of a data source's jsonData that holds the digest of what it was made of, its secret too: Grafana never says
what that is, and a secret that is long and random cannot be found from it."""


OPEN, IDLE = 4, 2
"""Connections that Grafana has to PostgreSQL at once, and keeps, for each data source: fewer than its role may have,
and of all roles fewer than the server has, for the desk needs some too."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A data source. secret: its token or password, by the name that Grafana has for it."""

    source: Source
    fields: dict[str, Any]
    secret: dict[str, str]

    def payload(self) -> dict[str, Any]:
        """What the HTTP API takes."""
        settings = {
            "uid": self.source.uid,
            "name": TITLES[self.source],
            "type": self.source.type,
            "access": "proxy",
            **self.fields,
        }
        said = json.dumps([settings, self.secret], sort_keys=True)
        mark = blake2b(said.encode(), digest_size=8).hexdigest()
        return {
            **settings,
            "jsonData": {**settings.get("jsonData", {}), MARK: mark},
            "secureJsonData": self.secret,
        }

    def provisioned(self) -> dict[str, Any]:
        """What a provisioning file takes."""
        return {**self.payload(), "jsonData": self.fields.get("jsonData", {}), "editable": False}


def history(url: str, organisation: str, bucket: str, token: str) -> Wanted:
    """InfluxDB 2, asked in Flux. token: that may read this bucket and those of its roll-ups."""
    asked = {"version": "Flux", "organization": organisation, "defaultBucket": bucket}
    return Wanted(Source.HISTORY, {"url": url, "jsonData": asked}, {"token": token})


def alerts(place: str, database: str, role: str, password: str, sslmode: str) -> Wanted:
    """PostgreSQL. place: HOST:PORT."""
    asked = {
        "database": database,
        "sslmode": sslmode,
        "postgresVersion": 1500,
        "maxOpenConns": OPEN,
        "maxIdleConns": IDLE,
    }
    return Wanted(
        Source.ALERTS,
        {
            "url": place,
            "user": role,
            "database": database,
            "jsonData": asked,
        },  # up to 9.1 it is not in jsonData
        {"password": password},
    )


def system(url: str) -> Wanted:
    """Prometheus."""
    return Wanted(Source.SYSTEM, {"url": url, "jsonData": {"httpMethod": "POST", "timeInterval": "15s"}}, {})


PLACEHOLDERS = (
    history("$FENGHUO_INFLUX_URL", "$FENGHUO_INFLUX_ORG", "$FENGHUO_INFLUX_BUCKET", "$FENGHUO_INFLUX_READER"),
    alerts(
        "$FENGHUO_POSTGRES",
        "$FENGHUO_POSTGRES_DATABASE",
        "$FENGHUO_POSTGRES_ROLE",
        "$FENGHUO_POSTGRES_PASSWORD",
        "$FENGHUO_POSTGRES_SSLMODE",
    ),
    system("$FENGHUO_PROMETHEUS_URL"),
)
"""For provisioning files: Grafana puts its environment's values in when it starts."""
