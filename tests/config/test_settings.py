"""Settings: their sources, what they refuse, and that secrets are never shown."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from chatkeep.config.environment import read_env_file
from chatkeep.config.settings import Settings, described, unknown_names
from chatkeep.errors import SettingsError


def test_environment_overrides_the_special_file_which_overrides_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=1\nCHATKEEP_MODEL=general\nCHATKEEP_LOG_LEVEL=debug\n", encoding="utf-8")
    (tmp_path / ".env.test").write_text("PORT=2\nCHATKEEP_MODEL=special\n", encoding="utf-8")
    found = Settings.from_env({"CHATKEEP_ENV": "test", "PORT": "3"}, tmp_path)
    assert (found.port, found.model, found.log_level, found.host) == (3, "special", "DEBUG", "127.0.0.1")


def test_env_file_can_set_chatkeep_env(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHATKEEP_ENV=test\n", encoding="utf-8")
    (tmp_path / ".env.test").write_text("CHATKEEP_MODEL=special\n", encoding="utf-8")
    found = Settings.from_env({}, tmp_path)
    assert (found.env, found.model) == ("test", "special")


def test_empty_value_means_default(tmp_path: Path) -> None:
    assert Settings.from_env({"PORT": "", "CHATKEEP_MODEL": ""}, tmp_path) == Settings()


def test_env_file_reads_comments_export_and_quotes(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    content = "\ufeff# note\n\nexport A = 1\nB='x # y'\nC=\"\"\nD=a=b\nE=x # note\nnonsense\nF=C:\\new\nG=${A}\n"
    file.write_text(content, encoding="utf-8")
    assert read_env_file(file) == {
        "A": "1", "B": "x # y", "C": "", "D": "a=b", "E": "x", "F": "C:\\new", "G": "${A}",
    }  # fmt: skip


def test_env_file_reads_quoted_values_with_line_breaks_and_escapes(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text('A="1\n2"\nB="a\\nb\\"c\\\\d"\nC=\'a\\nb\\\\c\\\'d\'\n', encoding="utf-8")
    assert read_env_file(file) == {"A": "1\n2", "B": 'a\nb"c\\d', "C": "a\\nb\\c'd"}


def test_env_file_skips_a_line_without_a_closing_quote(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / ".env").write_text("A='hunter2\nB=1\n", encoding="utf-8")
    assert read_env_file(tmp_path / ".env") == {"B": "1"}
    assert "line 1" in caplog.text
    assert "hunter2" not in caplog.text


def test_all_invalid_values_are_reported_at_once(tmp_path: Path) -> None:
    wrong = {"PORT": "x", "CHATKEEP_GAP_TIMEOUT": "5", "OPENAI_BASE_URL": "nowhere"}
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(wrong, tmp_path)
    assert {problem.partition(":")[0] for problem in refused.value.problems} == set(wrong)


def test_invalid_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"DATABASE_URL": "hunter2", "CHATKEEP_PROVIDER_HEADERS": "hunter2"}, tmp_path)
    assert len(refused.value.problems) == 2
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("env", ["development", "test"])
def test_placeholders_are_accepted_outside_production(env: str, tmp_path: Path) -> None:
    found = Settings.from_env({"CHATKEEP_ENV": env, "HOST": "0.0.0.0", "OPENAI_API_KEY": "changeme"}, tmp_path)  # noqa: S104
    assert found.dangers() == []


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"OPENAI_API_KEY": "changeme"}, "OPENAI_API_KEY"),
        ({"OPENAI_API_KEY": "YOUR-API-KEY-here"}, "OPENAI_API_KEY"),
    ],
)
def test_production_refuses_placeholders(environ: dict[str, str], named: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"^{named}:"):
        Settings.from_env({"CHATKEEP_ENV": "production", **environ}, tmp_path)


@pytest.mark.parametrize(
    ("environ", "demo"), [({}, True), ({"OPENAI_API_KEY": "k"}, False), ({"OPENAI_BASE_URL": "http://x"}, False)]
)
def test_demo_is_used_without_a_provider(environ: dict[str, str], tmp_path: Path, *, demo: bool) -> None:
    assert Settings.from_env(environ, tmp_path).demo is demo


def test_default_database_is_a_file_in_the_data_folder() -> None:
    assert Settings(data_dir=Path("kept")).database == "sqlite:///kept/chatkeep.sqlite3"
    assert Settings(database_url="sqlite:///x").database == "sqlite:///x"


@pytest.mark.parametrize("item", described(), ids=lambda item: item.name)
def test_every_setting_has_a_name_a_parser_and_help(item: Any) -> None:
    assert item.metadata["env"].isupper()
    assert item.metadata["doc"].endswith((".", "`"))
    if item.metadata["text"] is not None:
        assert item.metadata["read"](item.metadata["text"]) == item.default


@pytest.mark.parametrize(
    "content",
    [
        "CHATKEEP_MODEL=模型\n".encode("gbk"),
        "# 模型\r\nCHATKEEP_MODEL=x\r\n".encode("big5"),
        b"# caf\xe9\nCHATKEEP_MODEL=x\n",
        "CHATKEEP_MODEL=x\n".encode("utf-16-le"),
        "CHATKEEP_MODEL=x\n".encode("utf-16-be"),
        "CHATKEEP_MODEL=x\n".encode("utf-32"),
        "CHATKEEP_MODEL=x\n".encode("utf-16")[:-1],
    ],
    ids=["GBK", "Big5", "Latin-1", "UTF-16 LE", "UTF-16 BE", "UTF-32", "cut"],
)
def test_env_file_in_another_encoding_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(SettingsError, match=r"\.env is not UTF-8; save it as UTF-8$"):
        Settings.from_env({}, tmp_path)


@pytest.mark.posix("on Windows a file whose name is too long does not exist")
def test_env_file_that_cannot_be_accessed_is_named(tmp_path: Path) -> None:
    """As in a folder that is closed to the server's user, which root cannot try: here its name is too long."""
    with pytest.raises(SettingsError, match=r"\.env\.x+ cannot be read: "):
        Settings.from_env({"CHATKEEP_ENV": "x" * 300}, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_env_file_is_read_in_utf_8_and_utf_16(encoding: str, tmp_path: Path) -> None:
    mark = "\ufeff" if encoding.startswith("utf-16-") else ""
    (tmp_path / ".env").write_bytes(f"{mark}# 模型\r\nCHATKEEP_MODEL=通义\r\nPORT=1\r\n".encode(encoding))
    found = Settings.from_env({}, tmp_path)
    assert (found.model, found.port) == ("通义", 1)


def test_impossible_origin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^CHATKEEP_CORS_ORIGINS: .*https://\*\.example\.org.*write each origin"):
        Settings.from_env({"CHATKEEP_CORS_ORIGINS": "https://a.example,https://*.example.org"}, tmp_path)


# A value of each secret setting that can be read.
SECRETS = {
    "DATABASE_URL": "mysql://user:password@127.0.0.1/database",
    "DATABASE_PASSWORD": "p/@ss word%",
    "OPENAI_API_KEY": "sk-1",
    "CHATKEEP_PROVIDER_HEADERS": '{"X-Team":\n"search"}',
    "REDIS_URL": "redis://:password@127.0.0.1:6379/0",
    "CHATKEEP_END_USER_TOKENS": "{}",
    "CHATKEEP_REDACT_WORDS": "Aurora, 北极光",
    "CHATKEEP_OIDC_CLIENT_SECRET": "hunter2",
}
BESIDE = {"DATABASE_PASSWORD": {"DATABASE_URL": "mysql://user@127.0.0.1/database"}}


@pytest.mark.parametrize("item", [item for item in described() if item.metadata["secret"]], ids=lambda item: item.name)
def test_secret_can_be_read_from_a_file(item: Any, tmp_path: Path) -> None:
    name = item.metadata["env"]
    (tmp_path / "secret").write_text(f"\ufeff{SECRETS[name]}\r\n", encoding="utf-8")
    by_file = Settings.from_env({f"{name}_FILE": str(tmp_path / "secret"), **BESIDE.get(name, {})}, tmp_path)
    assert by_file == Settings.from_env({name: SECRETS[name], **BESIDE.get(name, {})}, tmp_path)
    assert by_file != Settings.from_env(BESIDE.get(name, {}), tmp_path) or SECRETS[name] == "{}"


def test_first_layer_with_the_secret_or_its_file_wins(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("from the file", encoding="utf-8")
    by_file, itself = {"OPENAI_API_KEY_FILE": "secret", "OPENAI_API_KEY": ""}, {"OPENAI_API_KEY": "itself"}
    (tmp_path / ".env").write_text("OPENAI_API_KEY=itself\n", encoding="utf-8")
    assert Settings.from_env(by_file, tmp_path).openai_api_key == "from the file"
    (tmp_path / ".env").write_text("OPENAI_API_KEY_FILE=secret\n", encoding="utf-8")
    assert Settings.from_env(itself, tmp_path).openai_api_key == "itself"
    assert Settings.from_env({}, tmp_path).openai_api_key == "from the file"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b" \n\r\n", "is empty"),
        ("密钥".encode("gbk"), "is not UTF-8; save it as UTF-8"),
    ],
    ids=["absent", "empty", "blank", "GBK"],
)
def test_file_without_a_secret_is_refused(content: bytes | None, told: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"REDIS_URL_FILE": str(file), "PORT": "x"}, tmp_path)
    assert sorted(refused.value.problems)[1] == f"REDIS_URL_FILE: {file} {told}"


