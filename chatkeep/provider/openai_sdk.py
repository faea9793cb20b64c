"""A provider that uses an embedding program's client of the ``openai`` package (extra ``[openai]``).

The client's credentials, base URL, proxies, timeouts and HTTP client are used as they are. Its retries and parsing are
not: `ReplyReader` decodes the raw reply, at a tenth of the cost.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from chatkeep.domain.conversation import Prompt
from chatkeep.errors import ProviderBroke, ProviderError, ProviderRefused, ProviderTimeout
from chatkeep.httpclient.connections import AbortHandle
from chatkeep.i18n import _, verbatim
from chatkeep.provider import Receive, failures
from chatkeep.provider.completions import ReplyReader, request_body
from chatkeep.provider.dialects import AdaptingCall, Dialect, Dialects

if TYPE_CHECKING:
    from openai import OpenAI

BODY_LIMIT = 64 * 1024
DRAIN_SECONDS = 0.25
_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}


class OpenAISdk:
    """A provider that calls ``client``: an `openai.OpenAI`, `openai.AzureOpenAI` or a subclass."""

    name = "openai-sdk"

    def __init__(self, client: OpenAI, model: str, *, dialects: Dialects | None = None) -> None:
        """Set the client, which the caller closes, and the model for requests that name none."""
        self.default_model = model
        self._client = client
        self._dialects = dialects or Dialects()

    def stream_reply(self, prompt: Prompt) -> AdaptingCall:
        """Return a call."""
        return self._dialects.call(prompt, self._call)

    def close(self) -> None:
        """Do nothing: the client belongs to the caller."""

    def _call(self, prompt: Prompt, dialect: Dialect) -> SdkCall:
        return SdkCall(self._client, request_body(prompt, dialect), thinking=dialect.thinking)


class SdkCall:
    """One call through the SDK."""

    def __init__(self, client: OpenAI, body: dict[str, Any], *, thinking: bool) -> None:
        self._client = client.with_options(max_retries=0)
        # The SDK has no option for httpx extensions. This copy of the client belongs to the call.
        self._client._prepare_request = self._prepare  # type: ignore[method-assign] # noqa: SLF001
        self._body = body
        self._thinking = thinking
        self._abort_handle = AbortHandle()
        self._is_aborted = False

    def deliver(self, receive: Receive) -> None:
        """Hand the reply to ``receive`` as it arrives."""
        try:
            self._exchange(receive)
        except ProviderError:
            if not self._is_aborted:
                raise

    def abort(self) -> None:
        """Shut the connection down, from any thread at any time."""
        self._is_aborted = True
        self._abort_handle.abort()

    def _exchange(self, receive: Receive) -> None:
        with self._open() as response:
            chunks = self._chunks(response)
            encoding = response.headers.get("content-encoding", "")
            reader = ReplyReader(encoding, receive, self._secrets, thinking=self._thinking)
            with contextlib.ExitStack() as limits:
                self._read(reader, chunks, limits)
            self._drain(chunks)

    def _read(self, reader: ReplyReader, chunks: Iterator[bytes], limits: contextlib.ExitStack) -> None:
        """Read the reply to its end. After the finish reason, wait only `ReplyReader.ending_seconds` for more."""
        pieces = -1
        while not (reader.is_over or self._is_aborted):
            if reader.is_ending and reader.pieces > pieces:
                pieces = reader.pieces
                limits.close()
                limits.enter_context(self._cut_after(reader.ending_seconds))
            try:
                chunk = next(chunks, None)
            except ProviderError:
                if not reader.break_off():
                    raise
                return
            if chunk is None:
                reader.close()
            else:
                reader.feed(chunk)

    @contextlib.contextmanager
    def _open(self) -> Generator[Any]:
        create: Any = self._client.chat.completions.with_streaming_response.create
        try:
            self._abort_handle.raise_if_aborted()
            response = create(**self._body, extra_headers=_HEADERS).__enter__().http_response
        except Exception as error:
            raise self._failure(error) from error
        with contextlib.closing(response):
            yield response

    def _chunks(self, response: Any) -> Iterator[bytes]:
        try:  # Exception, because the errors depend on the client's HTTP library
            yield from response.iter_raw()
        except Exception as error:
            raise self._failure(error) from error

    def _drain(self, chunks: Iterator[bytes]) -> None:
        """Read the rest of the body for a short time, so that the client can reuse the connection."""
        with self._cut_after(DRAIN_SECONDS), contextlib.suppress(ProviderError):
            left = BODY_LIMIT
            while left > 0 and (chunk := next(chunks, b"")):
                left -= len(chunk)

    @contextlib.contextmanager
    def _cut_after(self, seconds: float) -> Generator[None]:
        """Abort the call if the block takes longer."""
        limit = threading.Timer(seconds, self._abort_handle.abort)
        limit.start()
        try:
            yield
        finally:
            limit.cancel()

    def _prepare(self, request: Any) -> None:
        request.extensions = {**request.extensions, "trace": self._trace}

    def _trace(self, event: str, info: dict[str, Any]) -> None:
        """Track the call's socket by the events that httpcore documents. An exception ends the call."""
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self._hold(info.get("return_value"))
        elif event == "http11.send_request_headers.started":
            self._hold(self._find_stream())
        elif event == "http11.response_closed.started" or event.startswith("http2."):
            self._abort_handle.detach()  # the connection may also belong to other calls

    def _hold(self, stream: Any) -> None:
        try:
            self._abort_handle.raise_if_aborted()
            if sock := stream and stream.get_extra_info("socket"):
                self._abort_handle.attach(sock)
        except ConnectionAbortedError:
            if stream:
                stream.close()  # a new stream has no owner yet that would close it
            raise

    def _find_stream(self) -> Any:
        """Return the stream that httpcore's pool chose: no event names a reused connection."""
        client: Any = self._client._client  # noqa: SLF001
        for transport in (client._transport, *client._mounts.values()):  # noqa: SLF001
            for entry in getattr(getattr(transport, "_pool", None), "_requests", ()):
                if entry.request.extensions.get("trace") == self._trace:
                    return _stream_of(entry.connection)
        return None

    def _failure(self, error: Exception) -> ProviderError:
        import openai  # noqa: PLC0415 - it takes most of a second, and is not installed everywhere

        if isinstance(error, openai.APIStatusError):
            answer = error.response
            return failures.from_response(error.status_code, answer.headers.get, answer.content, self._secrets)
        root = _root(error)
        if isinstance(error, openai.APITimeoutError) or isinstance(root, TimeoutError):
            return ProviderTimeout(_("The provider kept silent longer than the client's timeout allows."))
        if isinstance(error, openai.OpenAIError) and not isinstance(error, openai.APIConnectionError):
            return ProviderRefused(verbatim(failures.scrub(str(error), self._secrets)))
        return failures.from_connection(root)

    @property
    def _secrets(self) -> tuple[str, ...]:
        return (str(self._client.api_key),)


def _stream_of(connection: Any) -> Any:
    while connection is not None and not hasattr(connection, "_network_stream"):
        connection = getattr(connection, "_connection", None)
    return getattr(connection, "_network_stream", None)


def _root(error: BaseException) -> Exception:
    """Return the root cause of ``error``."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return error if isinstance(error, Exception) else ProviderBroke()
