"""Compress streamed downloads if the client accepts it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from werkzeug.datastructures import Accept

from chatkeep.exports.compression import compressor
from chatkeep.runtime.concurrency import FILES


def coding_of(accepted: Accept) -> str | None:
    """Return the content coding that the client prefers, or None for identity."""
    best = max(("zstd", "gzip"), key=accepted.quality)
    wanted = accepted.quality(best)
    return best if wanted and wanted >= accepted.quality("identity") else None


def compressed(chunks: Iterable[bytes], coding: str | None) -> Iterator[bytes]:
    """Yield the chunks in a content coding; compression runs outside the event loop."""
    if coding is None:
        yield from filter(None, chunks)
        return
    stream_compressor = compressor(coding)
    for chunk in chunks:
        if ready := FILES.run(stream_compressor.compress, chunk):
            yield ready
    yield stream_compressor.flush()
