"""``raylight serve``: a page that says what runs make of a picture, several side by side.

Covers what is on the page and how it is served: on loopback unless told otherwise, without analytics, without a call to
the network, with a limit on uploads. What a run says of a picture is ``verdict``'s; who may ask what is ``gate``'s.
"""

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from raylight.errors import BadImageError, ConfigError, RaylightError, RunError
from raylight.report.facts import Measured
from raylight.report.templating import page_templates
from raylight.runs.signals import Stopped, stopping_politely
from raylight.serving.explanation import Judge, LabelledImage, examples
from raylight.serving.gate import Gate
from raylight.serving.predictor import UnusableRunError
from raylight.storage.scratch import scratch_folder

log = logging.getLogger("raylight")

CLASSES = 10
"""Classes whose probability is shown, the most probable first."""

QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "DISABLE_TELEMETRY": "1",
}
"""What keeps Gradio and its libraries off the network."""

TEMPLATES = Path(__file__).parent / "templates"


def serve_runs(runs: Sequence[Path], host: str, port: int, max_mb: float) -> int:
    """Serve the page until interrupted; its address is printed once it can be opened.

    Args:
        runs: finished runs' folders, shown side by side.
        host: address to listen on.
        port: to listen on; 0 takes a free one.
        max_mb: size of an uploaded file at most, in megabytes.

    Returns:
        0, after an interrupt.

    Raises:
        UnusableRunError: a run can't be used.
        ConfigError: the port is taken, the address isn't this machine's, or the limit isn't positive.
        RaylightError: gradio isn't installed.
    """
    if max_mb <= 0:
        raise ConfigError([f"--max-mb: {max_mb:g} lets no picture through; give a size in megabytes, such as 20"])
    with _quiet_gradio(), _listening(host, port) as listener:
        judges = [Judge.open(run) for run in runs]
        app = served(page(judges), max_mb, host)
        _run(app, listener, host)
    return 0


def page(judges: Sequence[Judge]) -> Any:
    """The page, as Gradio's ``Blocks``.

    Args:
        judges: the runs, at least one.
    """
    import gradio as gr

    try:
        found, fewer = examples(judges)
    except UnusableRunError as error:  # what else a run says of a picture needs no index
        found, fewer = [], str(error)
    titles = [judge.facts.title for judge in judges]
    medical = any(judge.facts.config.data.medical for judge in judges)

    def show(content: bytes | None) -> list[str]:
        return [_verdict(judge, content, None) for judge in judges]

    def show_example(chosen: gr.SelectData) -> list[str | None]:
        image = found[chosen.index]
        return [None, *(_verdict(judge, image.content, image.label) for judge in judges)]

    def predict(content: bytes | None) -> list[dict[str, Any]]:
        if content is None:
            raise gr.Error("There is no picture to judge; upload one.", print_exception=False)
        try:
            return [_answer(judge, content) for judge in judges]
        except BadImageError as error:
            raise gr.Error(_refusal(error), print_exception=False) from error

    with gr.Blocks(title=f"{' · '.join(titles)} · Raylight", analytics_enabled=False) as blocks:
        gr.HTML(_render("heading.html", titles=titles, medical=medical), elem_classes="rl")
        upload = gr.File(label="Drop a picture here", type="binary", height=140, elem_id="upload")
        results = []
        with gr.Row(elem_classes="runs"):
            for position, judge in enumerate(judges):
                with gr.Column(min_width=320):
                    gr.HTML(_render("run.html", facts=judge.facts, accuracy=_accuracy(judge)), elem_classes="rl")
                    results.append(
                        gr.HTML(_verdict(judge, None, None), elem_classes="rl", elem_id=f"result-{position}")
                    )
        if found:
            gr.HTML(_render("examples.html", several=len(judges) > 1), elem_classes="rl")
            gallery = gr.Gallery(
                [(_thumbnail(judges[0], image), image.label) for image in found],
                show_label=False,
                columns=6,
                height="auto",
                allow_preview=False,
                buttons=[],
                elem_id="examples",
            )
            gallery.select(show_example, None, [upload, *results], api_visibility="private", show_progress="hidden")
        if fewer:
            gr.HTML(_render("note.html", text=fewer), elem_classes="rl")
        for judge in judges:
            with gr.Accordion(f"Model card: {judge.facts.title} ({judge.predictor.run.path.name})", open=False):
                gr.Markdown(_card(judge))
        for event in (upload.upload, upload.clear):
            event(show, upload, results, api_visibility="private", show_progress="hidden")
        answers = gr.JSON(visible=False)
        gr.Button(visible=False).click(predict, upload, answers, api_name="predict")
    blocks.queue(default_concurrency_limit=1)
    return blocks


