"""A writer behind an address: any server that speaks OpenAI's completions or chat completions.

The key, if one is needed, is read from a variable of the environment and goes nowhere but into the
header of a request to that address: into no file, message or log, and never after a redirection,
which is refused. What a server sends is bounded, checked and treated as text that anybody may have
written.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

from pydantic import with_config
from typing_extensions import TypedDict

from tinylm.alignment.self_instruct.records import clean
from tinylm.alignment.self_instruct.writer import Request, Written, cut
from tinylm.errors import AlignmentError, ConfigError, shown
from tinylm.reading import checked
from tinylm.reading.json_files import parse_json

MOST_BYTES = 1 << 22
"""Of an answer that are read."""
MOST_CHARACTERS = 1 << 16
"""Of a text that are used; what is longer counts as not ended."""
TRIES = 5
FIRST_WAIT = 1.0
"""Seconds before the second try; each further wait is twice as long."""
LONGEST_WAIT = 60.0
_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_KEY = re.compile(r"[!-~]{1,4096}")
_MOST_STOPS = 4  # of the interface


@with_config(extra="ignore")
class _Message(TypedDict, total=False):
    content: str | None


@with_config(extra="ignore")
class _Choice(TypedDict, total=False):
    text: str | None
    message: _Message
    finish_reason: str | None


@with_config(extra="ignore")
class _Answer(TypedDict):
    choices: list[_Choice]


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **more: Any) -> None:
        """Refuse: the key is meant for the address that was given."""


@dataclass(frozen=True)
class Endpoint:
    """Where a writer is."""

    url: str
    """Base address, such as ``https://api.example.org/v1``."""
    model: str
    """Name that the server knows."""
    key_variable: str | None = None
    """Variable of the environment that holds the key; None: none is sent."""
    chat: bool = True
    """Whether it is asked as a chat; else for completions of a text."""
    time_limit: float = 120.0
    """Seconds that one try may take."""

    def __post_init__(self) -> None:
        """Refuse an address that cannot be asked.

        Raises:
            ConfigError: saying what is allowed.
        """
        advice = "give the base address of the interface, such as http://localhost:8000/v1"
        try:
            parts = urllib.parse.urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"--endpoint: {error}: {advice}") from None
        if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
            raise ConfigError(
                f"--endpoint {shown(self.url)}: no address of http or https: {advice}"
            )
        if parts.username or parts.password:
            raise ConfigError(
                "--endpoint: the address holds a name or a password, which would be written down: "
                "give the key in a variable of the environment, by --key-variable"
            )
        if parts.query or parts.fragment or not re.fullmatch(r"[!-~]+", self.url):
            raise ConfigError(f"--endpoint {shown(self.url)}: holds more than an address: {advice}")
        if not self.model.strip():
            raise ConfigError("--model is empty: give the name that the endpoint knows")
        local = parts.hostname in _LOOPBACK
        if self.key_variable is not None and parts.scheme == "http" and not local:
            raise ConfigError(
                f"--endpoint {shown(self.url)}: a key would go over the net unencrypted: give an "
                "address of https, or leave --key-variable out"
            )

    @property
    def address(self) -> str:
        """What is posted to."""
        return f"{self.url.rstrip('/')}/{'chat/completions' if self.chat else 'completions'}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values: the name of the variable, not what it holds."""
        return {"endpoint": self.url, "model": self.model, "chat": self.chat}


