"""`chatkeep import`: compressed files and archives, its report, and resuming after a kill."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from io import BufferedReader, BytesIO
from pathlib import Path

import pytest

from chatkeep.auth.access import owner_of
from chatkeep.imports import UnknownFile
from chatkeep.imports.files import documents
from chatkeep.imports.records import UNKNOWN
from tests.client import SLOW
from tests.imports.stores import Store, a_conversation, records
from tests.imports.test_sources import TREE, chatgpt, node
from tests.servers import OURS, ROOT

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def environment(store: Store, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return kept | {
        "DATABASE_URL": store.url,
        "CHATKEEP_DATA_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
        "CHATKEEP_ENV": "test",
    }


def run(store: Store, folder: Path, *arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "chatkeep", "import", *arguments]
    return subprocess.run(
        command,
        input=given,
        env=environment(store, folder),
        cwd=folder,
        capture_output=True,
        timeout=60 * SLOW,
        check=False,
    )


def exported(store: Store, turns: int = 2) -> bytes:
    store.put(a_conversation(turns))
    file = store.give()
    store.empty()
    return file


def test_a_file_is_imported_twice_and_counted(store: Store, tmp_path: Path) -> None:
    """Starts two processes: two seconds."""
    file = tmp_path / "all.ndjson"
    file.write_bytes(exported(store))
    first, again = (run(store, tmp_path, str(file)) for _ in range(2))
    assert (first.returncode, first.stderr, again.returncode) == (0, b"", 0)
    counts = "conversations: 1 added, 0 already stored, 0 updated, 0 deleted, 0 expired and left out"
    assert first.stdout.decode().splitlines() == [f"{file}: {counts}; messages: 4 added"]
    assert b"0 added, 1 already stored" in again.stdout
    assert records(store.give()) == records(file.read_bytes())


def test_bad_records_are_reported_by_line(store: Store, tmp_path: Path) -> None:
    """Starts a process: a second."""
    bad, unknown = tmp_path / "bad.json", tmp_path / "unknown.txt"
    bad.write_text(json.dumps([chatgpt(TREE), {"mapping": 7}], indent=0))
    unknown.write_text("hello")
    done = run(store, tmp_path, str(bad))
    line = bad.read_text().splitlines().index('"mapping": 7')  # the bracket before it is there by counting from 1
    assert (done.returncode, b"1 added" in done.stdout) == (1, True)
    assert done.stderr.decode().startswith(f"line {line}: it is not a conversation of a program")
    both = run(store, tmp_path, str(unknown), str(bad))
    assert (both.returncode, both.stderr.splitlines()[0]) == (
        2, f"{unknown}: {UNKNOWN}".encode(),
    )  # fmt: skip


def archive(file: bytes) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("chat.html", "<html>")
        made.writestr("export/conversations.json", file)
    return packed.getvalue()


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstd.compress,
    "zip": archive,
}


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("packing", "name"), [("plain", "-"), ("gzip", "-"), ("zstd", "file"), ("zip", "file"), ("zip", "-")]
)
def test_compressed_files_and_pipes_are_read(store: Store, tmp_path: Path, packing: str, name: str) -> None:
    """Starts a process: a second."""
    packed = PACKINGS[packing](json.dumps([chatgpt(TREE)]).encode())
    (tmp_path / "file").write_bytes(packed)
    done = run(store, tmp_path, name, given=packed)
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(records(store.give())) == 8


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize("packing", ["gzip", "zstd", "zip"])
def test_truncated_compressed_file_is_reported(store: Store, tmp_path: Path, packing: str) -> None:
    """Starts a process: a second."""
    packed = PACKINGS[packing](json.dumps([chatgpt(TREE, conversation_id=f"c-{n}") for n in range(400)]).encode())
    done = run(store, tmp_path, "-", given=packed[: len(packed) // 2])
    assert done.returncode == (2 if packing == "zip" else 1), done.stderr
    assert (b"cannot be read" if packing == "zip" else b"the file is cut") in done.stderr


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_ttl_option_sets_expiry(store: Store, tmp_path: Path) -> None:
    """Starts three processes: three seconds."""
    file = json.dumps([chatgpt(TREE)]).encode()
    assert run(store, tmp_path, "-", given=file).returncode == 0
    assert store.rows("SELECT ttl, expires_at FROM conversations") == [(None, None)]
    assert b"1 updated" in run(store, tmp_path, "-", "--ttl=30d", given=file).stdout
    assert store.rows("SELECT ttl FROM conversations WHERE expires_at > last_active") == [(30 * 86400,)]
    assert b"write a duration" in run(store, tmp_path, "-", "--ttl=soon", given=file).stderr


def test_killed_import_is_finished_by_the_next(store: Store, tmp_path: Path) -> None:
    """Imports thousands of messages, is killed, and runs again: some seconds."""
    for number in range(4):
        store.put(a_conversation(20, at=10**15 + number))
    store.put(a_conversation(3000, at=10**15 + 10**7), a_conversation(1, at=10**15 + 10**8))
    file = tmp_path / "all.ndjson"
    file.write_bytes(store.give())
    store.empty()
    command = [sys.executable, "-m", "chatkeep", "import", str(file)]
    killed = subprocess.Popen(command, env=environment(store, tmp_path), stdout=subprocess.DEVNULL)
    while count(store) < 1000 and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert 0 < count(store) < 6162
    assert run(store, tmp_path, str(file)).returncode == 0
    assert records(store.give()) == records(file.read_bytes())


def count(store: Store) -> int:
    return int(store.rows("SELECT COUNT(*) FROM messages")[0][0])


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells the peak of resident memory")
@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_memory_does_not_grow_with_the_file(store: Store, tmp_path: Path) -> None:
    """Reads a file of 50 MB that is one line: some seconds."""
    small, large = (tmp_path / name for name in ("small", "large"))
    for file, amount in ((small, 2), (large, 200)):
        file.write_bytes(b"".join(hidden(amount)))
    used = [peak(store, tmp_path, file) for file in (small, large)]
    assert used[1] - used[0] < 20_000  # KiB


def hidden(amount: int) -> Iterator[bytes]:
    """Yield conversations without visible messages."""
    one = chatgpt({f"n{n}": chatgpt_system("x" * 1000) for n in range(200)})
    yield b"["
    for number in range(amount):
        yield (b", " if number else b"") + json.dumps(one | {"conversation_id": f"c-{number}"}).encode()
    yield b"]"


def chatgpt_system(text: str) -> dict[str, object]:
    return {"message": {"author": {"role": "system"}, "content": {"content_type": "text", "parts": [text]}}}


def peak(store: Store, folder: Path, file: Path) -> int:
    done = subprocess.run(
        [sys.executable, "-m", "tests.peak", "import", str(file)],
        env=environment(store, folder), cwd=folder, capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_file_is_imported_and_exported_for_an_end_user(store: Store, tmp_path: Path) -> None:
    """Starts two processes: two seconds."""
    file, whose = tmp_path / "all.ndjson", ("--account", "shop", "--end-user", "阿丽")
    file.write_bytes(exported(store))
    assert run(store, tmp_path, str(file), *whose).returncode == 0
    assert store.rows("SELECT owner FROM conversations") == [(owner_of("shop", "阿丽"),)]
    command = [sys.executable, "-m", "chatkeep", "export", "--format", "ndjson", *whose]
    given = subprocess.run(
        command, env=environment(store, tmp_path), cwd=tmp_path, capture_output=True, timeout=60 * SLOW, check=True
    )
    assert records(given.stdout) == records(file.read_bytes())
    assert run(store, tmp_path, str(file), "--account", "Shop").returncode == 2


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("language", "line", "reason", "unread"),
    [
        (
            "C.UTF-8",
            "-: 3 pictures, 1 tool call, 1 unreadable message left out",
            "its message x is left out: it has no content",
            ": This is an export of chatbot-ui, which is not read.",
        ),
        (
            "zh_CN.UTF-8",
            "-：略去 3 张图片、1 次工具调用、1 条无法读取的消息",  # noqa: RUF001 - as it is written
            "它的消息 x 被略去：它没有内容",  # noqa: RUF001
            "：这是 chatbot-ui 的导出，不支持读取。",  # noqa: RUF001
        ),
    ],
)
def test_skipped_content_is_counted_in_terminal_language(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, language: str, line: str, reason: str, unread: str
) -> None:
    """Starts a process: a second."""
    monkeypatch.setenv("LC_ALL", language)
    picture = {"content_type": "image_asset_pointer"}
    mapping = {
        "u": node(None, "user", picture, picture, picture, "Which is older?"),
        "c": node("u", "assistant", "{}", recipient="web.run"),
        "x": node("c", "assistant", content=None),
        "a": node("x", "assistant", "The left one."),
    }
    other = tmp_path / "other.json"
    other.write_text('{"version": 4, "history": [], "folders": []}')
    done = run(store, tmp_path, "-", str(other), given=json.dumps([chatgpt(mapping, "a")]).encode())
    assert done.returncode == 2, done.stderr
    assert line in done.stdout.decode()
    assert reason in done.stderr.decode()
    assert f"{other}{unread}" in done.stderr.decode()


def zipped(**members: bytes) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, body in members.items():
            made.writestr(name, body)
    return packed.getvalue()


CHUNKED = zipped(**{"conversations-000.json": b"a", "conversations-001.json": b"b", "user.json": b"c"})
ARCHIVES = {
    "in several files": (CHUNKED, [b"a", b"b"]),
    "in another archive": (zipped(**{"a.html": b"", "A/Chats__1.zip": CHUNKED, "B.zip": zipped()}), [b"a", b"b"]),
    "in the third one": (zipped(**{"a.zip": zipped(**{"b.zip": CHUNKED})}), [b"a", b"b"]),
    "beside an archive that was uploaded": (zipped(**{"conversations.json": b"a", "file.zip": CHUNKED}), [b"a"]),
    "packed on a Mac": (
        zipped(**{"__MACOSX/._a.json": b"", "c/._b.json": b"", "__MACOSX/conversations.json": b"", "c/a.json": b"a"}),
        [b"a"],
    ),
    "packed on Windows": (zipped(**{"Chats\\conversations.json": b"a", "Chats\\user.json": b""}), [b"a"]),
    "in lines": (zipped(**{"a.jsonl": b"a", "export.ndjson": b"b"}), [b"a", b"b"]),
    "with a line break in a name": (zipped(**{"a\nb/conversations.json": b"a"}), [b"a"]),
    "one by one": (zipped(**{"ChatGPT-Tea.json": b"a", "ChatGPT-Ferry.json": b"b", "notes.txt": b""}), [b"b", b"a"]),
}  # fmt: skip


@pytest.mark.parametrize(("packed", "found"), ARCHIVES.values(), ids=ARCHIVES)
def test_conversations_are_found_in_archives(packed: bytes, found: list[bytes]) -> None:
    taken = [b"".join(chunks) for _, chunks in documents(BufferedReader(BytesIO(packed)), lambda _size: None)]
    assert taken == found


@pytest.mark.parametrize("packed", [zipped(), zipped(**{"a.txt": b""}), zipped(**{"a.zip": zipped(**{"b.txt": b""})})])
def test_archive_without_conversations_is_reported(packed: bytes) -> None:
    with pytest.raises(UnknownFile, match=r"no conversations\.json in this archive"):
        list(documents(BufferedReader(BytesIO(packed)), lambda _size: None))


def damaged(method: int, at: int, value: int, *, begin: bytes = b"PK\x01\x02") -> bytes:
    """Return an archive with a changed byte at an offset from the header of its directory or of its file."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w", method) as made:
        made.writestr("conversations.json", b'[{"a": 1}]' * 2000)
    changed = bytearray(packed.getvalue())
    changed[changed.index(begin) + at] ^= value
    return bytes(changed)


