"""The guard around the API: limits what a request may send, counts answers, and shows no stack traces."""

from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from alerting.desk import DatabaseBusy, DatabaseUnwritable, NoSuchAlert, NotAsked
from console.metrics import Requests
from ingest.journal_file import JournalUnreadable
from ingest.last_values import NoLastValues

LARGEST_BODY = 64 * 1024
"""Bytes. A person's note is the largest thing that the API takes."""

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""What is counted by its name; any other word is "other", for anybody may send any, without a token."""

log = structlog.get_logger()

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    422: "invalid",
}

NOT_FOUND = "there is nothing of this name that the token may see"


class Refused(HTTPException):
    """An answer that is not a success, with a word of its own for why."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, message, headers)
        self.code = code


def not_found() -> Refused:
    """The same for what does not exist and for what the token may not see."""
    return Refused(404, "not_found", NOT_FOUND)


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The one form of every error."""
    return JSONResponse({"error": {"code": code, "message": message}}, status, headers)


def install(app: FastAPI, requests: Requests, admit: Callable[[Request], Awaitable[object]]) -> None:
    """Error answers of one form, and the limits.

    Args:
        admit: raises Refused unless the request has a valid token.
    """

    @app.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        code = error.code if isinstance(error, Refused) else CODES.get(error.status_code, "error")
        headers = dict(error.headers) if error.headers else None
        message = NOT_FOUND if code == "not_found" else str(error.detail)
        return answer(error.status_code, code, message, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        try:
            await admit(request)  # FastAPI reads the body before it asks who is there
        except Refused as unknown:
            return await refused(request, unknown)
        problems = (
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
            for problem in error.errors()
        )
        return answer(422, "invalid", "; ".join(problems))

    @app.exception_handler(NoSuchAlert)
    async def no_such_alert(request: Request, error: NoSuchAlert) -> JSONResponse:
        return answer(404, "not_found", NOT_FOUND)

    @app.exception_handler(NotAsked)
    async def not_asked(request: Request, error: NotAsked) -> JSONResponse:
        return answer(403, "not_asked", str(error))

    @app.exception_handler(DatabaseBusy)
    @app.exception_handler(DatabaseUnwritable)
    @app.exception_handler(NoLastValues)
    @app.exception_handler(JournalUnreadable)
    async def not_now(request: Request, error: Exception) -> JSONResponse:
        log.warning("api.not_now", route=request.url.path, error=str(error))
        return answer(
            503, "not_now", "this cannot be done just now, nothing was done: try again", {"Retry-After": "1"}
        )

    @app.exception_handler(Exception)
    async def fault(request: Request, error: Exception) -> JSONResponse:
        log.error("api.fault", route=request.url.path, exc_info=error)
        return answer(500, "fault", "a fault of ours; it has been written down")

    app.add_middleware(Limits, requests=requests)


class Limits:
    """ASGI middleware: no body beyond the largest, and every answer counted by its route.

    FastAPI's own ``max_body_size`` answers in plain text, so it does not fit the one form of our errors.
    """

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._answered = requests.answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        taken = 0

        async def limited() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise Refused(413, "too_large", f"a body may have {LARGEST_BODY} bytes at most")
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                path = getattr(route, "path", "none")
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._answered[path, method, message["status"]] += 1
            await send(message)

        await self._app(scope, limited, counted)
