"""The table of promises in both READMEs, from the figures of the long form; `tests.faults.report` writes it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.rows import PRODUCTS
from tests.servers import ROOT

PAGES = (ROOT / "README.md", ROOT / "README.zh-CN.md")  # in the order of the languages below
HEADS = ("| promise | on SQLite | on MariaDB | on MySQL |", "| 承诺 | SQLite | MariaDB | MySQL |")
Combine = Callable[[list[Any]], Any]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Fact:
    """One number of a cell: which measured value, of which faults, and how it reads in each language."""

    name: str
    reads: tuple[str, str]
    combine: Combine = sum
    faults: str = ""

    def of(self, rows: Rows) -> int | float | None:
        """Return the number over all rows that have it, or None if none has."""
        found = [row["values"][self.name] for row in rows if self.name in row["values"]]
        return self.combine(found) if found else None


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of the table: its title in each language, and its facts."""

    titles: tuple[str, str]
    facts: tuple[Fact, ...]


PROMISES = (
    Promise(
        ("No acknowledged message is lost or duplicated", "已确认的消息不会丢失或重复"),
        (Fact("lost", ("{} lost", "丢失 {}")), Fact("doubled", ("{} duplicated", "重复 {}"))),
    ),
    Promise(
        (
            "What was shown is stored: each stream compared with its row after each fault",
            "显示过的都已保存：每次故障后逐流与数据库核对",
        ),
        (Fact("mismatches", ("{} mismatches", "不一致 {}")),),
    ),
    Promise(
        ('No reply stays "generating" after a kill', "进程被杀后没有一直“生成中”的回复"),
        (
            Fact("longest s to a final status", ("{} s at most", "最多 {} 秒"), max, "kill -9 of a worker"),
            Fact("longest s to a final status", ("{} s after a restart", "启动后 {} 秒"), max, "kill -9 of the server"),
        ),
    ),
    Promise(
        ("A deploy cuts no stream: 500 open during a reload", "部署不会中断流：重新加载时有 500 个打开的流"),
        (Fact("streams with text missing or repeated", ("{} with gaps or repeats", "缺失或重复 {}")),),
    ),
    Promise(
        ("Memory is bounded: 1,000 streams per worker", "内存有上限：每个工作进程 1,000 个流"),
        (Fact("a stream at the end", ("{} KiB per stream", "每个流 {} KiB"), max),),
    ),
    Promise(
        ("A failing provider harms no other reply", "模型服务出故障时不影响其他回复"),
        (
            Fact("calls a turn", ("{} calls per turn", "每轮 {} 次调用"), max),
            Fact("of them harmed", ("{} other replies harmed", "影响其他回复 {}")),
        ),
    ),
    Promise(
        (
            "No secret in logs, metrics or errors: canaries through every failure",
            "日志、指标和错误中没有密钥：用探测密钥经历每一种故障",
        ),
        (Fact("secrets found", ("{} found", "发现 {}")),),
    ),
    Promise(
        (
            "A killed or concurrent first start, and a killed upgrade, recover",
            "首次启动或升级被中断、首次启动并发时，都能继续完成",
        ),
        (Fact("failures", ("{} failures", "失败 {}")),),
    ),
)


def write(figures: Rows, pages: tuple[Path, ...] = PAGES) -> None:
    """Put the table that the figures make into each page, in place of the one that is there."""
    for language, page in enumerate(pages):
        text = page.read_text(encoding="utf-8")
        page.write_text(with_table(text, language, figures), encoding="utf-8")


def with_table(text: str, language: int, figures: Rows) -> str:
    """Return a page with the table of these figures."""
    begin = re.escape(HEADS[language].split(" | ")[0])
    table = "".join(f"{line}\n" for line in lines(language, figures))
    found, count = re.subn(rf"(?m)^{begin} \|.*\n(?:\|.*\n)+", lambda _: table, text)
    assert count == 1, f"{count} tables of promises"
    return found


def lines(language: int, figures: Rows) -> Iterator[str]:
    """Yield the lines of the table."""
    yield HEADS[language]
    yield "|---" * (1 + len(PRODUCTS)) + "|"
    for promise in PROMISES:
        cells = (cell(promise, language, [row for row in figures if row["database"] == name]) for name in PRODUCTS)
        yield f"| {promise.titles[language]} | {' | '.join(cells)} |"


def cell(promise: Promise, language: int, rows: Rows) -> str:
    """Return what was measured on one database; a dash stands for nothing."""
    told = []
    for fact in promise.facts:
        number = fact.of([row for row in rows if fact.faults in row["fault"]])
        if number is not None:
            told.append(fact.reads[language].format(f"{number:.3g}" if isinstance(number, float) else f"{number:,}"))
    return ("，" if language else ", ").join(told) or "-"
