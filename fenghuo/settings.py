"""Settings: where things are on this machine and how the processes are to run; never who exists."""

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

GiB = 1 << 30


class SettingsError(Exception):
    """The settings cannot be used; the message says where and how to mend it."""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Broker(Strict):
    """The MQTT broker that the collector reads from."""

    url: str  # mqtt://HOST:PORT
    user: str = "collector"
    password_file: Path | None = None

    @field_validator("url")
    @classmethod
    def _is_mqtt(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "mqtt" or not parts.hostname:
            raise ValueError("expected mqtt://HOST:PORT")
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
    secret_file: Path | None = None
    secret_env: str = ""


class Settings(Strict):
    """All settings of `fenghuo serve`; every one has a default but the two folders."""

    registry: Path
    data: Path
    listen: str = "127.0.0.1:8420"
    broker: Broker | None = None  # none: a broker of our own, on loopback
    broker_port: int = 1883  # of a broker of our own
    channels: dict[str, Channel] = {}
    clock: str = ""  # "127.0.0.1:PORT" of a stepper; "" is the machine's own clock
    journal_days: Annotated[float, Field(gt=0)] = 7
    journal_bytes: Annotated[int, Field(gt=0)] = 20 * GiB
    journal_reserve: Annotated[int, Field(ge=0)] = 64 << 20
    in_flight: Annotated[int, Field(gt=0, lt=65536)] = 2000  # messages unacknowledged at most
    gather: Annotated[float, Field(ge=0, lt=1)] = 0.002  # seconds to let messages come together
    snapshot_every: Annotated[float, Field(gt=0)] = 60  # seconds

    @property
    def journal(self) -> Path:
        return self.data / "journal"

    @property
    def versions(self) -> Path:
        return self.data / "versions"

    @property
    def desk(self) -> str:
        """SQLAlchemy's address of the desk's database."""
        return f"sqlite:///{self.data / 'desk.sqlite'}"

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
    def refused(self) -> Path:
        """The mistakes for which a changed registry was refused; not there while all is well."""
        return self.data / "registry.refused"

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0]

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    def save(self, path: Path) -> None:
        """Write what a child process needs; secrets are not in it, only where they are."""
        path.write_text(self.model_dump_json(indent=1), "utf-8")


def load(path: Path, **overrides: object) -> Settings:
    """Read settings from YAML, with ``overrides`` (those that are not None) laid over them.

    Raises SettingsError that lists every mistake at once.
    """
    try:
        content = yaml.safe_load(path.read_text("utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path}: expected keys and values, such as `registry: FOLDER`")
    for key in ("registry", "data"):
        if isinstance(content.get(key), str):
            content[key] = path.parent / content[key]
    return make(str(path), **{**content, **{k: v for k, v in overrides.items() if v is not None}})


def make(source: str = "settings", **values: object) -> Settings:
    """Check ``values`` and freeze them. Raises SettingsError that lists every mistake at once."""
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [
            f"{source}: {'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from error
