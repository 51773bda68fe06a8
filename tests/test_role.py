"""A role's process: one of its name with a data folder; what it says when it stands, and when it ends."""

import os
from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from fenghuo import role
from fenghuo.role import NameTaken, Role
from fenghuo.settings import Settings, make

CLUSTER = {"kafka": "127.0.0.1:1", "database": {"url": "postgresql://u@127.0.0.1:1/d"}}


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it does to the process ends with the test."""
    monkeypatch.setenv(role.APPLICATION, "")
    monkeypatch.setattr(role, "log", structlog.get_logger())


def of(settings: Settings, kind: str, name: str = "", *, alone: bool = True) -> Role:
    assert settings.cluster is not None
    return Role(settings, settings.cluster, kind, name, alone=alone)


def test_another_of_the_same_name_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    settings = make(data=tmp_path / "data", cluster=CLUSTER)
    with of(settings, "desk", "a"):
        with of(settings, "desk", "b"), of(settings, "collect", "a"), of(settings, "api"):
            pass
        with (
            pytest.raises(NameTaken, match=r"`fenghuo desk` named a .* another --name"),
            of(settings, "desk", "a"),
        ):
            pass
    with of(settings, "desk", "a"), of(settings, "api"):
        with pytest.raises(NameTaken, match="another `data`"), of(settings, "api"):
            pass
        with of(settings, "registrar", alone=False), of(settings, "registrar", alone=False):
            pass


def test_it_says_with_what_it_stands_and_that_it_ends(tmp_path: Path) -> None:
    settings = make(data=tmp_path / "data", cluster=CLUSTER)
    with capture_logs() as logs:
        with of(settings, "desk", "a"):
            assert os.environ[role.APPLICATION].startswith(f"fenghuo desk {os.getpid()}@")
        with of(settings, "desk", "a") as desk:
            desk.stands(kafka="127.0.0.1:1", metrics="")
    me = {"role": "desk", "name": "a", "pid": os.getpid(), "log_level": "info"}
    where = {"kafka": "127.0.0.1:1", "database": "postgresql://u@127.0.0.1:1/d"}
    assert logs == [{"event": "role_started", **me, **where}, {"event": "role_ended", **me}]
