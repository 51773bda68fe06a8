"""A small server that answers and remembers as Grafana's documented HTTP API does, for what a push asks of it."""

import base64
import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

ADMIN, PASSWORD = "admin", "grafana-test-only"

PEOPLE = {1: (ADMIN, "Admin@Grafana.Example"), 2: ("founder", "founder@grafana.example")}
"""By number, login and e-mail: either lets them in, in large or small letters."""


def number_of(name: str) -> int | None:
    """Of whom this is the login or the e-mail."""
    return next((id for id, one in PEOPLE.items() if name.casefold() in map(str.casefold, one)), None)


@dataclass
class Org:
    id: int
    name: str
    users: dict[int, str] = field(default_factory=lambda: {1: "Admin"})  # roles
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    folders: dict[str, dict[str, Any]] = field(default_factory=dict)
    boards: dict[str, dict[str, Any]] = field(default_factory=dict)  # each with dashboard and meta


class Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Recorder:
    """What it has, and what it was asked. asked: method, path and organisation of each request."""

    def __init__(self) -> None:
        self.version = "9.4.7"
        self.orgs = {1: Org(1, "Main Org.")}
        self.asked: list[tuple[str, str, int]] = []
        self.refuse: tuple[int, str, str] | None = None  # with this status such a method, and why
        self._next = 1

    def changes(self) -> list[tuple[str, str, int]]:
        return [one for one in self.asked if one[0] != "GET"]

    def org(self, name: str) -> Org:
        [found] = [org for org in self.orgs.values() if name in org.name]
        return found

    def state(self) -> dict[int, Org]:
        return copy.deepcopy(self.orgs)

    def answer(self, method: str, path: str, query: dict[str, list[str]], org: int, body: Any) -> Any:
        if self.refuse and self.refuse[1] == method:
            raise Refused(self.refuse[0], self.refuse[2])
        for (wanted, pattern), handler in ROUTES.items():
            match = re.fullmatch(pattern, path)
            if wanted == method and match:
                if not path.startswith(("/orgs", "/frontend")):
                    if org not in self.orgs or self.orgs[org].users.get(1) != "Admin":
                        raise Refused(403, "You'll need additional permissions to perform this action")
                    return handler(self, self.orgs[org], query, body, *map(unquote, match.groups()))
                return handler(self, query, body, *map(unquote, match.groups()))
        raise Refused(404, "Not found")

    def number(self) -> int:
        self._next += 1
        return self._next

    # -- organisations: of a server administrator ------------------------------------------------------

    def settings(self, _query: Any, _body: Any) -> Any:
        return {"buildInfo": {"version": self.version}}

    def list_orgs(self, _query: Any, _body: Any) -> Any:
        return [{"id": org.id, "name": org.name} for org in self.orgs.values()]

    def make_org(self, _query: Any, body: Any) -> Any:
        if any(org.name == body["name"] for org in self.orgs.values()):
            raise Refused(409, "Organization name taken")
        id = self.number()
        self.orgs[id] = Org(id, body["name"])
        return {"orgId": str(id), "message": "Organization created"}

    def name_org(self, _query: Any, body: Any, id: str) -> Any:
        self.orgs[int(id)].name = body["name"]
        return {"message": "Organization updated"}

    def list_users(self, _query: Any, _body: Any, id: str) -> Any:
        return [
            {
                "orgId": int(id),
                "userId": user,
                "login": PEOPLE[user][0],
                "email": PEOPLE[user][1],
                "role": role,
            }
            for user, role in self.orgs[int(id)].users.items()
        ]

    def add_user(self, _query: Any, body: Any, id: str) -> Any:
        users = self.orgs[int(id)].users
        user = number_of(body["loginOrEmail"])
        if user is None:
            raise Refused(404, "User not found")
        if user in users:
            raise Refused(409, "User is already member of this organization")
        users[user] = body["role"]
        return {"message": "User added to organization", "userId": user}

    def change_user(self, _query: Any, body: Any, id: str, user: str) -> Any:
        if int(user) not in self.orgs[int(id)].users:
            raise Refused(404, "User not found")
        self.orgs[int(id)].users[int(user)] = body["role"]
        return {"message": "Organization user updated"}

    # -- within an organisation ------------------------------------------------------------------------

    def list_sources(self, org: Org, _query: Any, _body: Any) -> Any:
        """From 10.4 on it tells of some types by other names than those by which they may be made."""
        if tuple(map(int, self.version.partition("-")[0].split(".")[:2])) < (10, 4):
            return list(org.sources.values())
        return [one | {"type": RENAMED.get(one.get("type"), one.get("type"))} for one in org.sources.values()]

    def make_source(self, org: Org, _query: Any, body: Any) -> Any:
        if body["uid"] in org.sources or any(body["name"] == one["name"] for one in org.sources.values()):
            raise Refused(409, "data source with the same name already exists")
        return self._keep_source(org, body, {"id": self.number(), "orgId": org.id, "version": 1})

    def change_source(self, org: Org, _query: Any, body: Any, uid: str) -> Any:
        if uid not in org.sources:
            raise Refused(404, "Data source not found")
        found = org.sources[uid]
        return self._keep_source(org, body, {**found, "version": found["version"] + 1})

    def _keep_source(self, org: Org, body: Any, before: Any) -> Any:
        usual = {"user": "", "database": "", "basicAuth": False, "isDefault": False, "readOnly": False}
        secrets = body.pop("secureJsonData", {})
        org.secrets[body["uid"]] = org.secrets.get(body["uid"], {}) | secrets
        org.sources[body["uid"]] = {**usual, **before, **body}  # secrets are never said again
        return {"datasource": org.sources[body["uid"]], "id": before["id"], "message": "Datasource added"}

    def drop_source(self, org: Org, _query: Any, _body: Any, uid: str) -> Any:
        if org.sources.pop(uid, None) is None:
            raise Refused(404, "Data source not found")
        return {"message": "Data source deleted"}

    def read_folder(self, org: Org, _query: Any, _body: Any, uid: str) -> Any:
        if uid not in org.folders:
            raise Refused(404, "folder not found")
        return org.folders[uid]

    def make_folder(self, org: Org, _query: Any, body: Any) -> Any:
        if body["uid"] in org.folders:
            raise Refused(409, "a folder with the same UID already exists")
        org.folders[body["uid"]] = {"id": self.number(), "version": 1, **body}
        return org.folders[body["uid"]]

    def change_folder(self, org: Org, _query: Any, body: Any, uid: str) -> Any:
        found = self.read_folder(org, None, None, uid)
        if not body.get("overwrite") and body.get("version") != found["version"]:
            raise Refused(412, "The folder has been changed by someone else")
        found.update(title=body["title"], version=found["version"] + 1)
        return found

    def read_board(self, org: Org, _query: Any, _body: Any, uid: str) -> Any:
        if uid not in org.boards:
            raise Refused(404, "Dashboard not found")
        return org.boards[uid]

    def keep_board(self, org: Org, _query: Any, body: Any) -> Any:
        board, folder = body["dashboard"], body.get("folderUid", "")
        if folder and folder not in org.folders:
            raise Refused(400, "folder not found")
        found = org.boards.get(board["uid"])
        before = found["dashboard"] if found else {"id": self.number(), "version": 0}
        if found and not body.get("overwrite") and board.get("version") != before["version"]:
            raise Refused(412, "The dashboard has been changed by someone else")
        board = {**board, "id": before["id"], "version": before["version"] + 1}
        org.boards[board["uid"]] = {"dashboard": board, "meta": {"folderUid": folder}}
        return {"uid": board["uid"], "status": "success", "version": board["version"], "id": board["id"]}

    def drop_board(self, org: Org, _query: Any, _body: Any, uid: str) -> Any:
        found = self.read_board(org, None, None, uid)
        del org.boards[uid]
        return {"title": found["dashboard"]["title"], "message": "Dashboard deleted"}

    def search(self, org: Org, query: dict[str, list[str]], _body: Any) -> Any:
        if query.get("type", ["dash-db"]) != ["dash-db"]:
            return []
        boards = (one["dashboard"] for one in org.boards.values())
        tags = set(query.get("tag", []))
        return [
            {"uid": one["uid"], "title": one["title"], "tags": one["tags"], "type": "dash-db"}
            for one in boards
            if tags <= set(one["tags"])
        ]


