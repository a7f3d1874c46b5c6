"""``raylight serve``: a page that shows what runs predict for a picture, several side by side.

A plain form, answered with a whole page, so that it works without scripts; a script of a few lines sends a dropped picture at
once. Programs send the picture to ``/predict`` and get JSON. Pictures come only as uploads: no request can name a file of
this machine or an address, nothing is fetched, and an upload is kept in memory or an unnamed temporary file until answered.
"""

import logging
import socket
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from raylight.data.decode.image import decode_image
from raylight.errors import BadImageError, ConfigError, RaylightError
from raylight.report.images import SAMPLE, jpeg
from raylight.report.templating import page_templates
from raylight.runs.signals import Stopped, graceful_stop
from raylight.serving.explanation import ExampleImage, Explanation, ServedRun, example_images
from raylight.serving.predictor import UnusableRunError
from raylight.serving.versions.opening import RUNS_OWN, Version

log = logging.getLogger("raylight")

CLASSES = 10
"""Maximum number of classes shown, the most probable first."""

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
"""Names of this machine that a page on loopback answers to; any other name may belong to a foreign page (DNS rebinding)."""

SCRIPT = "for (const i of document.querySelectorAll('input[type=file]')) i.onchange = () => i.form.submit();"
"""The page's only script: a chosen or dropped picture is sent at once."""

