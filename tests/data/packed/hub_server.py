"""A server that speaks as much of the Hugging Face Hub's protocol as ``datasets`` needs, with one data set of some files.

See https://huggingface.co/docs/hub/api; ``HF_ENDPOINT`` points the library to it.
"""

import hashlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

COMMIT = "c0ffee" + "0" * 34
NAME = "me/pets"


@contextmanager
def hub(files: Mapping[str, bytes]) -> Iterator[str]:
    """A server of this process's own, on the loopback interface.

    Args:
        files: of the data set, by path.

    Yields:
        Its address.
    """
    from werkzeug.serving import make_server

    server = make_server("127.0.0.1", 0, _app(files), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _app(files: Mapping[str, bytes]) -> Any:
    from flask import Flask, Response, jsonify, request

    app = Flask(__name__)
    entries = [{"type": "file", "path": path, "oid": _digest(files[path]), "size": len(files[path])} for path in files]
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents if folder.name}
    entries += [{"type": "directory", "path": folder, "oid": COMMIT, "size": 0} for folder in sorted(folders)]

    def missing(what: str) -> Response:
        return Response("", 404, {"X-Error-Code": f"{what}NotFound"})

    @app.get("/datasets/<path:name>/resolve/<revision>/<path:path>")
    def content(name: str, revision: str, path: str) -> Response:
        if name != NAME:
            return missing("Repo")
        if revision not in ("main", COMMIT):
            return missing("Revision")
        if path not in files:
            return missing("Entry")
        return Response(files[path], headers={"X-Repo-Commit": COMMIT, "ETag": f'"{_digest(files[path])}"'})

    @app.get(f"/api/datasets/{NAME}")
    @app.get(f"/api/datasets/{NAME}/revision/<revision>")
    def description(revision: str = COMMIT) -> Response:
        return jsonify(id=NAME, sha=COMMIT) if revision in ("main", COMMIT) else missing("Revision")

    @app.get(f"/api/datasets/{NAME}/tree/{COMMIT}")
    @app.get(f"/api/datasets/{NAME}/tree/{COMMIT}/<path:folder>")
    def listing(folder: str = "") -> Response:
        whole = request.args.get("recursive", "").lower() in ("true", "1")
        start = f"{folder}/" if folder else ""
        found = [one for one in entries if one["path"].startswith(start)]
        found = [one for one in found if whole or "/" not in one["path"].removeprefix(start)]
        return jsonify(found) if found else missing("Entry")

    @app.post(f"/api/datasets/{NAME}/paths-info/{COMMIT}")
    def facts() -> Response:
        wanted = request.get_json(silent=True) or request.form.to_dict(flat=False)
        return jsonify([one for one in entries if one["path"] in wanted["paths"]])

    @app.errorhandler(404)
    def unknown(_: Exception) -> Response:
        return missing("Repo")

    return app


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
