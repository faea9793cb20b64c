"""Generated texts: ordinary ones with many kinds of numbers, and ones with sensitive text."""

from __future__ import annotations

import ipaddress
import random
import re
import string
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

WORDS = re.findall(
    r"\S+",
    """the a model stores what it shows before anyone sees it and then goes on with next reply while server keeps every
    message in order people ask about weather travel code recipes history music because they want to know more It
    You We can will would should could time year people way day thing man world life hand part child eye woman place
    work week case point government company number group problem fact sk-learn e-mail well-known up-to-date don't
    self-hosted faced decade beef cafe added A I API HTTP JSON UTF-8 MySQL eyes skip ASIA AIzawa hf npm ghost""",
)
PHRASES = re.findall(
    r"\S+",
    """今天天气很好 我们一起去公园散步 模型的回答会先保存再显示 这样可以避免丢失 请帮我写一封邮件 他的电话打不通
    会议改到下午三点 价格比去年上涨了不少 请核对一下您的身份证信息 银行卡余额不足 护照已经过期 服务器的地址变了
    密钥请妥善保管 订单已经发货
    版本更新说明 第二季度营收同比增长 他一共跑了三公里 这道题的答案是对的 人口普查数据 参考文献如下
    手机号请填写完整 联系方式见下""",
)
SPACES = " \N{NO-BREAK SPACE}\N{IDEOGRAPHIC SPACE}\N{THIN SPACE}"
DASHES = "-\N{EN DASH}\N{EM DASH}\N{MINUS SIGN}\N{FULLWIDTH HYPHEN-MINUS}\N{NON-BREAKING HYPHEN}"
DOTS = ".\N{FULLWIDTH FULL STOP}\N{MIDDLE DOT}"
WIDE = str.maketrans({chr(code): chr(code + 0xFEE0) for code in range(0x21, 0x7F)})
BOLD = str.maketrans(string.digits, "".join(chr(0x1D7CE + digit) for digit in range(10)))
SLASHES = "/_\N{FULLWIDTH SOLIDUS}\N{FRACTION SLASH}"
SEGMENTED = str.maketrans(string.digits, "".join(chr(0x1FBF0 + digit) for digit in range(10)))
INVISIBLE = (
    "\N{ZERO WIDTH SPACE}\N{SOFT HYPHEN}\N{WORD JOINER}\N{ZERO WIDTH NO-BREAK SPACE}\N{COMBINING GRAPHEME JOINER}"
    "\N{MONGOLIAN FREE VARIATION SELECTOR ONE}\N{HANGUL FILLER}\N{MUSICAL SYMBOL BEGIN BEAM}\N{TAG SPACE}\x00\x7f"
)
DOMAINS = ["qq.com", "163.com", "gmail.com", "example.co.uk", "mail.pku.edu.cn", "outlook.com", "x-y.io", "a.dev"]
BASE62 = string.ascii_letters + string.digits
PREFIXES = (
    ["13" + d for d in "0123456789"] + ["14" + d for d in "5678"] + ["15" + d for d in "012356789"]
    + ["166", "170", "171", "176", "177", "178"] + ["18" + d for d in "0123456789"] + ["19" + d for d in "1589"]
)  # fmt: skip
REGIONS = ["110105", "310115", "440305", "330106", "510104", "320583", "420111", "610113", "650102", "810000"]
ISSUERS = [("622202", 19), ("621700", 19), ("622588", 16), ("625900", 16), ("4", 16), ("53", 16), ("2221", 16),
           ("3528", 16), ("6011", 16), ("9558", 19), ("62", 17), ("62", 18)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Case:
    """A text, and its redacted form."""

    kind: str
    text: str
    redacted: str


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choices(string.digits, k=count))


# --- Sensitive text ---------------------------------------------------------------------------------------------------


def phone(rng: random.Random) -> str:
    number = rng.choice(PREFIXES) + digits(rng, 8)
    country = rng.choice(["", "", "", "+86", "+86 ", "+86-", "86", "0086", "86 "])
    if rng.random() < 0.1:
        brackets = rng.choice(["()", "\N{FULLWIDTH LEFT PARENTHESIS}\N{FULLWIDTH RIGHT PARENTHESIS}"])
        rest = rng.choice([number[3:], f"{number[3:7]}{rng.choice(DASHES + SPACES)}{number[7:]}"])
        return f"{country}{brackets[0]}{number[:3]}{brackets[1]}{rng.choice(['', ' '])}{rest}"
    return country + grouped(rng, number, rng.choice([[11], [11], [3, 4, 4], [3, 8], [1] * 11]), SLASHES)


