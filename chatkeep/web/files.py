"""The files that pages load: compressed once, and cheap to load again.

A page names them under a version that is made from all of them, so a browser may keep what it has without asking, and
an upgrade is never mixed with what was kept: the modules import each other by relative names, under the same version.
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
# Not the machine's own table: on Windows any program may have changed it.
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".woff2": "font/woff2"}
# A page imports these, and does without what they lack.
_OPTIONAL = ("vendor/marked.js", "vendor/purify.js")
_FOR_A_YEAR = "public, max-age=31536000, immutable"
# The line with which an import of another module ends.
_IMPORT = re.compile(r"""^(?:import|export|\}) [^;'"\n]*+['"]\./([\w/-]+\.js)['"]""", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class File:
    """A file as it is sent: as it is, or compressed."""

    content: bytes
    gzipped: bytes
    digest: str
    mimetype: str


def answer(name: str, version: str | None) -> Response:
    """Return a file as far as the client does not have it yet; 404 where there is none."""
    file = _find(name)
    if file is None:
        abort(404)
    response = _compressed(file)
    response.headers["Cache-Control"] = _FOR_A_YEAR if version == current_version() else "no-cache"
    response.make_conditional(request)
    return response


def page(text: str) -> Response:
    """Return an HTML page, which is asked for each time."""
    return fresh(made(text.encode(), "text/html", level=6))


def fresh(file: File) -> Response:
    """Return a file that is asked for each time, as far as the client does not have it yet."""
    response = _compressed(file)
    response.headers["Cache-Control"] = "no-cache"
    response.make_conditional(request)
    return response


def missing() -> list[str]:
    """Return the files of others that the pages do without, where they were not built."""
    return [name for name in _OPTIONAL if not (FOLDER / name).is_file()]


def current_version() -> str:
    """Return the name of all files as they are; it holds for a second after they were looked at.

    Where that takes more than a second, as on a slow disk, a page that names thirty files must not look thirty times.
    """
    if time.monotonic() > _Version.until:
        _Version.name = _version()
        _Version.until = time.monotonic() + 1.0
    return _Version.name


def imports(name: str) -> list[str]:
    """Return the names of all modules that a module needs at its start, so that they can be loaded at once."""
    found = [name]
    for module in found:
        found += [needed for needed in _imports(module) if needed not in found]
    return found[1:]


class _Version:
    """The name that was found last, and until when it holds."""

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
    except (OSError, ValueError):  # it is missing, a folder, or no name at all
        return made(b"export {};\n", _TYPES[".js"]) if name in _OPTIONAL else None


@cache
def _read(path: Path, _changed: int) -> File:
    return made(path.read_bytes(), _TYPES.get(path.suffix, "text/plain"))


def made(content: bytes, mimetype: str, level: int = 9) -> File:
    """Return a file of this content, compressed."""
    digest = hashlib.sha256(content).hexdigest()[:16]
    return File(content, gzip.compress(content, level, mtime=0), digest, mimetype)


def _compressed(file: File) -> Response:
    """Return a file as small as the client takes it."""
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