def served(blocks: Any, max_mb: float, host: str) -> Any:
    """The page as an ASGI application that asks nothing of the network and lets no path in.

    Args:
        blocks: from ``page``.
        max_mb: size of an uploaded file at most, in megabytes.
        host: that it will be asked for; any name is let in where it isn't loopback.
    """
    import gradio as gr
    from fastapi import FastAPI

    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        app_kwargs={"docs_url": None, "redoc_url": None, "openapi_url": None},
        max_file_size=int(max_mb * 1e6),
        show_error=True,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        run_history=False,
        footer_links=[],
        theme=theme,
        css=(TEMPLATES / "app.css").read_text(encoding="utf-8"),
    )
    return Gate(app, max_mb, ("localhost", "127.0.0.1", "[::1]") if _is_loopback(host) else None)


def _answer(judge: Judge, content: bytes) -> dict[str, Any]:
    """A verdict for programs."""
    verdict = judge.verdict(content)
    return {
        "run": judge.predictor.run.path.name,
        "predicted": verdict.predicted,
        "probabilities": dict(verdict.probabilities),
        "positive": verdict.positive,
        "threshold": verdict.threshold,
    }


def _verdict(judge: Judge, content: bytes | None, truth: str | None) -> str:
    """A verdict for people; a sentence where the file isn't a picture."""
    verdict = refused = None
    try:
        verdict = judge.verdict(content) if content is not None else None
    except BadImageError as error:
        refused = _refusal(error)
    return _render(
        "verdict.html",
        verdict=verdict,
        refused=refused,
        truth=truth,
        calibrated=judge.predictor.temperature != 1.0,
        most=CLASSES,
    )


def _refusal(error: BadImageError) -> str:
    return f"This file can't be judged: {error}."


def _accuracy(judge: Judge) -> Measured | None:
    try:
        return judge.facts.measured().get("accuracy")
    except RunError:  # a model can be shown without its result
        return None


def _card(judge: Judge) -> str:
    try:
        return judge.card
    except (RaylightError, OSError, ValueError, KeyError) as error:
        return f"There is no model card: the run's folder doesn't hold all that it is made from ({error})."


def _thumbnail(judge: Judge, image: LabelledImage) -> Any:
    from raylight.data.decode.image import DecodeSpec, decode_image
    from raylight.report.images import SAMPLE

    return decode_image(image.content, DecodeSpec(SAMPLE, judge.predictor.preprocessing.resize))


def _render(template: str, **facts: Any) -> str:
    pages = page_templates("raylight.serving")
    # File names may hold bytes that are no UTF-8; a page shows a question mark.
    return pages.get_template(template).render(**facts).encode("utf-8", "replace").decode("utf-8")


@contextmanager
def _quiet_gradio() -> Iterator[None]:
    """Gradio without telemetry, its uploads in a folder that goes when the page does, or the next one comes."""
    before = {name: os.environ.get(name) for name in (*QUIET, "GRADIO_TEMP_DIR")}
    with scratch_folder("serve", settled=2.0) as uploads:
        os.environ |= {**QUIET, "GRADIO_TEMP_DIR": str(uploads)}
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise RaylightError(f"raylight serve needs gradio ({error}): pip install raylight[app]") from error
        try:
            yield
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens, before any run is read, so that a taken port is said at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                [
                    f"--host {host} --port {port}: can't be listened on ({reason}); choose another, or --port 0 for a free one"
                ]
            ) from error
        yield listener


def _run(app: Any, listener: socket.socket, host: str) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            port = listener.getsockname()[1]
            print(f"http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)  # noqa: T201 - the command's result
            if not _is_loopback(host):
                log.warning("Anybody who reaches this machine can use the page; there is no password.")

    server = Server(uvicorn.Config(app, log_level="warning", access_log=False, ws="none", timeout_graceful_shutdown=2))
    try:
        with stopping_politely():  # the server closes its connections, then raises the signal again
            server.run(sockets=[listener])
    except Stopped:
        log.info("Stopped.")


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
