"""Settings: where things are on this machine and how the processes are to run; never who exists."""

import os
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args
from urllib.parse import SplitResult, urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from sqlalchemy import URL, make_url

from registry.wording import worded
from streams.names import expected

if TYPE_CHECKING:
    from history.influx_access import Access

GiB = 1 << 30


class SettingsError(Exception):
    """The settings cannot be used; the message says where and how to mend it."""


def _absolute(path: Path, info: ValidationInfo) -> Path:
    return (info.context or Path()).absolute() / path


Where = Annotated[Path, AfterValidator(_absolute)]
"""A path, absolute from here on: it is relative to the settings file, or to where the command was given."""


def _split(url: str) -> SplitResult | None:
    """Its parts; None where it is no URL, or its port is none."""
    try:
        parts = urlsplit(url)
        return parts if parts.port != 0 else None
    except ValueError:
        return None


def _is_place(text: str) -> bool:
    """Whether it is HOST:PORT."""
    place = _split(f"//{text}")
    return bool(place and place.hostname and place.port and place.netloc == text and "@" not in text)


def _of_a_header(secret: str, where: str) -> str:
    """What may stand in a header of HTTP. Raises SettingsError, which does not repeat it."""
    if not (secret.isascii() and secret.isprintable()):
        raise SettingsError(f"{where}: expected a line of printable ASCII")
    return secret


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Broker(Strict):
    """The MQTT broker that the collector reads from."""

    url: str  # mqtt://HOST:PORT
    user: str = "collector"
    password_file: Where | None = None

    @field_validator("url")
    @classmethod
    def _is_mqtt(cls, url: str) -> str:
        parts = _split(url)
        if not parts or parts.scheme != "mqtt" or not parts.hostname:
            raise ValueError("expected mqtt://HOST:PORT")
        if "@" in parts.netloc:
            raise ValueError(
                "expected mqtt://HOST:PORT without a user: it belongs under `user`, its password in a "
                "`password_file` or in FENGHUO_BROKER_PASSWORD"
            )
        return url

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 1883

    @property
    def password(self) -> str:
        """The collector's password; the FENGHUO_BROKER_PASSWORD of the environment comes first."""
        if from_environment := os.environ.get("FENGHUO_BROKER_PASSWORD"):
            return from_environment
        return self.password_file.read_text("utf-8").strip() if self.password_file else ""


class Channel(Strict):
    """A way to reach people. ``url`` is the base to which a contact's address is added, or "" where
    the address is itself a URL. The secret that signs comes from a file or from the environment."""

    url: str = ""
    secret_file: Where | None = None
    secret_env: str = ""


PATIENCE = {
    **{"connect_timeout": "5", "tcp_user_timeout": "10000"},
    **{"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"},
}
"""Of a PostgreSQL connection, as libpq names it: seconds, and tcp_user_timeout in ms."""


class Database(Strict):
    """A PostgreSQL database: the desk's, the registry's and the slots' tables are all in it."""

    url: str  # postgresql://USER@HOST:PORT/NAME
    password_file: Where | None = None

    @field_validator("url")
    @classmethod
    def _is_postgresql(cls, url: str) -> str:
        parts = _split(url)
        if (
            not parts
            or parts.scheme != "postgresql"
            or not (parts.hostname and parts.username and parts.path[1:])
        ):
            raise ValueError("expected postgresql://USER@HOST:PORT/NAME")
        if parts.password is not None:
            raise ValueError(
                "expected postgresql://USER@HOST:PORT/NAME without a password: it belongs in a `password_file` or "
                "in FENGHUO_DATABASE_PASSWORD"
            )
        return url

    @property
    def address(self) -> URL:
        """For SQLAlchemy, with the password; that of FENGHUO_DATABASE_PASSWORD comes first. Raises OSError.

        A server that has vanished without a word is given up after about ten seconds, not hours.
        """
        password = os.environ.get("FENGHUO_DATABASE_PASSWORD", "")
        if not password and self.password_file is not None:
            password = self.password_file.read_text("utf-8").strip()
        address = make_url(self.url).set(drivername="postgresql+psycopg", password=password or None)
        return address.update_query_dict(PATIENCE)


