"""The browser's EventSource gets every delta of a reply, and does not reconnect after the end."""

from __future__ import annotations

from tests.browser.chat import Chat
from tests.http.api import Api
from tests.upstream import reply_to

FOLLOW = """path => new Promise((resolve) => {
    const seen = { text: '', deltas: 0, opened: 0 };
    const source = new EventSource(path);
    source.addEventListener('start', () => (seen.opened += 1));
    source.addEventListener('delta', (event) => {
        seen.text += JSON.parse(event.data).text;
        seen.deltas += 1;
    });
    source.addEventListener('done', () => (seen.status = 'done'));
    // Without a status in between: the end of the stream (state 0), then the refusal to come back (state 2).
    source.addEventListener('error', () => source.readyState === EventSource.CLOSED && resolve(seen));
})"""


def test_eventsource_gets_every_delta_and_does_not_reconnect_after_the_end(chat: Chat, api: Api) -> None:
    """Waits two seconds longer than an EventSource does before it reconnects."""
    with api.running("Slowly #n=30,r=30,seed=8#") as turn:
        path = f"/api/conversations/{turn.id}/messages/{turn.start['message_id']}/stream"
    statuses: list[int] = []
    chat.page.on("response", lambda response: statuses.append(response.status) if path in response.url else None)
    seen = chat.page.evaluate(FOLLOW, path)
    chat.page.wait_for_timeout(2000)
    assert statuses == [200, 204]
    assert (seen["opened"], seen["status"], seen["text"]) == (1, "done", reply_to("#n=30,seed=8#"))
    assert seen["deltas"] > 10
