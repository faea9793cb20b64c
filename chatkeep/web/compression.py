"""Compressing what is streamed, as far as the client takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from werkzeug.datastructures import Accept

from chatkeep.exports.compression import compressor
from chatkeep.runtime.concurrency import FILES


def coding_of(accepted: Accept) -> str | None:
    """Return the content coding that a client likes best, None for the bytes as they are."""
    best = max(("zstd", "gzip"), key=accepted.quality)
    wanted = accepted.quality(best)
    return best if wanted and wanted >= accepted.quality("identity") else None


def compressed(chunks: Iterable[bytes], coding: str | None) -> Iterator[bytes]:
    """Yield the chunks in a content coding, compressed beside the event loop."""
    if coding is None:
        yield from filter(None, chunks)
        return
    compressing = compressor(coding)
    for chunk in chunks:
        if ready := FILES.run(compressing.compress, chunk):
            yield ready
    yield compressing.flush()