def id_card(rng: random.Random) -> str:
    born = date(1930, 1, 1) + timedelta(days=rng.randrange(95 * 365))
    number = rng.choice(REGIONS) + f"{born:%Y%m%d}" + digits(rng, 3)
    # GB 11643: the remainder of the weighted sum, with 2^(17-i) mod 11 as the weights.
    rest = (12 - sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(number))) % 11
    check = rng.choice("Xx") if rest == 10 else str(rest)
    return grouped(
        rng, number + check, rng.choice([[18], [18], [6, 8, 4], [3, 3, 8, 4], [6, 4, 4, 4], [1] * 18]), SLASHES
    )


def bank_card(rng: random.Random) -> str:
    issuer, length = rng.choice(ISSUERS)
    body = issuer + digits(rng, length - 1 - len(issuer))
    number = next(body + check for check in string.digits if luhn(body + check))
    fours = [4] * (length // 4) + ([length % 4] if length % 4 else [])
    return grouped(rng, number, rng.choice([[length], [length], fours, fours, [6, length - 6], [1] * length]), SLASHES)


def luhn(number: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(number)):
        value = int(digit) * (1 + place % 2)
        total += value // 10 + value % 10
    return total % 10 == 0


def passport(rng: random.Random) -> str:
    letters, count = rng.choice([("E", 8), ("G", 8), ("EA", 7), ("EH", 7), ("DE", 7), ("SE", 7), ("PE", 7), ("g", 8)])
    if letters.islower():
        return letters + digits(rng, count)
    return letters + grouped(rng, digits(rng, count), rng.choice([[count], [count], [4, count - 4], [1] * count]))


def grouped(rng: random.Random, number: str, sizes: list[int], more: str = " ") -> str:
    """Return a number in groups, in other digits, or with invisible characters."""
    gap = rng.choice([rng.choice(SPACES), rng.choice(DASHES), rng.choice(DOTS), rng.choice(more), " - ", "  "])
    parts, at = [], 0
    for size in sizes:
        parts.append(number[at : at + size])
        at += size
    written = gap.join(parts)
    dress = rng.random()
    if dress < 0.15:
        return written.translate(WIDE)
    if dress < 0.2:
        return written.translate(rng.choice([BOLD, SEGMENTED]))
    if dress < 0.3:
        place = rng.randrange(1, len(written))
        return written[:place] + rng.choice(INVISIBLE) * rng.randrange(1, 4) + written[place:]
    return written


def email(rng: random.Random) -> str:
    local = rng.choice(
        [
            "".join(rng.choices(string.ascii_lowercase, k=rng.randrange(1, 12))),
            f"{rng.choice(['zhang', 'li', 'john', 'mary'])}{rng.choice('._-+')}{rng.choice(['san', 'wei', 'x1'])}",
            digits(rng, rng.randrange(5, 12)),
            f"{rng.choice(PREFIXES)}{digits(rng, 8)}",
        ]
    )
    domain = rng.choice(DOMAINS)
    written = f"{local}@{domain}"
    dress = rng.random()
    if dress < 0.15:
        return written.translate(WIDE)
    if dress < 0.25 and domain.endswith((".com", ".cn")):
        return written.replace("@", " @ ").replace(".com", " . com")
    if dress < 0.3:
        return written.replace("@", rng.choice(INVISIBLE) + "@")
    return written.upper() if dress < 0.35 else written


def ip(rng: random.Random) -> str:
    if rng.random() < 0.4:
        address = ipaddress.IPv6Address((0x2001 << 112) | rng.getrandbits(rng.choice([16, 64, 112])))
        return rng.choice([address.compressed, address.exploded, address.compressed.upper()])
    first = rng.choice([10, 172, 192, rng.randrange(11, 127), rng.randrange(128, 224)])
    written = ".".join(map(str, [first, *(rng.randrange(256) for _ in range(3))]))
    return written.translate(WIDE) if rng.random() < 0.2 else written


def api_key(rng: random.Random) -> str:
    def some(count: int, letters: str = BASE62) -> str:
        return "".join(rng.choices(letters, k=count))

    written = rng.choice(
        [
            f"sk-{some(48)}",
            f"sk-proj-{some(40)}_{some(30)}",
            f"sk-ant-api03-{some(80)}-AA",
            f"ck_{some(8)}_{some(40)}",
            f"AKIA{some(16, string.ascii_uppercase + string.digits)}",
            f"ghp_{some(36)}",
            f"github_pat_{some(22)}_{some(59)}",
            f"glpat-{some(20)}",
            f"xoxb-{digits(rng, 12)}-{some(24)}",
            f"AIza{some(35)}",
            f"hf_{some(34)}",
            f"LTAI{some(20)}",
            f"sk_live_{some(24)}",
            f"eyJhbGciOiJIUzI1NiJ9.eyJ{some(rng.randrange(20, 300))}.{some(43)}",
        ]
    )
    return written.translate(WIDE) if rng.random() < 0.05 else written


SENSITIVE: dict[str, Callable[[random.Random], str]] = {
    "phone": phone,
    "id-card": id_card,
    "bank-card": bank_card,
    "passport": passport,
    "email": email,
    "ip": ip,
    "api-key": api_key,
}
# Usual text before and after sensitive text, and Chinese text without a space.
BEFORE = [
    "",
    "电话",
    "我的号码是",
    "：",
    "，请记下",
    "(",
    "tel:",
    "call me at ",
    "number: ",
    "\n",
    "①",
    '{"value": "',
    "1. ",
]
BEHIND = ["", "。", "，谢谢", "是我的", ")", " please", ", ok?", ". ", "\n", '"}', "；", "！"]


def sensitive(rng: random.Random, kind: str | None = None) -> Case:
    """Return a text with sensitive text of a kind, or of any kind."""
    kind = kind or rng.choice([*SENSITIVE])
    before = sentence(rng) + rng.choice(BEFORE)
    behind = rng.choice(BEHIND)
    behind += sentence(rng) if behind else ""
    return Case(kind, f"{before}{SENSITIVE[kind](rng)}{behind}", f"{before}[{kind}]{behind}")


# --- Ordinary text ----------------------------------------------------------------------------------------------------


def chinese(rng: random.Random) -> str:
    return "，".join(rng.sample(PHRASES, rng.randrange(1, 4))) + "。"


def english(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randrange(4, 14))) + rng.choice([". ", "? ", ", ", ": ", "\n"])


