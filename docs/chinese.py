"""The words of the API's reference in Chinese, beside those that the server itself says (`chatkeep.chinese`)."""

from __future__ import annotations

from chatkeep.chinese import TEXTS

missing: set[str] = set()
API = """\
# API 接口文档

由 `./dev docs` 生成；在此处的修改会丢失。

每个接口都有调用示例、返回结果和错误。同样的内容见 [openapi.json](openapi.json)（OpenAPI 3.2）；运行中的服务器在 `/openapi.json`
提供它，并可在 `/docs` 试用。英文版见 [api.md](api.md)。

所有内容都是 UTF-8 编码的 JSON。id 是 UUID，时间是 RFC 3339 格式的 UTC 时间。未知的字段或参数会被拒绝。每个错误都是一个
[Problem](#problem)（RFC 9457，`application/problem+json`），每个响应都带有 `X-Request-Id`。错误的文字为英文，`Accept-Language`
要求时为中文；错误代码始终相同。

示例中的 `CONVERSATION`、`MESSAGE`、`QUESTION` 是 shell 变量，取自之前的返回结果：对话、它的最后一条回复、它的第一个问题。
返回结果加了换行，`…` 表示省略的内容。

"""
WORDS = {
    # The words of the page itself.
    "Routes": "接口",
    "Shapes": "数据结构",
    "parameter": "参数",
    "in": "位置",
    "type": "类型",
    "what it is": "说明",
    "field": "字段",
    "status": "状态码",
    "answer": "返回",
    "path": "路径",
    "query": "查询",
    "header": "请求头",
    "The body:": "请求体：",
    "Required.": "必填。",
    "Optional.": "可选。",
    "May be missing.": "可能没有。",
    "One of {}.": "取值之一：{}。",
    "`{}` by default.": "默认 `{}`。",
    "array of {}": "{} 的数组",
    "a stream of the events {}: {}": "事件流，事件为 {}：{}",
    "up to {:,}": "最多 {:,}",
    "at least {}": "至少 {}",
    "{} to {:,}": "{} 到 {:,}",
    "characters": "个字符",
    " or ": " 或 ",
    ", or ": "，或 ",
    ", ": "，",
    ": ": "：",
    ".": "。",
    "OK": "成功",
    "No Content": "无内容",
    "UUID": "UUID",
    "string": "字符串",
    "integer": "整数",
    "number": "数字",
    "boolean": "布尔值",
    "object": "对象",
    "null": "null",
    "chat": "聊天",
    "conversations": "对话",
    "exports": "导出",
    "health": "健康检查",
    "documents": "文档",
    # Turns.
    "Take a turn.": "进行一轮对话。",
    'Without `conversation_id` a conversation is created. The answer is one JSON object, or with `"stream": true` (or `Accept: text/event-stream`) a stream of events whose deltas, joined, are the stored reply.': '不带 `conversation_id` 时新建对话。返回一个 JSON 对象；带 `"stream": true`（或 `Accept: text/event-stream`）时返回事件流，其中各 delta 连起来就是保存的回复。',
    "Repeats of a request with the same key get the first one's reply, for 24 hours.": "24 小时内，带相同键的重复请求得到第一次的回复。",
    "What the user says.": "用户说的话。",
    "A UUIDv7.": "UUIDv7。",
    "Answer with a stream of events.": "以事件流返回。",
    "The model that answers.": "回答的模型。",
    "The system prompt, sent before the messages.": "系统提示词，在消息之前发送。",
    "How long the reply may grow.": "回复的最大长度。",
    "Whether an answer that was given to the same prompt before may be given again.": "是否可以重复使用之前对相同提示词的回答。",
    "What becomes of the reply when the client goes away.": "客户端离开后如何处理回复：继续或停止。",
    "Anything that the application wants to keep here, up to 16 KiB.": "应用想保存在这里的任何内容，最多 16 KiB。",
    "Seconds that the conversation is kept after its last activity.": "最后一次活动之后对话保留的秒数。",
    "start, then delta (its id counts characters), at last done or error; a comment after 5 s of silence.": "先是 start，然后是 delta（其 id 是字符数），最后是 done 或 error；每静默 5 秒发送一行注释。",
    "Generate a reply anew.": "重新生成一条回复。",
    "The new reply is a sibling of the old one, which stays; the current branch ends with the new one.": "新回复与旧回复并列，旧回复保留；当前分支以新回复结尾。",
    "Say something else in place of a user message.": "编辑一条用户消息。",
    "The new message is a sibling of the old one, which stays with all that followed it; the current branch goes on from the new one.": "新消息与旧消息并列，旧消息及其后的内容都保留；当前分支从新消息继续。",
    "Follow or resume a reply.": "跟随或续接一条回复。",
    "The events are those of `POST /api/chat`, from `after` characters of the text on. A finished reply is sent at once; 204 tells an EventSource that has seen the end to stay away.": "事件与 `POST /api/chat` 相同，从文字的第 `after` 个字符之后开始。已完成的回复会一次发完；204 告诉已看到结尾的 EventSource 不必再来。",
    "The last event's id, as EventSource sends it; counts like `after`.": "EventSource 发送的最后一个事件 id；含义与 `after` 相同。",
    "Characters of the reply's text that are known already.": "已经收到的回复字符数。",
    "Stop the running reply.": "停止正在生成的回复。",
    "What was shown stays, with the status `stopped`. Without a running reply nothing happens.": "已显示的内容保留，状态为 `stopped`。没有正在生成的回复时什么也不会发生。",
    "A whole reply.": "完整的回复。",
    "What the model thought, where it says so.": "模型的思考过程（如果提供）。",
    "The first event of a stream.": "流的第一个事件。",
    "A piece of the reply.": "回复的一个片段。",
    "The last event of a stream.": "流的最后一个事件。",
    "Whether a reply was being generated and is stopped now.": "是否有正在生成的回复被停止。",
    "Tokens as the provider counted them.": "模型服务统计的 token 数。",
    # Conversations.
    "List conversations, those with the newest activity first.": "列出对话，最近活动的在前。",
    "How many items to return at most.": "最多返回多少项。",
    "Begin behind the item with this id.": "从该 id 之后开始。",
    "By activity; desc is newest first.": "按活动时间排序；desc 为最新的在前。",
    "By time; asc is oldest first.": "按时间排序；asc 为最早的在前。",
    "Keeps those whose title or text contains it.": "只保留标题或文字包含它的对话。",
    "Read a conversation with its messages.": "读取一个对话及其消息。",
    "`limit`, `after` and `order` choose the messages; `messages.last_id` is the `after` of the next page.": "`limit`、`after`、`order` 选择消息；`messages.last_id` 是下一页的 `after`。",
    "Change a conversation's title, system prompt, time to live, pin, metadata or current branch.": "修改对话的标题、系统提示词、保留时间、置顶、元数据或当前分支。",
    "The conversation's title.": "对话的标题。",
    "A pinned conversation does not expire.": "置顶的对话不会过期。",
    "Any message of the branch that becomes the current one.": "将成为当前分支的那个分支上的任意一条消息。",
    "Delete a conversation with its messages. A reply that is being generated ends.": "删除对话及其消息。正在生成的回复会结束。",
    "A conversation without its messages.": "对话，不含消息。",
    "A conversation with a page of its messages.": "对话及一页消息。",
    "A page of conversations.": "一页对话。",
    "A page of messages.": "一页消息。",
    "A user message or a reply.": "用户消息或回复。",
    "Counts the conversation's messages from 1.": "对话中消息的序号，从 1 开始。",
    "The code of the problem that ended the reply.": "使回复结束的问题代码。",
    "All messages with the same parent, this one included.": "同一父消息下的所有消息，包括本条。",
    "The last message of the current branch.": "当前分支的最后一条消息。",
    "What was deleted.": "被删除的内容。",
    "Who a message is from.": "消息来自谁。",
    "Where a reply stands; every status but ``generating`` is final.": "回复所处的状态；除 ``generating`` 外都是最终状态。",
    "RFC 3339 in UTC with milliseconds.": "RFC 3339 格式的 UTC 时间，精确到毫秒。",
    "RFC 3339 in UTC with microseconds.": "RFC 3339 格式的 UTC 时间，精确到微秒。",
    # Exports.
    "Export a conversation as a file.": "把一个对话导出为文件。",
    "`json` and `ndjson` lose nothing: every message of the tree with all its fields, and times to the microsecond; the last line tells how much there is and the SHA-256 of every byte before that line. `csv` has a row for each message; a cell that a spreadsheet could run as a formula gets a `'` in front. `md` and `openai` (JSON lines for fine-tuning) hold the current branch, `openai` only turns whose reply is complete. Replies are marked as AI generated, in `openai` by their role alone. The file is written while it is read: without the last line of `json` and `ndjson`, or where the connection breaks, it is not whole.": "`json` 和 `ndjson` 不丢失任何内容：包含消息树中的每条消息及其所有字段，时间精确到微秒；最后一行说明数量以及该行之前所有字节的 SHA-256。`csv` 每条消息一行；可能被表格软件当作公式执行的单元格前会加上 `'`。`md` 和 `openai`（用于微调的 JSON 行）只包含当前分支，`openai` 只包含回复完整的轮次。回复标有“AI 生成”，在 `openai` 中仅以角色区分。文件边读边写：`json` 和 `ndjson` 没有最后一行，或连接中断时，文件不完整。",
    "Export all conversations as a file.": "把所有对话导出为文件。",
    "What to write.": "导出格式。",
    "`zstd` or `gzip` compress the file on its way.": "`zstd` 或 `gzip` 在传输中压缩文件。",
    "A day in UTC, or a time with its offset (RFC 3339; a + is written %2B); it is part of the range.": "UTC 日期，或带时区偏移的时间（RFC 3339；+ 写作 %2B）；包含在范围内。",
    "A conversation as an export has it; in `ndjson` its messages are the lines that follow.": "导出中的对话；在 `ndjson` 中其消息是随后的各行。",
    "A message as an export has it; in `ndjson` it also has a `conversation_id`.": "导出中的消息；在 `ndjson` 中还带有 `conversation_id`。",
    "Whether it is on the conversation's current branch.": "是否在对话的当前分支上。",
    "True for replies.": "回复为 true。",
    "The last line of an export, which stands alone in both JSON formats.": "导出的最后一行，在两种 JSON 格式中都独占一行。",
    "Of every byte before this line.": "该行之前所有字节的哈希。",
    "Conversations with all of their messages.": "对话及其全部消息。",
    # Health and documents.
    "Tell how the server is.": "说明服务器的状况。",
    "Tell that the process is up.": "说明进程在运行。",
    "Tell whether the database takes transactions; the provider is not called.": "说明数据库能否执行事务；不会调用模型服务。",
    "How the server is.": "服务器的状况。",
    "The process is up.": "进程在运行。",
    "How this process's cache has served since it began.": "该进程启动以来缓存的使用情况。",
    "Return the API's document, as OpenAPI 3.2.": "返回 API 文档（OpenAPI 3.2）。",
    "An error as RFC 9457 has it.": "RFC 9457 格式的错误。",
    "Stable; meant for programs.": "固定不变，供程序使用。",
    "What is wrong with one field.": "某个字段的错误。",
}


def say(text: str) -> str:
    """Return a text of the reference in Chinese; what has no translation is noted in `missing`."""
    found = WORDS.get(text) or TEXTS.get(text)
    if text and found is None:
        missing.add(text)
    return found or text