class Influx(Strict):
    """An InfluxDB 2 that keeps readings too: a bucket for each cell of one level of the grid, and its roll-ups."""

    url: str  # http://HOST:PORT
    organisation: str = "fenghuo"
    token_file: Where | None = None
    prefix: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")] = "fenghuo-"  # of the buckets' names
    level: str = "district"
    timeout: Annotated[float, Field(gt=0)] = 10  # seconds for an answer
    gzip: bool = False  # for a slow line: it costs more than it saves on a quick one

    @field_validator("url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = _split(url)
        if not parts or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
            raise ValueError(
                "expected http://HOST:PORT or https://HOST:PORT; the token belongs in a `token_file` or in "
                "FENGHUO_INFLUX_TOKEN"
            )
        return url.rstrip("/")

    @property
    def access(self) -> "Access":
        """With the token. Raises SettingsError. Needs the extra `influx`."""
        from history.influx_access import Access

        where = (self.url, self.organisation, self._token(), self.prefix, self.level)
        return Access(*where, timeout=self.timeout, gzip=self.gzip)

    def _token(self) -> str:
        """That of FENGHUO_INFLUX_TOKEN comes first. Raises SettingsError."""
        if said := os.environ.get("FENGHUO_INFLUX_TOKEN", "").strip():
            return _of_a_header(said, "FENGHUO_INFLUX_TOKEN")
        if self.token_file is None:
            raise SettingsError("history.influx.token_file: it is missing, and FENGHUO_INFLUX_TOKEN too")
        try:  # an editor may have begun it with a byte order mark
            said = self.token_file.read_text("utf-8-sig", errors="replace").strip()
        except OSError as error:
            raise SettingsError(f"history.influx.token_file: {error}") from error
        if not said:
            raise SettingsError(f"history.influx.token_file: {self.token_file} is empty")
        return _of_a_header(said, f"history.influx.token_file: {self.token_file}")


class History(Strict):
    """How readings are kept for years. Days of 0 are for ever."""

    embedded: bool = True  # Parquet files in the data folder
    readings_days: Annotated[int, Field(ge=0)] = 400
    minutes_days: Annotated[int, Field(ge=0)] = 1_100  # roll-ups by minute
    hours_days: Annotated[int, Field(ge=0)] = 0
    influx: Influx | None = None


class Cluster(Strict):
    """What all roles of a cluster share. What is said here of topics holds from their making on."""

    kafka: str  # HOST:PORT, several with commas
    database: Database
    topics: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,40}$")] = (
        "fenghuo"  # what their names begin with
    )
    slots: Annotated[int, Field(ge=1, le=1024)] = 8
    """Disjoint sets of enterprises: one MQTT session each, and one partition of the readings."""
    shards: Annotated[int, Field(ge=1, le=256)] = 1
    """Partitions of the findings: a cell of ``shard_level`` is in one of them."""
    shard_level: str = "city"  # the level of the grid whose cells are judged apart by the compound rules
    replicas: Annotated[int, Field(ge=1, le=7)] = 1  # of each partition, in Kafka
    retention_hours: Annotated[float, Field(gt=0)] = 7 * 24  # of readings and findings
    checkpoint: Annotated[float, Field(gt=0)] = 1.0  # seconds between two checkpoints of a worker
    patience: Annotated[float, Field(ge=0)] = 2.0
    """Seconds for which the compound rules wait for a partition that is behind the others."""
    lease: Annotated[float, Field(ge=2)] = 5.0  # seconds after which a silent collector loses its slots

    @field_validator("kafka")
    @classmethod
    def _is_places(cls, kafka: str) -> str:
        for place in kafka.split(","):
            if not _is_place(place.strip()):
                raise ValueError("expected HOST:PORT, such as kafka-1.example:9092, several with commas")
        return kafka