FILE = b"PK\x03\x04"
DAMAGED = {
    "a version": damaged(zipfile.ZIP_DEFLATED, 6, 0x40),
    "where the list begins": damaged(zipfile.ZIP_DEFLATED, 18, 0xFF, begin=b"PK\x05\x06"),
    "deflate": damaged(zipfile.ZIP_DEFLATED, 52, 0xFF, begin=FILE),
    "bzip2": damaged(zipfile.ZIP_BZIP2, 52, 0xFF, begin=FILE),
    "lzma": damaged(zipfile.ZIP_LZMA, 58, 0xFF, begin=FILE),
    "encryption": damaged(zipfile.ZIP_DEFLATED, 8, 0x01),
    "a method": damaged(zipfile.ZIP_DEFLATED, 10, 0x01),
    "gzip": gzip.compress(b"[]")[:-4],
}


@pytest.mark.parametrize("packed", DAMAGED.values(), ids=DAMAGED)
def test_damaged_archive_is_reported(packed: bytes) -> None:
    found = (b"".join(chunks) for _, chunks in documents(BufferedReader(BytesIO(packed)), lambda _size: None))
    with pytest.raises(UnknownFile, match="cannot be read"):
        list(found)


@pytest.mark.parametrize("inner", [b"PK\x03\x04?", DAMAGED["a version"]])
@pytest.mark.parametrize("sound", [{}, {"B.zip": CHUNKED}, {"b.json": b"a"}])
def test_damaged_nested_archive_is_reported(inner: bytes, sound: dict[str, bytes]) -> None:
    packed = zipped(**{"Chats.zip": inner, "user.txt": b"", **sound})
    taken, refused = [], {}
    for name, chunks in documents(BufferedReader(BytesIO(packed)), lambda _size: None):
        try:
            taken.append(b"".join(chunks))
        except UnknownFile as error:
            refused[name] = str(error)
    assert [name for name, error in refused.items() if "This archive cannot be read: " in error] == ["Chats.zip"]
    assert taken == ([b"a", b"b"] if "B.zip" in sound else [b"a"] * len(sound))


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_file_content_cannot_control_the_terminal(store: Store, tmp_path: Path) -> None:
    """Starts a process: a second."""
    mapping = {
        "u": node(None, "user", "?"),
        "\x1b[2J": node("u", "assistant", author=None),
        "a": node("u", "assistant", content={"content_type": "\x1b]0;x\x07", "x": 1}),
    }
    done = run(store, tmp_path, "-", given=json.dumps([chatgpt(mapping)]).encode())
    assert (done.returncode, b"1 added" in done.stdout) == (1, True)
    assert not any(sign in done.stdout + done.stderr for sign in (b"\x1b", b"\x07"))
    assert "\ufffd]0;x" in done.stdout.decode()


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_damaged_archive_beside_good_one_is_reported(store: Store, tmp_path: Path) -> None:
    """Starts a process: a second."""
    sound = zipped(**{"conversations.json": json.dumps([chatgpt(TREE)]).encode()})
    done = run(store, tmp_path, "-", given=zipped(**{"a.zip": b"PK\x03\x04?", "b.zip": sound}))
    assert (done.returncode, b"b.zip/conversations.json: conversations: 1 added" in done.stdout) == (2, True)
    assert done.stderr.startswith(b"-/a.zip: This archive cannot be read: ")


@pytest.mark.parametrize("stores", ["sqlite"], indirect=True)
def test_unknown_files_in_archive_are_skipped(store: Store, tmp_path: Path) -> None:
    """Starts a process: a second."""
    packed = zipped(**{"a.json": b'{"theme": "dark"}', "b.json": json.dumps(chatgpt(TREE)).encode()})
    done = run(store, tmp_path, "-", given=packed)
    assert (done.returncode, b"-/b.json: conversations: 1 added" in done.stdout) == (2, True)
    assert done.stderr.startswith(b"-/a.json: This is not an export of ")
