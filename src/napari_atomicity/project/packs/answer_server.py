"""Packs for a browser on an address of this machine, which takes the answers directly.

Everything is below a random token in the path: who does not have the link gets nothing. There is no
account and no cookie. Answers are checked as files of answers are, limited in size and number, and
written whole or not at all, under a name that is no text of the answer.
"""

from __future__ import annotations

import hmac
import re
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from ...core.errors import AtomicityError, reason_of
from ...io.files import atomic_write, write_text
from .browser_answers import parse_answers
from .browser_packs import BrowserPack
from .filled_packs import Filled

MAX_BYTES = 10_000_000
"""Size of an answer: fifty thousand marks have less."""
MAX_PER_MINUTE, MAX_FILES = 60, 2000
_MAX_CONNECTIONS, _TIMEOUT_S = 32, 30
_TOKEN = "link-token.txt"
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class AnswerServer(ThreadingHTTPServer):
    """Serves packs, and writes answers into a folder.

    Raises `AtomicityError` if the address is in use or not one of this machine.
    """

    daemon_threads = True

    def __init__(
        self,
        packs: Sequence[BrowserPack],
        folder: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        on_answer: Callable[[Filled], None] = lambda _: None,
    ) -> None:
        self.pages = [pack.to_html(send=True).encode() for pack in packs]
        self.known = {pack.manifest.sha256 for pack in packs}
        self.folder, self.on_answer = folder, on_answer
        self.token = _token_of(folder)
        self._recent: deque[float] = deque()
        self._lock = threading.Lock()
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise AtomicityError(
                f"{host}:{port} can't be used ({reason_of(error)})",
                advice="Choose another port (--port)",
            ) from error

    @property
    def link(self) -> str:
        """The address to give to people."""
        host, port = self.server_address[:2]
        name = host if isinstance(host, str) else host.decode()
        return f"http://{name}:{port}/{self.token}/"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread; close the connection if too many are open."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer one connection, and make room for another."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over connections that break off."""

    def is_too_often(self) -> bool:
        """Count an answer; return whether there were too many in the last minute."""
        now = time.monotonic()
        with self._lock:
            while self._recent and now - self._recent[0] > 60:
                self._recent.popleft()
            if len(self._recent) >= MAX_PER_MINUTE:
                return True
            self._recent.append(now)
            return False

    def take(self, data: bytes) -> tuple[int, str]:
        """Check an answer and write it; return the status and a text for the person."""
        try:
            filled = parse_answers(data, Path("answers"), self.known)
            if not re.fullmatch(r"[0-9a-f]{32}", filled.session):
                return 422, "the session is not one of this page"
            with self._lock:
                self._write(data, filled)
        except AtomicityError as error:
            return 422, str(error)
        self.on_answer(filled)
        return 200, "Your answers have arrived."

    def _write(self, data: bytes, filled: Filled) -> None:
        # The answers of a session to each part of the images; later ones replace earlier ones.
        part = min(filled.hashes.values(), default="")[:8]
        path = self.folder / f"{filled.session}-{part}.json"
        if not path.exists() and sum(1 for _ in self.folder.glob("*.json")) >= MAX_FILES:
            raise AtomicityError("there are too many answers already")
        with atomic_write(path) as temporary:
            temporary.write_bytes(data)


def _token_of(folder: Path) -> str:
    """Return the token of a folder of answers: a link stays valid when the server is restarted."""
    path = folder / _TOKEN
    known = path.read_text("utf-8").strip() if path.is_file() else ""
    if re.fullmatch(r"[\w-]{32,64}", known):
        return known
    token = secrets.token_urlsafe(32)
    write_text(path, f"{token}\n")
    path.chmod(0o600)
    return token


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: AnswerServer
    server_version, sys_version = "atomicity", ""
    timeout = _TIMEOUT_S

    def do_GET(self) -> None:
        """Send a page, or the list of them."""
        name, pages = self._name(), self.server.pages
        if name == "" and len(pages) > 1:
            self._send(200, _list_of(len(pages)), "text/html")
        elif name == "":
            self._send(200, pages[0], "text/html")
        elif name is not None and name.isdecimal() and 1 <= int(name[:6]) <= len(pages):
            self._send(200, pages[int(name) - 1], "text/html")
        else:
            self._send(404, b"There is nothing here.")

    def do_POST(self) -> None:
        """Take an answer."""
        length = self.headers.get("Content-Length", "")
        if self._name() != "answers":
            self._send(404, b"There is nothing here.")
        elif self.headers.get_content_type() != "application/json" or not length.isdecimal():
            self._send(415, b"Answers are JSON of a known length.")
        elif len(length) > 9 or int(length) > MAX_BYTES:
            self._send(413, b"The answers are too large: save them, and send the file.")
        elif self.server.is_too_often():
            self._send(429, b"Too many answers at once: try again in a minute.")
        else:
            data = self.rfile.read(int(length))
            status, text = (
                self.server.take(data)
                if len(data) == int(length)
                else (400, "the answers are not complete")
            )
            self._send(status, text.encode("utf-8", "replace"))

    def _name(self) -> str | None:
        """Return what is asked for behind the token; None without the token."""
        parts = self.path.split("?")[0].split("/")
        if len(parts) != 3 or parts[0]:
            return None
        is_right = hmac.compare_digest(parts[1].encode(), self.server.token.encode())
        return parts[2] if is_right else None

    def _send(self, status: int, body: bytes, kind: str = "text/plain") -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: addresses would contain the token."""


def _list_of(n: int) -> bytes:
    """Return a page with links to the parts of a pack."""
    links = "".join(f'<li><a href="{i}">Part {i}</a></li>' for i in range(1, n + 1))
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Parts</title>'
    return f"{head}<h1>Parts</h1><ol>{links}</ol></html>".encode()