RENAMED = {"postgres": "grafana-postgresql-datasource"}

_ID, _UID = r"/(\d+)", r"/([^/]+)"
ROUTES: dict[tuple[str, str], Any] = {
    ("GET", "/frontend/settings"): Recorder.settings,
    ("GET", "/orgs"): Recorder.list_orgs,
    ("POST", "/orgs"): Recorder.make_org,
    ("PUT", f"/orgs{_ID}"): Recorder.name_org,
    ("GET", f"/orgs{_ID}/users"): Recorder.list_users,
    ("POST", f"/orgs{_ID}/users"): Recorder.add_user,
    ("PATCH", f"/orgs{_ID}/users{_ID}"): Recorder.change_user,
    ("GET", "/datasources"): Recorder.list_sources,
    ("POST", "/datasources"): Recorder.make_source,
    ("PUT", f"/datasources/uid{_UID}"): Recorder.change_source,
    ("DELETE", f"/datasources/uid{_UID}"): Recorder.drop_source,
    ("GET", f"/folders{_UID}"): Recorder.read_folder,
    ("POST", "/folders"): Recorder.make_folder,
    ("PUT", f"/folders{_UID}"): Recorder.change_folder,
    ("GET", f"/dashboards/uid{_UID}"): Recorder.read_board,
    ("POST", "/dashboards/db"): Recorder.keep_board,
    ("DELETE", f"/dashboards/uid{_UID}"): Recorder.drop_board,
    ("GET", "/search"): Recorder.search,
}


@contextmanager
def grafana() -> Iterator[tuple[str, Recorder]]:
    """Its URL, and what it has and was asked."""
    recorder = Recorder()

    class Handler(BaseHTTPRequestHandler):
        def handle_all(self) -> None:
            parts = urlsplit(self.path)
            org = int(self.headers.get("X-Grafana-Org-Id", "1"))
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            path = parts.path.removeprefix("/grafana/api")
            recorder.asked.append((self.command, path, org))
            given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
            user, _, password = given.decode().partition(":")
            try:
                if number_of(user) != 1 or password != PASSWORD:
                    raise Refused(401, "Invalid username or password")
                status, said = 200, recorder.answer(self.command, path, parse_qs(parts.query), org, body)
            except Refused as refused:
                status, said = refused.status, {"message": str(refused)}
            content = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_all

        def log_message(self, *_: object) -> None:
            """Nothing: what was asked is remembered."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/grafana", recorder
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
