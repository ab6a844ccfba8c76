"""Answers taken on an address: whole or not at all, from those with the link only."""

from __future__ import annotations

import http.client
import json
import threading
from contextlib import contextmanager

import pytest
from answered import answers_to
from test_browser_packs import packs_of

from napari_atomicity.core.errors import AtomicityError
from napari_atomicity.project.packs import answer_server
from napari_atomicity.project.packs.answer_server import AnswerServer
from napari_atomicity.project.packs.returned import read_packs

JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(packs, folder, **kwargs):
    with AnswerServer(packs, folder, **kwargs) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def packs(tmp_path):
    return packs_of(tmp_path)


@pytest.fixture
def server(packs, tmp_path):
    (tmp_path / "out").mkdir()
    with serving(packs, tmp_path / "out") as server:
        yield server


def ask(server, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    try:
        connection.request(method, path, body, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read().decode(), reply.headers
    finally:
        connection.close()


def send(server, answers, **headers):
    body = answers if isinstance(answers, bytes) else json.dumps(answers).encode()
    return ask(server, "POST", f"/{server.token}/answers", body, {**JSON, **headers})


def test_the_page_is_there_for_those_with_the_link(server):
    status, page, headers = ask(server, "GET", f"/{server.token}/")
    assert status == 200 and "connect-src 'self'" in page and '"send": true' in page
    assert headers["Referrer-Policy"] == "no-referrer" and "Set-Cookie" not in headers
    assert server.link.startswith("http://127.0.0.1:") and server.token in server.link


@pytest.mark.parametrize("path", ["/", "/x/", "//", "/x/answers", "/../etc/passwd", "/%2e%2e/"])
def test_nothing_without_the_link(server, path):
    assert ask(server, "GET", path)[0] == 404
    assert ask(server, "POST", path, b"{}", JSON)[0] == 404
    assert ask(server, "GET", f"/{server.token}/9")[0] == 404


def test_answers_are_written_and_merged(server, packs, tmp_path):
    for who, session in (("Ada", "a" * 32), ("Bo", "b" * 32)):
        status, text, _ = send(server, answers_to(packs[0], who, {0: [(1, 2)]}, session=session))
        assert (status, text) == (200, "Your answers have arrived.")
    again = answers_to(packs[0], "Ada", {0: [(1, 2)], 1: []}, session="a" * 32, saved="2027")
    assert send(server, again)[0] == 200
    files = sorted(path.name[:32] for path in (tmp_path / "out").glob("*.json"))
    assert files == ["a" * 32, "b" * 32]
    assert len(read_packs([tmp_path / "out"]).looked) == 3


def test_what_is_no_answer_leaves_no_file(server, packs, tmp_path):
    good = answers_to(packs[0], "Ada", {0: [(1, 2)]})
    bad = answers_to(packs[0], "Ada", {0: [(1, 900)]})
    status, text, _ = send(server, bad)
    assert status == 422 and "x_px is 900, outside a.tif" in text
    assert send(server, json.dumps(good).encode()[:-40])[0] == 422
    assert send(server, {**good, "session": "../" * 10 + "xx"})[0] == 422
    other = packs_of(tmp_path, 1)[0]
    status, text, _ = send(server, answers_to(other, "Ada", {0: []}))
    assert status == 422 and "another pack" in text
    assert ask(server, "POST", f"/{server.token}/answers", b"x=1")[0] == 415
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"link-token.txt"}


def test_size_and_rate_are_limited(server, packs, tmp_path, monkeypatch):
    monkeypatch.setattr(answer_server, "MAX_BYTES", 5000)
    assert send(server, b" " * 5001)[0] == 413
    assert ask(server, "POST", f"/{server.token}/answers", None, JSON)[0] in (415, 422)
    monkeypatch.setattr(answer_server, "MAX_PER_MINUTE", 3)
    statuses = [send(server, b"{}")[0] for _ in range(5)]
    assert statuses[-1] == 429 and 422 in statuses
    monkeypatch.setattr(answer_server, "MAX_PER_MINUTE", 100)
    monkeypatch.setattr(answer_server, "MAX_BYTES", 10**6)
    monkeypatch.setattr(answer_server, "MAX_FILES", 0)
    status, text, _ = send(server, answers_to(packs[0], "Ada", {0: []}))
    assert status == 422 and "too many answers" in text


def test_a_connection_that_breaks_off_leaves_nothing(server, packs, tmp_path):
    body = json.dumps(answers_to(packs[0], "Ada", {0: []})).encode()
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.putrequest("POST", f"/{server.token}/answers")
    for name, value in (*JSON.items(), ("Content-Length", str(len(body)))):
        connection.putheader(name, value)
    connection.endheaders(body[:50])
    connection.close()
    assert send(server, body)[0] == 200
    assert len(list((tmp_path / "out").glob("*.json"))) == 1


def test_the_link_stays_and_a_port_in_use_is_an_error(server, packs, tmp_path):
    with serving(packs, tmp_path / "out") as second:
        assert second.token == server.token
    with pytest.raises(AtomicityError, match="can't be used"):
        AnswerServer(packs, tmp_path / "out", port=server.server_address[1])


def test_several_parts_are_listed(packs, tmp_path):
    (tmp_path / "out").mkdir()
    with serving([*packs, *packs], tmp_path / "out") as server:
        assert '<a href="2">' in ask(server, "GET", f"/{server.token}/")[1]
        assert 'id="pack"' in ask(server, "GET", f"/{server.token}/2")[1]