def sentence(rng: random.Random) -> str:
    return rng.choice([chinese, english])(rng)


def dates(rng: random.Random) -> str:
    day = date(1950, 1, 1) + timedelta(days=rng.randrange(28_000))
    time = f"{rng.randrange(24):02}:{rng.randrange(60):02}:{rng.randrange(60):02}"
    shape = rng.choice(["{:%Y-%m-%d}", "{:%Y/%m/%d}", "{:%Y.%m.%d}", "{:%Y年%m月%d日}", "{:%d %b %Y}", "{:%Y%m%d}"])
    return shape.format(day) + rng.choice(["", f" {time}", f"T{time}.{digits(rng, 3)}Z", f" {time[:5]} - {time[3:]}"])


def money(rng: random.Random) -> str:
    amount = rng.randrange(1, 10 ** rng.randrange(2, 12))
    return rng.choice(
        [
            f"¥{amount}",
            f"${amount:,}.{digits(rng, 2)}",
            f"{amount:,}元",
            f"{amount}元",
            f"{amount / 100:.2f}万",
            f"￥{amount}",
        ]
    )


def order(rng: random.Random) -> str:
    day = f"{date(2018, 1, 1) + timedelta(days=rng.randrange(3000)):%Y%m%d}"
    return rng.choice(
        [
            day + digits(rng, rng.randrange(4, 13)),
            f"SO-{day}-{digits(rng, 4)}",
            f"SF1{digits(rng, 12)}",
            f"JD{digits(rng, 11)}",
            "1" + digits(rng, rng.choice([17, 18])),  # ids of distributed counters
            digits(rng, rng.choice([6, 7, 8, 9, 10, 12, 14])),
            f"No. {digits(rng, 5)}-{digits(rng, 3)}",
        ]
    )


def version(rng: random.Random) -> str:
    parts = [str(rng.randrange(30)) for _ in range(4)]
    return rng.choice(
        [
            "v" + ".".join(parts[:3]),
            f"version {'.'.join(parts)}",
            f"版本{'.'.join(parts)}",
            f"Chrome/1{parts[0]}.0.0.0",
            f"10.0.19{digits(rng, 3)}.{digits(rng, 4)}",
            f"react@{'.'.join(parts[:3])}",
            f"§ {rng.randrange(1, 10)}.{rng.randrange(1, 10)}.{rng.randrange(1, 10)}.{rng.randrange(1, 10)} ",
            f"python>=3.{parts[1]},<4.0",
        ]
    )


