"""A stand-in for the Hugging Face hub: what its own client asks of one repository of models, answered from a folder."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

REVISION = "0" * 40


class Hub(BaseHTTPRequestHandler):
    """The repository's description, a folder's entries, facts of paths, and (parts of) files."""

    protocol_version = "HTTP/1.1"
    name = ""
    folder = Path()

    def do_GET(self) -> None:
        """Answer one of the hub's questions, or 404."""
        path = unquote(urlsplit(self.path).path)
        api, files = f"/api/models/{self.name}", f"/{self.name}/resolve/"
        if path.startswith(files):
            self._send_file(path.removeprefix(files).partition("/")[2])
        elif path.startswith(f"{api}/tree/"):
            self._send_tree(path.removeprefix(f"{api}/tree/").partition("/")[2])
        elif path in (api, f"{api}/revision/main"):
            self._send(json.dumps({"id": self.name, "sha": REVISION, "siblings": []}).encode())
        else:
            self._refuse("RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        """The facts of the paths that are asked for."""
        data = self.rfile.read(int(self.headers["Content-Length"])).decode()
        asked = json.loads(data)["paths"] if data.startswith("{") else parse_qs(data)["paths"]
        found = [self.folder / path for path in asked if (self.folder / path).exists()]
        self._send(json.dumps([self._entry(path) for path in found]).encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Nothing."""

    def _entry(self, path: Path) -> dict[str, Any]:
        name = str(path.relative_to(self.folder))
        identity = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()
        if path.is_dir():
            return {"type": "directory", "path": name, "oid": identity, "size": 0}
        return {"type": "file", "path": name, "oid": identity, "size": path.stat().st_size}

    def _send_tree(self, name: str) -> None:
        folder = self.folder / name
        if not folder.is_dir():
            self._refuse("EntryNotFound")
            return
        self._send(json.dumps([self._entry(path) for path in sorted(folder.iterdir())]).encode())

    def _send_file(self, name: str) -> None:
        path = self.folder / name
        if not path.is_file():
            self._refuse("EntryNotFound")
            return
        data = path.read_bytes()
        kind, _, limits = self.headers.get("Range", "").partition("=")
        if kind != "bytes":
            self._send(data)
            return
        first, _, last = limits.partition("-")
        part = data[int(first) : int(last or len(data)) + 1]
        self._send(part, HTTPStatus.PARTIAL_CONTENT, {"Content-Range": f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"})

    def _refuse(self, code: str) -> None:
        self._send(b"", HTTPStatus.NOT_FOUND, {"X-Error-Code": code})

    def _send(self, data: bytes, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "ETag": '"1"', "X-Repo-Commit": REVISION, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextmanager
def running_hub(name: str, folder: Path) -> Iterator[ThreadingHTTPServer]:
    """Serve `folder` as the repository `owner/name`; `server_close` of what is yielded ends it early."""
    handler = type("HubOfOne", (Hub,), {"name": name, "folder": folder})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