class Grafana(Strict):
    """A Grafana whose organisations, one for each cell that has a bucket in InfluxDB, we fill with dashboards."""

    url: str  # http://HOST:PORT
    alert_url: str  # where people see an alert: http://HOST:PORT/…/{id}
    user: str = "admin"  # a server administrator, since others may not make organisations
    password_file: Where | None = None
    influx_url: str = ""  # of history.influx as Grafana reaches it; "" as we do
    database: str = ""  # HOST:PORT of PostgreSQL as Grafana reaches it; "" as we do
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] = "require"  # of PostgreSQL
    prometheus_url: str = ""  # "" leaves out the system's metrics

    @field_validator("url", "influx_url", "prometheus_url")
    @classmethod
    def _is_http(cls, url: str) -> str:
        parts = _split(url)
        if url and (
            not parts or parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc
        ):
            raise ValueError("expected http://HOST:PORT or https://HOST:PORT, without a user")
        return url.rstrip("/")

    @field_validator("alert_url")
    @classmethod
    def _has_id(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")) or url.count("{id}") != 1:
            raise ValueError("expected a URL with {id} for the alert's id, https://HOST/api/v1/alerts/{id}")
        return url

    @field_validator("database")
    @classmethod
    def _is_place(cls, place: str) -> str:
        if place and not _is_place(place):
            raise ValueError("expected HOST:PORT")
        return place

    @property
    def password(self) -> str:
        """The administrator's; the FENGHUO_GRAFANA_PASSWORD of the environment comes first. Raises OSError."""
        if from_environment := os.environ.get("FENGHUO_GRAFANA_PASSWORD"):
            return from_environment
        return self.password_file.read_text("utf-8").strip() if self.password_file else ""


class Settings(Strict):
    """All settings of `fenghuo serve`; every one has a default but the data folder."""

    registry: Where | None = None  # a folder that fills an empty registry
    rulebook: Where | None = None  # YAML, a file or a folder of them; none: the one that is shipped
    data: Where
    listen: str = "127.0.0.1:8420"
    broker: Broker | None = None  # none: a broker of our own, on loopback
    broker_port: int = 1883  # of a broker of our own
    channels: dict[str, Channel] = {}
    clock: str = ""  # "127.0.0.1:PORT" of a stepper; "" is the machine's own clock
    journal_days: Annotated[float, Field(gt=0)] = 7
    journal_bytes: Annotated[int, Field(gt=0)] = 20 * GiB
    journal_reserve: Annotated[int, Field(ge=0)] = 64 << 20
    in_flight: Annotated[int, Field(gt=0, lt=65536)] = 2000  # messages unacknowledged at most
    snapshot_every: Annotated[float, Field(gt=0)] = 60  # seconds
    history: History = History()
    cluster: Cluster | None = None  # none: all of it on this machine, by `fenghuo serve`
    grafana: Grafana | None = None

    @property
    def journal(self) -> Path:
        return self.data / "journal"

    @property
    def desk_database(self) -> Path | URL:
        """Alerts, their steps, the outbox."""
        return self.data / "desk.sqlite" if self.cluster is None else self.cluster.database.address

    @property
    def registry_database(self) -> Path | URL:
        """Who and what exists, and every edit of it."""
        return self.data / "registry.sqlite" if self.cluster is None else self.cluster.database.address

    @property
    def versions(self) -> Path:
        return self.data / "versions"

    @property
    def snapshot(self) -> Path:
        return self.data / "snapshot"

    @property
    def values(self) -> Path:
        return self.data / "values"

    @property
    def status(self) -> Path:
        return self.data / "judge.json"

    @property
    def embeds_history(self) -> bool:
        """Whether readings are kept as files in the data folder: a cluster's machines share none."""
        return self.history.embedded and self.cluster is None

    @property
    def has_historian(self) -> bool:
        """Whether `fenghuo serve` reads its journal for a history."""
        return self.cluster is None and (self.history.embedded or self.history.influx is not None)

    @property
    def history_folder(self) -> Path:
        return self.data / "history"

    @property
    def history_status(self) -> Path:
        return self.data / "history.json"

    @property
    def refused(self) -> Path:
        """The mistakes for which a changed registry was refused; not there while all is well."""
        return self.data / "registry.refused"

    @property
    def passwords(self) -> Path:
        """The users of a broker of our own, and their passwords."""
        return self.data / "broker" / "passwords"

    @property
    def broker_died(self) -> Path:
        """A mark: a broker of our own ended without our seeing it save; of that time. Who tells it removes it."""
        return self.data / "broker.died"

    @field_validator("listen")
    @classmethod
    def _is_a_place(cls, listen: str) -> str:
        """Without a host it would be every interface, which nobody gets by leaving something out."""
        if not _is_place(listen):
            raise ValueError("expected HOST:PORT, such as 127.0.0.1:8420 or [::1]:8420")
        return listen

    @property
    def host(self) -> str:
        return urlsplit(f"//{self.listen}").hostname or ""

    @property
    def port(self) -> int:
        return urlsplit(f"//{self.listen}").port or 0

    @property
    def on_loopback(self) -> bool:
        """Whether the API can be reached from this machine only."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def save(self, path: Path) -> None:
        """Write what a child process needs; secrets are not in it, only where they are."""
        path.write_text(self.model_dump_json(indent=1), "utf-8")


def load(path: Path, **overrides: object) -> Settings:
    """Read settings from YAML, with ``overrides`` (those that are not None) laid over them, key by key.

    Paths in the file are relative to it. Raises SettingsError that lists every mistake at once.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected keys and values, such as `data: FOLDER`")
    for key, given in overrides.items():
        said = content.get(key)
        if isinstance(given, dict) and isinstance(said, dict):
            content[key] = {**said, **given}
        elif given is not None:
            content[key] = given.absolute() if isinstance(given, Path) else given
    return _checked(str(path), content, path.parent)


def of_run(data: Path) -> Settings:
    """The settings with which `fenghuo serve` has last run in this data folder.

    Raises SettingsError where it never has, and so there is nothing to look at either.
    """
    run = data / "run.json"
    try:
        return Settings.model_validate_json(run.read_bytes())
    except OSError as error:
        raise SettingsError(
            f"{data} is no data folder of `fenghuo serve`: {error.strerror}: {run}"
        ) from error
    except ValidationError as error:
        raise SettingsError(f"{run} is of another version: start `fenghuo serve` again") from error


def make(source: str = "settings", **values: object) -> Settings:
    """Check ``values`` and freeze them. Raises SettingsError that lists every mistake at once."""
    return _checked(source, values, Path())


def _checked(source: str, values: Mapping[str, object], folder: Path) -> Settings:
    try:
        return Settings.model_validate(values, context=folder)
    except ValidationError as error:
        lines = [
            f"{source}: {'.'.join(map(str, one['loc']))}: {_worded(one)}"
            for one in error.errors(include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from error


NEEDED = {
    "data": "a folder",
    "broker.url": "mqtt://HOST:PORT",
    "cluster.kafka": "HOST:PORT, several with commas",
    "cluster.database": "a mapping with `url` and `password_file`",
    "history.influx.url": "http://HOST:PORT",
    "grafana.url": "http://HOST:PORT",
    "grafana.alert_url": "a URL with {id} for the alert's id",
    "cluster.database.url": "postgresql://USER@HOST:PORT/NAME",
}
"""What the keys hold that may not be left out."""

NUMBERS = {
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of {ge:g} or more",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of {le:g} at most",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "a whole number"),
}


def _worded(error: Any) -> str:
    """A mistake in our words: what it is, and what was expected there; never a text that may hold a password."""
    kind, place, given = error["type"], error["loc"], error["input"]
    if kind == "value_error":
        return str(error["ctx"]["error"])  # they are ours
    if kind == "missing":
        return f"it is missing; expected {NEEDED['.'.join(place)]}"
    if kind == "extra_forbidden":
        return f"unknown key; expected {expected(str(place[-1]), _keys(place[:-1]))}"
    if kind == "invalid_key":
        return "the key is no text; expected a name"
    if kind == "dict_type":
        return "expected a mapping of names"
    if kind == "model_type":
        return f"expected a mapping with {', '.join(_keys(place))}"
    if kind == "string_pattern_mismatch":
        return f"is {given!r}; expected small letters, digits and '-', a letter first, 41 of them at most"
    if kind == "path_type":
        return "expected a path"
    if kind in NUMBERS:
        return f"is {given!r}; expected {NUMBERS[kind].format(**error.get('ctx', {}))}"
    problem, wanted = worded(error, Settings)
    return f"{problem}; expected {wanted}"


def _keys(place: Iterable[str | int]) -> tuple[str, ...]:
    """The keys of the mapping at this place."""
    model: type[BaseModel] = Settings
    for part in place:
        if part in model.model_fields:
            annotation = model.model_fields[str(part)].annotation
            among = (annotation, *get_args(annotation))
            models = (one for one in among if isinstance(one, type) and issubclass(one, BaseModel))
            model = next(models, model)
    return tuple(model.model_fields)
