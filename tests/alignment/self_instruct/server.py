"""A stand-in for an endpoint, on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

Reply = tuple[int, bytes, dict[str, str]]


def chat(content: Any, finish: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    return json.dumps({"id": "x", "choices": [choice | {"finish_reason": finish}], **more}).encode()


class Server:
    """Answers with what it is told, one reply after the other, the last for all that follow."""

    def __init__(self) -> None:
        self.replies: list[Reply] = [(200, chat(" Tell a story."), {})]
        self.answers: Callable[[dict[str, Any]], str] | None = None
        """Of a chat, by what is asked, in place of the replies."""
        self.requests: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                if outer.answers is not None:
                    status, content, headers = 200, chat(outer.answers(outer.requests[-1][2])), {}
                else:
                    status, content, headers = outer.replies[0]
                    del outer.replies[: len(outer.replies) > 1]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *args: Any) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"


@contextmanager
def running() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.http.shutdown()
        thread.join()
        made.http.server_close()
