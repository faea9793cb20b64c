"""Static files of the pages: compressed once, cached by browsers.

Their URLs contain a version, a hash over all files. So browsers cache them without revalidation, and never mix files of
two versions: modules import each other by relative URLs, which have the same version.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from flask import Response, abort, request
from werkzeug.security import safe_join

FOLDER = Path(__file__).parent / "static"
# Not `mimetypes`: on Windows any program may have changed its table.
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
# Pages import these; if one is missing, they work without its features.
_OPTIONAL = ("vendor/marked.js", "vendor/purify.js")
_FOR_A_YEAR = "public, max-age=31536000, immutable"
# The last line of an import of another module.
_IMPORT = re.compile(r"""^(?:import|export|\}) [^;'"\n]*+['"]\./([\w/-]+\.js)['"]""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class File:
    """A file's content, plain and compressed."""

    content: bytes
    gzipped: bytes
    digest: str
    mimetype: str


def answer(name: str, version: str | None) -> Response:
    """Return a file, 304 if the client's copy is current, or 404."""
    file = _find(name)
    if file is None:
        abort(404)
    response = _compressed(file)
    response.headers["Cache-Control"] = _FOR_A_YEAR if version == current_version() else "no-cache"
    response.make_conditional(request)
    return response


def page(text: str) -> Response:
    """Return an HTML page, which browsers revalidate at each use."""
    return fresh(made(text.encode(), "text/html", level=6))


def fresh(file: File) -> Response:
    """Return a file that browsers revalidate at each use, or 304."""
    response = _compressed(file)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def missing() -> list[str]:
    """Return the optional third-party files that were not built."""
    return [name for name in _OPTIONAL if not (FOLDER / name).is_file()]


def current_version() -> str:
    """Return the version of all files, computed at most once a second.

    On a slow disk that may take longer than a second, and a page needs it thirty times.
    """
    if time.monotonic() > _Version.until:
        _Version.name = _version()
        _Version.until = time.monotonic() + 1.0
    return _Version.name


def imports(name: str) -> list[str]:
    """Return all modules that a module imports, also indirectly, so that a page can preload them."""
    found = [name]
    for module in found:
        found += [needed for needed in _imports(module) if needed not in found]
    return found[1:]


class _Version:
    """The cached version and its expiry."""

    name = ""
    until = 0.0


def _version() -> str:
    names = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
    digests = "".join(f"{name} {file.digest} " for name in names if (file := _find(name)))
    return hashlib.sha256(digests.encode()).hexdigest()[:12]


def _find(name: str) -> File | None:
    path = safe_join(str(FOLDER), name)
    try:
        return _read(Path(path), Path(path).stat().st_mtime_ns) if path else None
    except (OSError, ValueError):  # missing, a folder, or an invalid name
        return made(b"export {};\n", _TYPES[".js"]) if name in _OPTIONAL else None


@cache
def _read(path: Path, _changed: int) -> File:
    return made(path.read_bytes(), _TYPES.get(path.suffix, "text/plain"))


def made(content: bytes, mimetype: str, level: int = 9) -> File:
    """Return a file with this content, and compress it."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    return File(content, gzip.compress(content, level, mtime=0), digest, mimetype)


def _compressed(file: File) -> Response:
    """Return a file, compressed if the client accepts gzip and that is smaller."""
    zipped = len(file.gzipped) < len(file.content) and request.accept_encodings.quality("gzip") > 0
    response = Response(file.gzipped if zipped else file.content, mimetype=file.mimetype)
    response.vary.add("Accept-Encoding")
    response.set_etag(f"{file.digest}-gzip" if zipped else file.digest)
    if zipped:
        response.content_encoding = "gzip"
    return response


def _imports(name: str) -> list[str]:
    file = _find(name)
    return list(dict.fromkeys(_IMPORT.findall(file.content.decode()))) if file else []
