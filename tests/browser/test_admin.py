"""The admin page shows the metrics of all processes as plots and texts, and updates itself."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.chat import Chat
from tests.browser.conftest import Visit
from tests.http.api import Api, eventually

TITLES = {
    "Turns", "Tokens", "Provider errors", "First token", "Full reply", "Storing a turn", "Cache hits", "In progress",
    "Server processes", "Conversations", "Expired", "Database",
}  # fmt: skip
JOB = {
    "id": "1", "status": "running", "format": "ndjson", "compression": "zstd", "size": 0,
    "created_at": "2026-11-24T11:58:00.000Z",
    "progress": {"conversations": 30, "messages": 90, "total_conversations": 120},
}  # fmt: skip


def workers(api: Api) -> list[float | None]:
    """Return the number of processes in each minute."""
    values: list[float | None] = api.request("GET", "/api/admin/series?name=chatkeep_workers").json["lines"][0][
        "values"
    ]
    return values


def opened(chat: Chat) -> Page:
    chat.page.goto(f"{chat.url}/admin")
    return chat.page


def tile(page: Page, name: str) -> Locator:
    return page.locator(f"[data-tile={name}] dd")


def drawn(page: Page) -> None:
    """Wait until every plot shows a drawing, a table, or that there is no data."""
    expect(page.locator("[data-plot]")).to_have_count(len(TITLES))
    expect(tile(page, "turns")).not_to_be_empty()


@pytest.mark.every_engine
def test_plots_have_drawings_and_texts(visit: Visit, api: Api) -> None:
    """Waits for the first measurement: two seconds."""
    assert eventually(lambda: any(workers(api)))
    page = opened(visit())
    drawn(page)
    titles = page.locator("[data-plot] h2").all_inner_texts()
    assert {title.partition(" per ")[0] for title in titles} == TITLES
    card = page.locator("[data-plot=workers]")
    expect(card.locator("canvas")).to_be_visible()
    card.get_by_text("Show as a table").click()
    expect(card.locator(".scroll tbody .number").first).to_have_text("1")
    expect(tile(page, "generating")).to_contain_text("processes: 1")


# The number of pixels in the colour of the first line, in the light theme.
DOTS = """node => {
    const { data } = node.getContext('2d').getImageData(0, 0, node.width, node.height);
    return [...Array(data.length / 4).keys()].filter((at) =>
        [44, 110, 99, 255].every((value, part) => data[4 * at + part] === value)).length;
}"""


def test_single_sample_is_visible(visit: Visit) -> None:
    chat = visit(color_scheme="light")
    lines = [{"label": "", "values": [None] * 30 + [3] + [None] * 29}]
    series = {"name": "chatkeep_workers", "from": "2026-11-24T11:00:00.000Z", "step": 60, "lines": lines}
    chat.page.route("**/api/admin/series?name=chatkeep_workers*", lambda route: route.fulfill(json=series))
    drawing = opened(chat).locator("[data-plot=workers] canvas")
    expect(drawing).to_be_visible()
    assert drawing.evaluate(DOTS) >= 15


@pytest.mark.parametrize("language", ["C", "en-US@posix"])
def test_plots_are_drawn_in_every_browser_language(visit: Visit, api: Api, language: str) -> None:
    """Waits for the first measurement: two seconds. Browsers can get such a language from the system."""
    assert eventually(lambda: any(workers(api)))
    chat = visit()
    script = (
        f"Object.defineProperty(Navigator.prototype, 'language', {{ get: () => '{language}', configurable: true }})"
    )
    chat.page.add_init_script(script)
    expect(opened(chat).locator("[data-plot=workers] canvas")).to_be_visible()


def test_tables_replace_plots_without_the_library(visit: Visit) -> None:
    page = visit().page
    page.route("**/vendor/uplot.js", lambda route: route.abort())
    with page.expect_console_message(lambda message: "Without uPlot" in message.text):
        page.goto(page.url.partition("#")[0] + "admin")
    drawn(page)
    expect(page.locator("canvas")).to_have_count(0)
    expect(page.locator("[data-plot=workers] details")).to_have_attribute("open", "")


def test_period_is_selected_and_remembered(visit: Visit) -> None:
    page = opened(visit())
    drawn(page)
    with page.expect_request(lambda request: "chatkeep_turns_total" in request.url):
        page.get_by_role("button", name="7 d").click()
    expect(page.locator("[data-plot=turns] small")).to_have_text("per hour")
    page.reload()
    expect(page.get_by_role("button", name="7 d")).to_have_attribute("aria-pressed", "true")


def test_chinese_is_selected_and_remembered(visit: Visit) -> None:
    page = opened(visit(locale="zh-CN"))
    expect(page.get_by_role("heading", name="运行状况")).to_be_visible()
    page.get_by_role("button", name="切换到英文").click()
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Operations")).to_be_visible()


def test_exports_show_their_progress(visit: Visit) -> None:
    page = visit().page
    page.route("**/api/exports*", lambda route: route.fulfill(json={"object": "list", "data": [JOB]}))
    page.goto(page.url.partition("#")[0] + "admin")
    row = page.locator("#jobs tbody tr")
    expect(row).to_contain_text("30 / 120")
    expect(row).to_contain_text("ndjson, zstd")
    expect(row.locator("progress")).to_have_js_property("value", 30)


def test_exports_are_hidden_if_there_are_none(visit: Visit) -> None:
    page = visit().page
    page.route("**/api/exports*", lambda route: route.fulfill(status=404, json={"code": "not_found"}))
    page.goto(page.url.partition("#")[0] + "admin")
    drawn(page)
    expect(page.locator("#jobs")).to_be_hidden()
    expect(page.get_by_role("alert")).to_be_hidden()


def test_page_reports_an_unreachable_server_and_recovers(visit: Visit) -> None:
    """Waits for the next update of the page: ten seconds."""
    page = visit().page
    page.clock.install()
    page.goto(page.url.partition("#")[0] + "admin")
    drawn(page)
    page.route("**/api/admin/summary", away)
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("alert")).to_contain_text("These numbers are out of date.")
    page.unroute("**/api/admin/summary")
    page.clock.fast_forward(11_000)
    expect(page.get_by_role("alert")).to_be_hidden()


def away(route: Route) -> None:
    problem = {"code": "database_unavailable", "title": "The database is not available", "detail": "", "errors": []}
    route.fulfill(status=503, body=json.dumps(problem), content_type="application/problem+json")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_admin_page_fits_a_phone(visit: Visit, scheme: str) -> None:
    page = opened(visit(viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme))
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    sizes = [box["height"] for button in page.get_by_role("button").all() if (box := button.bounding_box())]
    assert min(sizes) >= 40


def test_hidden_page_sends_no_requests(visit: Visit) -> None:
    page = visit().page
    page.clock.install()
    page.goto(page.url.partition("#")[0] + "admin")
    drawn(page)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate("Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true })")
    page.clock.fast_forward(60_000)
    assert asked == []
