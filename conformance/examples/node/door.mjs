// The exec door (conformance/IMPLEMENTERS.md): one request a line on standard input, one answer a line on standard output.

import * as cbor from './cbor.mjs';
import { FUNCTIONS } from './compute.mjs';
import { Splitter } from './frames.mjs';
import * as messages from './messages.mjs';
import { Refusal } from './refusal.mjs';
import { MAX_PAYLOAD } from './registry.mjs';
import { bytes, fieldsFromJson, itemToJson, toJson } from './values.mjs';
import { replay } from './replay.mjs';
import { LIVE_ROLES, reset, start, stop } from './live.mjs';

class Unsupported extends Error {}

function splitAll(data, limit, end) {
  const splitter = new Splitter();
  splitter.push(data);
  const frames = [];
  for (let next = splitter.next(limit); next; next = splitter.next(limit)) frames.push(next);
  if (end) splitter.end();
  return { frames, rest: splitter.size };
}

function decode(request) {
  const data = bytes(request.bytes);
  if (request.layer === 'cbor') return { item: itemToJson(cbor.decode(data)) };
  if (request.layer === 'frame') return splitAll(data, request.max_payload ?? MAX_PAYLOAD, request.end ?? true);
  if (request.layer !== 'message') throw new Unsupported(`layer ${request.layer}`);
  const { frames } = splitAll(data, MAX_PAYLOAD, true);
  if (frames.length !== 1) throw new Refusal('frame', 'FRAME_MALFORMED', 'F-1', `${frames.length} frames`);
  const [{ type, channel, payload }] = frames;
  const { name, fields } = messages.read(type, payload);
  return { message: name ? { type: name, channel, fields } : { type: 'ignored', channel } };
}

const VERBS = {
  describe: () => ({
    door: 1,
    name: 'dsdp-node-example',
    version: '0.1',
    spec: 1,
    language: `Node.js ${process.versions.node}`,
    roles: LIVE_ROLES,
    supports: ['decode', 'encode', 'replay', ...(LIVE_ROLES.length ? ['start'] : []), ...Object.keys(FUNCTIONS)],
  }),
  decode,
  encode: ({ type, channel, fields }) => ({ bytes: messages.write(type, channel, fieldsFromJson(type, fields)) }),
  compute: (request) => {
    const compute = FUNCTIONS[request.function];
    if (!compute) throw new Unsupported(`function ${request.function}`);
    return compute(request.input);
  },
  replay: (request) => replay(request.transcript),
  start: (request) => start(request),
  stop: (request) => stop(request.node, request.wait_ms),
  reset: () => reset(),
};

async function answer(request) {
  try {
    const verb = VERBS[request.verb];
    if (!verb) return { unsupported: `verb ${request.verb}` };
    return { ok: toJson(await verb(request)) };
  } catch (error) {
    if (error instanceof Unsupported) return { unsupported: error.message };
    if (!(error instanceof Refusal)) {
      process.stderr.write(`${error.stack}\n`);
      return { error: { layer: 'internal', text: String(error.message) } };
    }
    const { layer, code, clause, text } = error;
    return { error: toJson({ layer, code, clause, text }) };
  }
}

// U+2028 and U+2029 are escaped: some readers split lines there.
const line = (value) => JSON.stringify(value).replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);

let waiting = Promise.resolve();
function take(text) {
  const request = JSON.parse(text);
  waiting = waiting.then(async () => {
    process.stdout.write(`${line({ id: request.id, ...(await answer(request)) })}\n`);
  });
}

// Not node:readline, which splits at more than the line feed.
let parts = [];
process.stdin.on('data', (chunk) => {
  let from = 0;
  for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
    parts.push(chunk.subarray(from, at));
    const text = Buffer.concat(parts).toString('utf8');
    parts = [];
    if (text.trim()) take(text);
    from = at + 1;
  }
  if (from < chunk.length) parts.push(chunk.subarray(from));
});
process.stdin.on('end', () => waiting.then(() => reset()).then(() => process.exit(0)));
