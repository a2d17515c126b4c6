"""An endpoint beside a stand-in on this machine: what is sent, and all that can come back."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator

import pytest

from tests.alignment.self_instruct.server import Reply, Server, chat, running
from tinylm.alignment.self_instruct.endpoint import (
    MOST_BYTES,
    MOST_CHARACTERS,
    TRIES,
    Endpoint,
    EndpointWriter,
    key_of,
)
from tinylm.alignment.self_instruct.writer import Request, Written
from tinylm.errors import AlignmentError, ConfigError

KEY = "sk-secret-0123456789"
REQUEST = Request(20, 0.7, 0.9, 5, ("STOP", "#b", "#c", "#d", "#e"))


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as made:
        yield made


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def writer(
    url: str, chat: bool = True, wait: Callable[[float], None] = lambda seconds: None
) -> EndpointWriter:
    return EndpointWriter(Endpoint(url, "small", "KEY", chat, time_limit=5.0), KEY, wait)


def test_a_chat_is_asked_and_its_answer_cut_at_a_stop(server: Server) -> None:
    server.replies = [(200, chat("One. STOP two", "length"), {}), (200, chat("Two", "length"), {})]
    shares: list[float] = []
    written = writer(f"{server.url}/").write(["first", "second"], REQUEST, shares.append)
    assert written == [Written("One. ", True), Written("Two", False)]
    assert shares == [0.5, 1.0]
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "small",
        "temperature": 0.7,
        "top_p": 0.9,
        "seed": 5,
        "max_tokens": 20,
        "stop": ["STOP", "#b", "#c", "#d"],
        "messages": [{"role": "user", "content": "first"}],
    }


def test_completions_are_asked(server: Server) -> None:
    answer = {"choices": [{"text": " A\x00 b\r\n", "index": 0, "finish_reason": "stop"}]}
    server.replies = [(200, json.dumps(answer).encode(), {})]
    assert writer(server.url, chat=False).write(["go"], REQUEST) == [Written(" A b\n", True)]
    assert server.requests[0][0] == "/v1/completions"
    assert server.requests[0][2]["prompt"] == "go"


def test_a_busy_server_is_asked_again_with_longer_waits(server: Server) -> None:
    waits: list[float] = []
    server.replies = [(429, b"", {}), (503, b"busy", {}), (200, chat("ok"), {})]
    assert writer(server.url, wait=waits.append).write(["go"], REQUEST)[0].text == "ok"
    assert waits == [1.0, 2.0]


@pytest.mark.parametrize(
    ("reply", "what"),
    [
        ((200, b"", {}), "not JSON"),
        ((200, b"<html>busy</html>", {}), "not JSON"),
        ((200, b"[]", {}), "sends"),
        ((200, b"{}", {}), "choices is missing"),
        ((200, b'{"choices": []}', {}), "no choice"),
        ((200, b'{"choices": [3]}', {}), "choices"),
        ((200, chat(None), {}), "--completions"),
        ((200, chat(["a"]), {}), "content"),
        ((200, chat({"text": "a"}), {}), "content"),
        ((200, chat("\ud800"), {}), None),
        ((200, b'{"choices": [{"text": "a"}]}', {}), "without a message"),
        ((200, b"\xff\xfe", {}), "UTF-8"),
        ((200, b" " * (MOST_BYTES + 1), {}), "more than 4,194,304 bytes"),
        ((200, b"[" * 100000, {}), "deep"),
        ((401, b'{"error": "key ' + KEY.encode() + b' is wrong"}', {}), "answered 401"),
        ((404, b"no model", {}), "no model"),
        ((302, b"", {"Location": "/v1/elsewhere"}), "answered 302"),
        ((500, b"broken\x1b[2J", {}), f"{TRIES} times"),
    ],
)
def test_what_is_no_answer_is_one_line_without_the_key(
    reply: Reply, what: str | None, server: Server
) -> None:
    server.replies = [reply]
    if what is None:
        assert writer(server.url).write(["go"], REQUEST)[0].text == ""
        return
    with pytest.raises(AlignmentError) as problem:
        writer(server.url).write(["go"], REQUEST)
    message = str(problem.value)
    assert KEY not in message
    assert message.isprintable()
    assert len(message) < 600
    if what != "sends":
        assert what in message
    assert all(path == "/v1/chat/completions" for path, _, _ in server.requests)
    assert len(server.requests) == (TRIES if reply[0] == 500 else 1)


def test_a_very_long_text_is_cut_and_counts_as_not_ended(server: Server) -> None:
    server.replies = [(200, chat("a" * (MOST_CHARACTERS + 1)), {})]
    request = Request(None, 1.0, 1.0, 0)
    written = writer(server.url).write(["go"], request)[0]
    assert written == Written("a" * MOST_CHARACTERS, False)
    assert "max_tokens" not in server.requests[0][2]
    assert "stop" not in server.requests[0][2]


def test_a_refused_connection_is_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    waits: list[float] = []
    with pytest.raises(AlignmentError, match=r"cannot be reached \(.*refused.*\), 5 times"):
        writer(f"http://127.0.0.1:{port}/v1", wait=waits.append).write(["go"], REQUEST)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_a_server_that_is_silent_is_not_waited_for(server: Server) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        asking = EndpointWriter(Endpoint(url, "m", time_limit=0.02), None, lambda seconds: None)
        with pytest.raises(AlignmentError, match="timed out"):
            asking.write(["go"], REQUEST)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("localhost:8000", "no address of http"),
        ("ftp://host/v1", "no address of http"),
        ("http://", "no address of http"),
        ("http://host:port/v1", "port"),
        ("https://me:secret@host/v1", "holds a name or a password"),
        ("https://host/v1?key=secret", "more than an address"),
        ("https://host/v 1", "more than an address"),
        ("http://example.org/v1", "unencrypted"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as problem:
        Endpoint(url, "small", "KEY")
    assert "me:secret" not in str(problem.value)


def test_the_key_is_in_the_environment_and_nowhere_else() -> None:
    endpoint = Endpoint("https://example.org/v1", "small", "KEY")
    asking = EndpointWriter(endpoint, key_of(endpoint, {"KEY": f" {KEY}\n"}))
    assert asking.key == KEY
    assert KEY not in repr(asking) + json.dumps(asking.describe())
    assert key_of(Endpoint("http://example.org/v1", "small"), {"KEY": KEY}) is None
    for environment in ({}, {"KEY": "  "}, {"KEY": "a\r\nHost: b"}, {"KEY": "ключ"}):
        with pytest.raises(ConfigError, match="--key-variable"):
            key_of(endpoint, environment)
