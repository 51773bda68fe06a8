"""Bring organisations, data sources and dashboards into a Grafana, by its HTTP API."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from grafana_client.api import GrafanaApi
from grafana_client.client import (
    GrafanaClientError,
    GrafanaException,
    GrafanaTimeoutError,
    GrafanaUnauthorizedError,
)
from niquests.exceptions import RequestException

from dashboards.board import NAME, TAG, Source
from dashboards.datasources import Wanted
from dashboards.jurisdictions import Jurisdiction

OLDEST = (9, 4)
"""Grafana's version from which on our dashboards are shown as they are meant."""

PATIENCE = 30.0
"""Seconds for an answer."""

UNTOLD = ("secureJsonData", "type")
"""Of a data source: what Grafana never tells, and what it tells by a newer name. Our mark stands for both."""


class PushFailed(Exception):
    """Grafana is away, or refuses; says in a line how to mend it. What was done stays, and a next push goes on."""


@dataclass(frozen=True, slots=True)
class Organisation:
    """What the organisation of a jurisdiction is to have."""

    whose: Jurisdiction
    sources: Sequence[Wanted]
    dashboards: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Server:
    """A Grafana, and who we are there: a server administrator, since nobody else may make organisations."""

    url: str
    user: str
    password: str

    def api(self, organisation: int | None = None) -> Any:
        """A GrafanaApi, whose types are half there. organisation: the id of that in which it works."""
        parts = urlsplit(self.url)
        prefix = parts.path.strip("/")
        return GrafanaApi(
            (self.user, self.password),
            host=parts.hostname or "",
            port=parts.port,
            url_path_prefix=f"{prefix}/" if prefix else "",
            protocol=parts.scheme,
            timeout=PATIENCE,
            organization_id=organisation,
        )


def push(server: Server, wanted: Sequence[Organisation]) -> Counter[str]:
    """Make all that is wanted and not there, mend what is otherwise, and remove dashboards of ours that are no more.

    Ours are organisations by how we name them, data sources by their uids, the folder by its uid, and dashboards by
    tag and uid; nothing else is looked at, and an organisation that is no longer wanted is left as it is.

    Returns:
        How many were "made", "changed" and "removed", of all kinds.

    Raises:
        PushFailed.
    """
    done: Counter[str] = Counter()
    with _understood(server):
        api = server.api()
        _require_version(api)
        there = api.organizations.list_organization()
        for one in wanted:
            id = _organisation(api, server.user, there, one, done)
            inside = server.api(id)
            _sources(inside, one.sources, done)
            _folder(inside, done)
            _dashboards(inside, one.dashboards, done)
    return done


def _require_version(api: Any) -> None:
    said = str((api.health.check() or {}).get("version", ""))
    parts = said.partition("-")[0].split(".")[:2]
    if all(part.isdigit() for part in parts) and len(parts) == 2 and tuple(map(int, parts)) < OLDEST:
        raise PushFailed(
            f"grafana.url: that is Grafana {said}; expected {'.'.join(map(str, OLDEST))} or newer"
        )


def _organisation(
    api: Any, user: str, there: Sequence[Mapping[str, Any]], wanted: Organisation, done: Counter[str]
) -> int:
    """Its id; we are an administrator in it."""
    name = wanted.whose.organisation
    found = next((one for one in there if wanted.whose.has_named(one["name"])), None)
    if found is None:
        done["made"] += 1
        return int(api.organization.create_organization(name)["orgId"])  # and whoever makes it is in it
    id = int(found["id"])
    if found["name"] != name:
        done["changed"] += 1
        api.organizations.update_organization(id, {"name": name})
    members = api.organizations.organization_user_list(id)
    we = next((one for one in members if _is(one, user)), None)
    if we is None:
        done["changed"] += 1
        api.organizations.organization_user_add(id, {"loginOrEmail": user, "role": "Admin"})
    elif we["role"] != "Admin":
        done["changed"] += 1
        api.organizations.organization_user_update(id, we["userId"], "Admin")
    return id


def _is(member: Mapping[str, Any], user: str) -> bool:
    """Whether a member logs in by this name: Grafana takes a login or an e-mail, in large or small letters."""
    return user.casefold() in (str(member.get(key, "")).casefold() for key in ("login", "email"))


def _sources(api: Any, wanted: Sequence[Wanted], done: Counter[str]) -> None:
    there = {one["uid"]: one for one in api.datasource.list_datasources()}
    for one in wanted:
        payload = one.payload()
        found = there.get(one.source.uid)
        if found is None:
            done["made"] += 1
            api.datasource.create_datasource(payload)
        elif any(found.get(key) != value for key, value in payload.items() if key not in UNTOLD):
            done["changed"] += 1
            api.datasource.update_datasource_by_uid(one.source.uid, payload)
    for uid in {source.uid for source in Source} - {one.source.uid for one in wanted}:
        if uid in there:
            done["removed"] += 1
            api.datasource.delete_datasource_by_uid(uid)


def _folder(api: Any, done: Counter[str]) -> None:
    found = _found(api.folder.get_folder, TAG)
    if found is None:
        done["made"] += 1
        api.folder.create_folder(NAME, TAG)
    elif found["title"] != NAME:
        done["changed"] += 1
        api.folder.update_folder(TAG, NAME, overwrite=True)


def _dashboards(api: Any, wanted: Sequence[Mapping[str, Any]], done: Counter[str]) -> None:
    for one in wanted:
        found = _found(api.dashboard.get_dashboard, one["uid"])
        if found is not None and _same(found, one):
            continue
        done["made" if found is None else "changed"] += 1
        api.dashboard.update_dashboard({"dashboard": dict(one), "folderUid": TAG, "overwrite": True})
    uids = {one["uid"] for one in wanted}
    for one in api.search.search_dashboards(tag=TAG, type_="dash-db", limit=5000):
        if (
            one["uid"].startswith(f"{TAG}-") and one["uid"] not in uids
        ):  # a copy has the tag too, and another uid
            done["removed"] += 1
            api.dashboard.delete_dashboard(one["uid"])


def _same(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether it is as we would make it, but for what Grafana adds: its number and its version."""
    there = {key: value for key, value in found["dashboard"].items() if key not in ("id", "version")}
    return there == wanted and found["meta"].get("folderUid") == TAG


def _found(get: Any, uid: str) -> Any:
    """What there is of this uid; None if nothing."""
    try:
        return get(uid)
    except GrafanaClientError as error:
        if error.status_code == 404:
            return None
        raise


@contextmanager
def _understood(server: Server) -> Iterator[None]:
    """Raises PushFailed for whatever goes wrong with the server."""
    try:
        yield
    except GrafanaUnauthorizedError as error:
        raise PushFailed(
            f"grafana.password_file: {server.url} does not let {server.user!r} in with that password"
        ) from error
    except GrafanaTimeoutError as error:
        raise PushFailed(f"grafana.url: {server.url} does not answer within {PATIENCE:.0f} s") from error
    except GrafanaException as error:
        if error.status_code == 403:
            mend = f"grafana.user: {server.user!r} is no server administrator of {server.url}, or may not do this"
            raise PushFailed(f"{mend}: {_one_line(error)}") from error
        raise PushFailed(f"grafana.url: {server.url} refuses: {_one_line(error)}") from error
    except RequestException as error:
        why = f"grafana.url: {server.url}: is that the place, and does Grafana run there?"
        raise PushFailed(f"{why} {_one_line(error)}") from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