HEADERS = {
    "content-security-policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; form-action 'self'; "
    f"frame-ancestors 'none'; base-uri 'none'; script-src 'sha256-{b64encode(sha256(SCRIPT.encode()).digest()).decode()}'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


def serve_runs(
    runs: Sequence[Path],
    host: str,
    port: int,
    max_mb: float,
    allow_host: Sequence[str] = (),
    version: Version = RUNS_OWN,
) -> int:
    """Serve the page until interrupted; its address is printed once it can be opened.

    Args:
        runs: finished runs' folders, shown side by side.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        max_mb: maximum size of an uploaded file, in megabytes.
        allow_host: further names that the page answers to, for a proxy in front of it.
        version: how their networks are computed.

    Returns:
        0, after an interrupt.

    Raises:
        UnusableRunError: a run can't be used.
        ConfigError: the port is taken, the address isn't this machine's, a name is an address, or the limit isn't positive.
    """
    if max_mb <= 0:
        raise ConfigError([f"--max-mb: {max_mb:g} allows no picture; give a size in megabytes, such as 20"])
    for name in allow_host:
        alone = urlsplit(name if "//" in name else f"//{name}").netloc.partition(":")[0]
        if name != alone and not name.startswith("["):
            raise ConfigError(
                [f"--allow-host: {name!r} is no name of a host; give it without scheme, port and path: {alone}"]
            )
    hosts = (*LOOPBACK, *allow_host) if _is_loopback(host) or allow_host else None
    with _listening(host, port) as listener:
        _run(page([ServedRun.open(run, version) for run in runs], max_mb, hosts), listener, host)
    return 0


def page(runs: Sequence[ServedRun], max_mb: float, hosts: Sequence[str] | None) -> Starlette:
    """The page, as an ASGI application.

    Args:
        runs: at least one.
        max_mb: maximum size of an uploaded file, in megabytes.
        hosts: names that the page answers to; None allows any.
    """
    try:
        found, fewer = example_images(runs)
    except UnusableRunError as error:  # only the examples need the run's index
        found, fewer = [], str(error)
    thumbnails = [(image.label, _thumbnail(runs[0], image)) for image in found]
    cards = [(f"{run.facts.title} ({run.predictor.run.path.name})", _card(run)) for run in runs]
    one_at_a_time = anyio.CapacityLimiter(1)
    template = page_templates("raylight.serving").get_template("page.html")

    def rendered(content: bytes | None = None, truth: str | None = None) -> HTMLResponse:
        explanations: list[Explanation | None] = [None] * len(runs)
        refused = None
        try:
            if content is not None:
                explanations = [run.explain(content) for run in runs]
        except BadImageError as error:
            refused = _refusal(error)
        text = template.render(
            runs=list(zip(runs, explanations, strict=True)),
            refused=refused,
            truth=truth,
            most=CLASSES,
            thumbnails=thumbnails,
            fewer=fewer,
            cards=cards,
            script=SCRIPT,
        )
        # File names may hold bytes that aren't UTF-8; the page shows a question mark.
        return HTMLResponse(text.encode("utf-8", "replace"), 422 if refused else 200)

    async def show(request: Request) -> Response:
        content = truth = None
        if request.method == "POST":
            content = await _uploaded(request, max_mb)
        elif "example" in request.query_params:
            image = _example(found, request.query_params["example"])
            content, truth = image.content, image.label
        return await anyio.to_thread.run_sync(rendered, content, truth, limiter=one_at_a_time)

    async def predict(request: Request) -> Response:
        content = await _uploaded(request, max_mb)
        try:
            answers = await anyio.to_thread.run_sync(
                lambda: [run.answer(content) for run in runs], limiter=one_at_a_time
            )
        except BadImageError as error:
            raise HTTPException(422, _refusal(error)) from error
        return JSONResponse(answers)

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return JSONResponse({"detail": error.detail}, error.status_code)

    app = Starlette(
        routes=[Route("/", show, methods=["GET", "POST"]), Route("/predict", predict, methods=["POST"])],
        exception_handlers={HTTPException: refuse},
    )
    app.add_middleware(_Guard, hosts=hosts)
    return app


class _Guard:
    """Refuses requests to other host names and forms from other sites, and adds the security headers.

    Args:
        app: the application.
        hosts: names that it answers to; None allows any.
    """

    def __init__(self, app: Any, hosts: Sequence[str] | None) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] += [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            await send(message)

        app = self.app
        if scope["type"] == "http":
            headers = Request(scope).headers
            if self.hosts is not None and _name(headers.get("host", "")) not in self.hosts:
                app = JSONResponse({"detail": f"This page answers only to {', '.join(self.hosts)}."}, 403)
            elif scope["method"] == "POST" and headers.get("sec-fetch-site", "same-origin") not in (
                "same-origin",
                "none",
            ):
                app = JSONResponse({"detail": "Pictures are accepted only from this page and from programs."}, 403)
        await app(scope, receive, with_headers)


class _Limited(Request):
    """A request whose body is limited in size, whatever length it declares.

    Args:
        request: the request.
        max_mb: maximum size, in megabytes.
    """

    def __init__(self, request: Request, max_mb: float) -> None:
        super().__init__(request.scope, request.receive)
        self.max_mb = max_mb

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The body, chunk by chunk.

        Raises:
            HTTPException: it is too large.
        """
        announced, taken = int(self.headers.get("content-length", "0") or 0), 0
        async for chunk in super().stream():
            taken += len(chunk)  # a chunked body may be longer than what was announced beside it
            if max(announced, taken) > self.max_mb * 1e6 + 10_000:  # around the file a form has boundaries and a name
                raise HTTPException(413, f"The file is larger than {self.max_mb:g} MB, the maximum.")
            yield chunk


async def _uploaded(request: Request, max_mb: float) -> bytes:
    """The picture in a request: a form's only file, or the body itself."""
    limited = _Limited(request, max_mb)
    content: Any = b""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        limit = int(max_mb * 1e6) + 10_000
        async with limited.form(max_files=1, max_fields=0, max_part_size=limit) as form:
            for part in form.values():
                if isinstance(part, UploadFile):
                    content = await part.read()
    else:
        content = await limited.body()
    if not content:
        raise HTTPException(400, "There is no picture to predict; upload one.")
    return bytes(content)


def _example(found: Sequence[ExampleImage], number: str) -> ExampleImage:
    if not number.isascii() or not number.isdigit() or len(number) > 9 or int(number) >= len(found):
        raise HTTPException(404, "There is no such example.")
    return found[int(number)]


def _refusal(error: BadImageError) -> str:
    return f"This file can't be used: {error}."


def _card(run: ServedRun) -> str:
    from markdown_it import MarkdownIt

    try:
        return str(MarkdownIt("commonmark", {"html": False}).enable("table").render(run.card))
    except (RaylightError, OSError, ValueError, KeyError) as error:
        return f"There is no model card: files in the run's folder are missing ({error})."


def _thumbnail(run: ServedRun, image: ExampleImage) -> str:
    return jpeg(decode_image(image.content, run.predictor.preprocessing.decode_spec.at(SAMPLE)))


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """Listen before any run is read, so that a port in use is reported at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                [
                    f"--host {host} --port {port}: can't listen there ({reason}); choose another, or --port 0 for a free one"
                ]
            ) from error
        yield listener


def _run(app: Starlette, listener: socket.socket, host: str) -> None:
    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            port = listener.getsockname()[1]
            print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201 - the command's result
            if not _is_loopback(host):
                log.warning("Anyone who reaches this machine can use the page; there is no password.")

    server = Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=2))
    try:
        with graceful_stop():  # the server closes its connections, then raises the signal again
            server.run(sockets=[listener])
    except Stopped:
        log.info("Stopped.")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _name(header: str) -> str:
    """The name in a ``Host`` header, without its port."""
    return header[: header.rindex("]") + 1] if header.startswith("[") and "]" in header else header.partition(":")[0]
