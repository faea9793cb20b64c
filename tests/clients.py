"""Generate clients from the OpenAPI document of a running server, and call the server with them: `./dev clients`.

The generators and validators are installed into a temporary folder, from PyPI and npm.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

from tests.client import request
from tests.servers import Server

PYTHON = ("datamodel-code-generator==0.89.0", "httpx", "openapi-python-client==0.29.1", "openapi-spec-validator==0.9.0")
NODE = (
    "@apidevtools/swagger-parser@13.0.0", "@hey-api/openapi-ts@0.95.0", "@types/node@26", "esbuild@0.25.12",
    "oazapfts@7.5.0", "openapi-fetch@0.17.0", "openapi-typescript@7.13.0", "swagger-typescript-api@13.13.0",
    "typescript@5.9.3",
)  # fmt: skip
CALL_PY = """
import json, sys
import httpx
import models
from client import Client
from client.api.chat import chat
from client.api.conversations import read_conversation
from client.models import ChatAnswer, ChatRequest, Problem

url = sys.argv[1]
client = Client(base_url=url)
answer = chat.sync(client=client, body=ChatRequest(message="Hello"))
assert isinstance(answer, ChatAnswer), answer
read = read_conversation.sync(answer.conversation_id, client=client, limit=5)
assert [message.role for message in read.messages.data] == ["user", "assistant"], read
missing = read_conversation.sync(answer.message_id, client=client)
assert isinstance(missing, Problem) and missing.code == "not_found", missing

asked = models.ChatRequest(message="Hello", stream=True).model_dump(mode="json", exclude_unset=True)
blocks = httpx.post(f"{url}/api/chat", json=asked).text.strip().split("\\n\\n")
fields = [dict(line.split(": ", 1) for line in block.split("\\n") if line[0] != ":") for block in blocks]
events = [models.StreamEvent.model_validate(one | {"data": json.loads(one["data"])}).root for one in fields]
assert (events[0].event, events[1].event, events[-1].event) == ("start", "delta", "done"), events
"""
CALL_TS = """
import createClient from "openapi-fetch";
import type { components, paths } from "./types";
import { client as hey } from "./hey/client.gen";
import { listConversations } from "./hey/sdk.gen";

const baseUrl = process.argv[2]!;
const client = createClient<paths>({ baseUrl });
const { data } = await client.POST("/api/chat", { body: { message: "Hello", metadata: { number: 1 } } });
if (!data || !("reply" in data)) throw new Error("no answer");
const path = { conversation_id: data.conversation_id };
const read = await client.GET("/api/conversations/{conversation_id}", { params: { path, query: { limit: 5 } } });
const detail: string | null = read.data!.messages.data[1]!.error_detail;
if (detail !== null) throw new Error(detail);
const change = await client.PATCH("/api/conversations/{conversation_id}", { params: { path }, body: { pinned: true } });
if (!change.data!.pinned) throw new Error("not pinned");
const told = (event: components["schemas"]["StreamEvent"]) => (event.event === "delta" ? event.data.text : event.event);
if (told({ event: "delta", data: { text: "a" } }) !== "a") throw new Error("no text");
hey.setConfig({ baseUrl });
const list = await listConversations({ query: { limit: 1 } });
if (list.data!.data.length !== 1) throw new Error("not listed");
"""
PARSE = 'import P from "@apidevtools/swagger-parser"; await P.validate("api.json");'
TSC = "--noEmit --strict --skipLibCheck --module esnext --target es2022 --moduleResolution bundler --types node"


def python_commands(folder: Path, url: str) -> Iterator[str]:
    """Yield the commands that validate the document, generate Python clients, and call the server with them."""
    venv.create(folder / "venv", with_pip=True)
    programs = folder / "venv" / "bin"
    yield f"{programs}/pip install --quiet {' '.join(PYTHON)}"
    yield f"{programs}/openapi-spec-validator api.json"
    yield f"{programs}/openapi-python-client generate --path api.json --output-path client --meta none"
    kind = "--input-file-type openapi --output-model-type pydantic_v2.BaseModel"
    yield f"{programs}/datamodel-codegen --input api.json {kind} --output models.py"
    (folder / "call.py").write_text(CALL_PY)
    yield f"{programs}/python call.py {url}"


def node_commands(folder: Path, url: str) -> Iterator[str]:
    """Yield the same for TypeScript."""
    (folder / "package.json").write_text('{"type": "module"}')
    yield f"npm install --silent --no-audit --no-fund {' '.join(NODE)}"
    (folder / "parse.js").write_text(PARSE)
    yield "node parse.js"
    yield "npx openapi-typescript api.json -o types.d.ts"
    yield "npx openapi-ts -i api.json -o hey -c @hey-api/client-fetch"
    yield "npx oazapfts api.json oazapfts.ts"
    yield "npx swagger-typescript-api generate -p api.json -o swagger"
    (folder / "call.ts").write_text(CALL_TS)
    yield f"npx tsc call.ts oazapfts.ts swagger/Api.ts {TSC}"
    yield "npx esbuild call.ts --bundle --platform=node --format=esm --outfile=call.js"
    yield f"node call.js {url}"


def main() -> int:
    """Run all commands. Return the first non-zero exit status."""
    with tempfile.TemporaryDirectory() as name, Server("waitress", Path(name, "server")) as server:
        folder = Path(name, "clients")
        folder.mkdir()
        (folder / "api.json").write_bytes(request("GET", f"{server.url}/openapi-3.1.json").body)
        makers = [python_commands, *([node_commands] if shutil.which("npm") else [])]
        for command in (command for maker in makers for command in maker(folder, server.url)):
            sys.stdout.write(f"+ {command}\n")
            sys.stdout.flush()
            if status := subprocess.run(command.split(), cwd=folder, check=False).returncode:
                return status
    return 0


if __name__ == "__main__":
    sys.exit(main())