def test_secret_file_must_not_be_a_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"is not a file$"):
        Settings.from_env({"OPENAI_API_KEY_FILE": str(tmp_path)}, tmp_path)


def test_secret_and_its_file_together_are_refused(tmp_path: Path) -> None:
    both = {"OPENAI_API_KEY": "hunter2", "OPENAI_API_KEY_FILE": "secret"}
    with pytest.raises(
        SettingsError, match=r"^OPENAI_API_KEY and OPENAI_API_KEY_FILE are both set; remove one of them$"
    ):
        Settings.from_env(both, tmp_path)


def test_invalid_secret_in_a_file_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2", encoding="utf-8")
    with pytest.raises(SettingsError) as refused:
        Settings.from_env({"DATABASE_URL_FILE": "secret"}, tmp_path)
    assert "hunter2" not in str(refused.value)


@pytest.mark.posix("on Windows a file's mode says nothing about other users")
@pytest.mark.parametrize(("mode", "is_taken"), [(0o644, False), (0o602, False), (0o640, True), (0o600, True)])
def test_secret_file_open_to_all_users_is_refused(mode: int, tmp_path: Path, *, is_taken: bool) -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        file = Path(name, "secret")
        file.write_text("sk-1", encoding="utf-8")
        file.chmod(mode)
        if is_taken:
            assert Settings.from_env({"OPENAI_API_KEY_FILE": str(file)}, tmp_path).openai_api_key == "sk-1"
            return
        with pytest.raises(SettingsError, match=f"can read or write {file}; run: chmod o-rwx {file}$"):
            Settings.from_env({"OPENAI_API_KEY_FILE": str(file)}, tmp_path)


def test_only_secret_settings_have_file_variants(tmp_path: Path) -> None:
    environ = {"CHATKEEP_MODEL_FILE": "model", "CHATKEEP_REDACT_WORDS_FILE": "words"}
    (tmp_path / ".env").write_text("=nothing\n", encoding="utf-8")
    assert Settings.from_env({"PORT_FILE": "port"}, tmp_path) == Settings()
    assert unknown_names(environ, []) == ["CHATKEEP_MODEL_FILE"]