def like_a_phone(rng: random.Random) -> str:
    return rng.choice(
        [
            f"010-{digits(rng, 8)}",
            f"0755 {digits(rng, 8)}",
            f"400-{digits(rng, 3)}-{digits(rng, 4)}",
            rng.choice(["95588", "10086", "12306", "110"]),
            f"+1 (415) {digits(rng, 3)}-{digits(rng, 4)}",
            f"+44 20 {digits(rng, 4)} {digits(rng, 4)}",
            f"QQ{digits(rng, 9)}",
            "12" + digits(rng, 9),
            f"978-7-{digits(rng, 3)}-{digits(rng, 5)}-{digits(rng, 1)}",
        ]
    )


def numbers(rng: random.Random) -> str:
    several = [str(rng.randrange(10 ** rng.randrange(1, 5))) for _ in range(rng.randrange(2, 8))]
    return rng.choice(
        [
            " ".join(several),
            ", ".join(several),
            " | ".join(several),
            "\n".join(several),
            " ".join(str(year) for year in range(2018, 2018 + len(several))),
            "1 2 3 4 5 6 7 8 9 10 11 12 13",
            "3.14159265358979",
            f"{rng.random():.11f} {rng.random()}",
            f"{rng.uniform(-90, 90):.6f}, {rng.uniform(-180, 180):.6f}",
            f"{rng.randrange(5)}:{rng.randrange(5)}",
            f"{rng.random():.1%} ± {rng.random():.2e}",
            f"{1_500_000_000 + rng.getrandbits(28)}",
            f"{1_500_000_000_000 + rng.getrandbits(38)}",
        ]
    )


def code(rng: random.Random) -> str:
    hexes = "".join(rng.choices("0123456789abcdef", k=64))
    uuid = f"{hexes[:8]}-{hexes[8:12]}-4{hexes[12:15]}-a{hexes[15:18]}-{hexes[18:30]}"
    return rng.choice(
        [
            f"commit {hexes[:7]}",
            f"sha256:{hexes}",
            f"id={uuid}",
            "@app.route('/users/<int:id>')\ndef show(id):\n    return users[id]",
            "y = x @ w.weight + self.bias",
            "std::vector<std::string> a; ns::b::c(1, 2);",
            "git clone git@github.com:team/project.git",
            "curl http://127.0.0.1:5010/health && ping 0.0.0.0 255.255.255.0 ::1",
            ".sk-loading-spinner-container-inner { color: #1a2b3c; margin: 0 auto }",
            f"mac 00:1b:{hexes[:2]}:{hexes[2:4]}:{hexes[4:6]}:{hexes[6:8]}",
            "for (int i = 0; i < 10000000; i++) { sum += i; }",
            "import com.example.users.UserService; @Override public void run() {}",
            f"https://example.com/items/{digits(rng, 6)}?page={digits(rng, 2)}&t={digits(rng, 10)}",
            "sk-your-api-key-goes-here-as-text",
            f"#{hexes[:6]} 0x{hexes[:16]} 1e-{digits(rng, 1)}",
            f"listen 80; timeout 30s; size {digits(rng, 3)}MB; a[1:2:3]; t = 12:30:45.123",
        ]
    )


PLAIN = (chinese, english, dates, money, order, version, like_a_phone, numbers, code)


def ordinary(rng: random.Random) -> Case:
    """Return a text without sensitive text."""
    parts = [sentence(rng)]
    for _ in range(rng.randrange(1, 4)):
        parts += [rng.choice(PLAIN)(rng), rng.choice(["", " ", "，", ", ", "。", "\n"]) + sentence(rng)]
    text = "".join(parts)
    return Case("ordinary", text, text)


def cases(seed: int, count: int) -> Iterator[Case]:
    """Yield ``count`` cases, half of them ordinary, the others of every kind in turn."""
    rng = random.Random(seed)  # noqa: S311 - the same cases each time
    kinds = [*SENSITIVE]
    for number in range(count // 2):
        yield ordinary(rng)
        yield sensitive(rng, kinds[number % len(kinds)])


def cut(rng: random.Random, text: str) -> list[str]:
    """Return a text in pieces of 1 to 8 characters."""
    pieces, at = [], 0
    while at < len(text):
        size = rng.randrange(1, 9)
        pieces.append(text[at : at + size])
        at += size
    return pieces
