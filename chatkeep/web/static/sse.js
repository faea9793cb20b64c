/** Read server-sent events from a fetch response, which unlike EventSource can POST and has a status. */

/** The connection was lost, or was silent for longer than the ping interval allows. */
export class Dropped extends Error {}

/** Yield each event as `{type, id, data}`. Throws `Dropped` after `silence` milliseconds without data. */
export async function* readEvents(body, silence) {
  let type = '';
  let id = '';
  let data = [];
  for await (const line of readLines(body, silence)) {
    if (line === '') {
      if (data.length) yield { type: type || 'message', id, data: JSON.parse(data.join('\n')) };
      type = '';
      data = [];
      continue;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === 'event') type = value;
    else if (field === 'id') id = value;
    else if (field === 'data') data.push(value);
  }
}

async function* readLines(body, silence) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await readWithin(reader, silence);
      if (done) return;
      // A carriage return at the very end may be the first half of a line break.
      const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop();
      yield* lines;
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function readWithin(reader, silence) {
  let timer;
  const silent = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Dropped('silence')), silence);
  });
  try {
    return await Promise.race([reader.read(), silent]);
  } catch (error) {
    throw error.name === 'AbortError' ? error : new Dropped(error.message);
  } finally {
    clearTimeout(timer);
  }
}