def key_of(endpoint: Endpoint, environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the key of an endpoint, or None: it needs none.

    Raises:
        ConfigError: if the variable is not set, or holds what no header can.
    """
    name = endpoint.key_variable
    if name is None:
        return None
    key = environment.get(name, "").strip()
    if not key:
        raise ConfigError(
            f"--key-variable {shown(name)}: the environment has no such variable: set it"
        )
    if not _KEY.fullmatch(key):
        raise ConfigError(f"--key-variable {shown(name)}: what it holds cannot be a key")
    return key


@dataclass
class EndpointWriter:
    """Asks an endpoint, one prompt after the other, again where it is busy."""

    endpoint: Endpoint
    key: str | None = field(default=None, repr=False)
    wait: Callable[[float], None] = time.sleep
    needs_examples = True
    repeatable = False

    def describe(self) -> dict[str, Any]:
        """Return what it is; see ``Writer``."""
        return self.endpoint.as_dict()

    def fits(self, prompt: str, most: int | None) -> bool:
        """Whether it can be asked: what does not fit, the endpoint says; see ``Writer``."""
        return True

    def write(
        self,
        prompts: Sequence[str],
        request: Request,
        progress: Callable[[float], None] = lambda share: None,
    ) -> list[Written]:
        """Return the endpoint's answers; see ``Writer``."""
        written = []
        for number, prompt in enumerate(prompts, 1):
            written.append(self._answer(prompt, request))
            progress(number / len(prompts))
        return written

    def _answer(self, prompt: str, request: Request) -> Written:
        values: dict[str, Any] = {
            "model": self.endpoint.model,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.most is not None:
            values["max_tokens"] = request.most
        if request.stop:
            values["stop"] = list(request.stop[:_MOST_STOPS])
        if self.endpoint.chat:
            values["messages"] = [{"role": "user", "content": prompt}]
        else:
            values["prompt"] = prompt
        return self._read(self._post(json.dumps(values).encode("ascii")), request)

    def _post(self, body: bytes) -> bytes:
        """Return what the endpoint answers.

        Raises:
            AlignmentError: if it refuses, cannot be reached, or answers too much.
        """
        problem = ""
        for attempt in range(TRIES):
            if attempt:
                self.wait(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)))
            try:
                return self._once(body)
            except urllib.error.HTTPError as error:
                with error:
                    said = self._said(error)
                problem = f"answered {error.code}{said}"
                if error.code not in _AGAIN:
                    raise self._error(problem) from None
            except (OSError, http.client.HTTPException) as error:  # URLError and time limits too
                reason = getattr(error, "reason", error)
                problem = f"cannot be reached ({reason or type(error).__name__})"
        raise self._error(f"{problem}, {TRIES} times")

    def _once(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.endpoint.address, body, headers)
        if self.key is not None:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        opener = urllib.request.build_opener(_NoRedirection)
        with opener.open(request, timeout=self.endpoint.time_limit) as answer:
            return self._bounded(answer)

    def _bounded(self, answer: IO[bytes]) -> bytes:
        """Return all that is sent, if that is not too much and does not take too long."""
        content = bytearray()
        latest = time.monotonic() + self.endpoint.time_limit
        while part := answer.read1(1 << 16):  # type: ignore[attr-defined]
            content += part
            if len(content) > MOST_BYTES:
                raise self._error(f"sends more than {MOST_BYTES:,} bytes")
            if time.monotonic() > latest:
                raise TimeoutError("timed out")
        return bytes(content)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """Return the beginning of what an error says, without the key, should it repeat it."""
        try:
            text = error.read(2000).decode("utf-8", "replace")
        except (OSError, http.client.HTTPException):
            return ""
        text = " ".join(clean(text).split())
        if self.key is not None:
            text = text.replace(self.key, "…")
        return f" ({text[:200]})" if text else ""

    def _read(self, content: bytes, request: Request) -> Written:
        """Return the text of an answer.

        Raises:
            AlignmentError: if it is no answer of the interface.
        """
        answer = checked(_Answer, parse_json(content, self._error), self._error)
        if not answer["choices"]:
            raise self._error("sends no choice")
        choice = answer["choices"][0]
        text = (
            choice.get("message", {}).get("content") if self.endpoint.chat else choice.get("text")
        )
        if text is None:
            wanted = "message with content" if self.endpoint.chat else "text"
            other = "leave out" if not self.endpoint.chat else "give"
            raise self._error(f"sends a choice without a {wanted}: perhaps {other} --completions")
        finished = choice.get("finish_reason") in (None, "stop")
        text = clean(text)
        if len(text) > MOST_CHARACTERS:
            text, finished = text[:MOST_CHARACTERS], False
        text, stopped = cut(text, request.stop)
        return Written(text, finished or stopped)

    def _error(self, problem: str) -> AlignmentError:
        return AlignmentError(
            f"{self.endpoint.address}: {problem}: look at --endpoint, --model and --key-variable; "
            "what was written so far is kept, and the same command goes on"
        )
