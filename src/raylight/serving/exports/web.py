"""A page that runs a model in the browser: one file, from disk or any static host, that connects to nothing.

A page that was opened from disk may fetch no other file, so that model and runtime are inside, compressed, as text. The page
decides as ``raylight predict`` does (``templates/page.js``).
"""

import base64
import gzip
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from raylight.errors import RaylightError
from raylight.report.templating import page_templates
from raylight.serving.exports.web_runtime import WebRuntime

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; style-src 'unsafe-inline'; img-src data: blob:; "
    "connect-src 'none'; form-action 'none'; base-uri 'none'"
)
"""Content security policy: the browser itself keeps the page from sending anything anywhere."""


def write_page(model: bytes, metadata: Mapping[str, Any], runtime: WebRuntime, path: Path) -> None:
    """Write the page.

    Args:
        model: an ONNX file that takes images of any size.
        metadata: what a user of the model must know besides, as JSON values.
        runtime: runs the model.
        path: of the page.
    """
    template = page_templates("raylight.serving.exports").get_template("page.html")
    text = template.render(
        facts=metadata,
        # A class name may hold the end of a script.
        metadata=json.dumps(metadata).replace("<", "\\u003c"),
        model=_packed(model),
        runtime_script=_packed(runtime.script),
        runtime_binary=_packed(runtime.binary),
        version=runtime.version,
        policy=POLICY,
        script=(Path(__file__).parent / "templates" / "page.js").read_text(encoding="utf-8"),
    )
    path.write_text(text, encoding="utf-8")


def model_of_page(page: Path) -> bytes:
    """The ONNX file inside a page.

    Raises:
        RaylightError: it isn't such a page.
    """
    found = re.search(r'<script type="text/plain" id="model">([^<]*)</script>', page.read_text(encoding="utf-8"))
    if found is None:
        raise RaylightError(f"{page} isn't a page with a model inside")
    return gzip.decompress(base64.b64decode(found[1]))


def _packed(content: bytes) -> str:
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()
