"""The server of a demo: the page, its files, its recordings, and a WebSocket for each open page.

It answers requests made to this machine by its own name alone, and WebSockets opened by its own
page alone: no other site that is open in the same browser reaches it.
"""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .demo_page import Page
from .demo_stage import PAGES, Demo, Stage

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

ADDRESS = "127.0.0.1"
HOSTS = {ADDRESS, "localhost"}
TEMPLATES = Path(__file__).parent / "templates"
FILES = {"/": "demo.html", "/demo.js": "demo.js", "/demo.css": "demo.css", "/page.css": "page.css"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
MESSAGE_BYTES = 2**16
SHUTDOWN_SECONDS = 10

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]


class PortError(Exception):
    """A port that cannot be used; the text is one sentence."""


def listening(port: int) -> socket.socket:
    """A socket of this machine alone; port 0: any that is free."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((ADDRESS, port))
        found.listen()
    except OSError as error:
        found.close()
        raise PortError(
            f"Port {port} cannot be used ({error.strerror}); choose another with --port."
        ) from None
    return found


def serve(demo: Demo, own: socket.socket) -> None:
    """Answer until Ctrl-C, which is how a demo is meant to end."""
    stage = Stage(demo)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        server(stage).run(sockets=[own])
    except KeyboardInterrupt:
        pass  # uvicorn passes a signal on when all is closed
    finally:
        stage.worker.shutdown(cancel_futures=True)


def server(stage: Stage) -> uvicorn.Server:
    """Not yet running."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            application(stage),
            ws="websockets-sansio",
            ws_max_size=MESSAGE_BYTES,
            ws_per_message_deflate=False,  # images are compressed already
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )
    )


def application(stage: Stage) -> Starlette:
    """The page, its files, its recordings and its WebSocket."""
    from starlette.applications import Starlette
    from starlette.middleware import Middleware
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route, WebSocketRoute

    async def file(asked: Request) -> Response:
        return FileResponse(TEMPLATES / FILES[asked.url.path], headers=HEADERS)

    async def recording(asked: Request) -> Response:
        name = asked.path_params["name"]
        if name not in stage.recordings:
            return PlainTextResponse("There is no such recording.\n", 404, HEADERS)
        return FileResponse(stage.demo.out / name, filename=name, headers=HEADERS)

    async def stream(socket: WebSocket) -> None:
        await socket.accept()
        if stage.pages >= PAGES:
            text = f"{PAGES} pages are open already; close one."
            await socket.send_text(json.dumps({"type": "refused", "text": text}))
            return await socket.close(1013)
        stage.pages += 1
        try:
            await Page(socket, stage).serve()
        finally:
            stage.pages -= 1

    routes = [Route(path, file) for path in FILES]
    routes.append(Route("/recordings/{name}", recording))
    return Starlette(
        routes=[*routes, WebSocketRoute("/stream", stream)], middleware=[Middleware(Guard)]
    )


class Guard:
    """Refuses what another site made a browser ask for.

    The host must be this machine (else a name that someone else points at it would do), at any port
    (a tunnel has its own), and a WebSocket must come from a page of that very host and port.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on what is allowed."""
        if scope["type"] not in ("http", "websocket") or self._allowed(scope):
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        from starlette.responses import PlainTextResponse

        text = "This page is for this machine alone: open it at http://127.0.0.1 and its port.\n"
        await PlainTextResponse(text, 403, HEADERS)(scope, receive, send)

    @staticmethod
    def _allowed(scope: Scope) -> bool:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        own = host.partition(":")[0] in HOSTS
        return own and (scope["type"] == "http" or headers.get(b"origin") == f"http://{host}")
