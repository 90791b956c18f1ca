// TM-1, the test model (SPEC.md section 18), and what a node that has it offers (S-11, S-16).

import { createHash } from 'node:crypto';
import { choose } from './coupled.mjs';
import { DOMAIN, philox } from './philox.mjs';
import { worthless } from './refusal.mjs';

const MASK = 2n ** 64n - 1n;
const KEYS = { v: [8n, 1048576n, 4096n], s: [0n, MASK, 0n], e: [0n, 65536n, 0n], a: [0n, 65536n, 65536n], d: [0n, 2n ** 32n - 1n, 0n] };
const sha256 = (data) => createHash('sha256').update(data).digest();

/** Model from its name, canonical or not (S-TM1-1). */
export function model(name) {
  const values = {};
  const text = name.match(/^tm-1(?::(.*))?$/s);
  if (!text) throw worthless('S-TM1-1', `${JSON.stringify(name)} is no TM-1 name`);
  for (const part of text[1] === undefined ? [] : text[1].split(',')) {
    const [, key, digits] = part.match(/^([vsead])=(0|[1-9][0-9]*)$/) ?? [];
    if (!key || key in values) throw worthless('S-TM1-1', `${JSON.stringify(part)} in a model's name`);
    const value = BigInt(digits);
    if (value < KEYS[key][0] || value > KEYS[key][1] || (key === 'v' && value % 4n)) {
      throw worthless('S-TM1-1', `${part} is out of range`);
    }
    values[key] = value;
  }
  for (const key of Object.keys(KEYS)) values[key] ??= KEYS[key][2];
  const { v, s, e, a, d } = values;
  const shown = Object.keys(KEYS).filter((key) => key === 'v' || key === 's' || values[key] !== KEYS[key][2]);
  const canonical = `tm-1:${shown.map((key) => `${key}=${values[key]}`).join(',')}`;
  return { name: canonical, v: Number(v), s, e: Number(e), a: Number(a), d: Number(d), target: a === 65536n };
}

// S-TM1-2.
export const START = 0x243f6a8885a308d3n;
export function step(context, token) {
  const c = ((context ^ BigInt(token)) * 0x9e3779b97f4a7c15n) & MASK;
  return c ^ (c >> 32n);
}
export const contextOf = (tokens, from = START) => tokens.reduce(step, from);

function rowOf({ v, e }, w) {
  const first = 4 + 4 * Math.floor((w[0] * (v / 4 - 1)) / 2 ** 32);
  const row = [0, 1, 2, 3].map((j) => [first + j, ((w[1] >>> (8 * j)) & 255) / 16]);
  return w[2] % 65536 < e ? [[0, 24], ...row] : row;
}

/** Row after a prefix with that context, by ascending token (S-TM1-3, S-TM1-4). */
export function row(m, context) {
  if (!m.target) {
    const w = philox(m.s, DOMAIN.DRAFTER, context, m.d);
    if (w[3] % 65536 >= m.a) return rowOf(m, w);
  }
  return rowOf(m, philox(m.s, DOMAIN.TARGET, context, 0));
}

/** The model alone: the next `count` tokens. */
export function stream(m, prompt, sampling, count) {
  let context = contextOf(prompt);
  const tokens = [];
  while (tokens.length < count) {
    const { token } = choose(row(m, context), sampling, prompt.length + tokens.length);
    tokens.push(token);
    context = step(context, token);
  }
  return tokens;
}

/** S-11: the digest over all entries, each behind its length. */
export function vocabularyDigest(entries) {
  const hash = createHash('sha256');
  const length = Buffer.alloc(4);
  for (const entry of entries) {
    length.writeUInt32BE(entry.length);
    hash.update(length).update(entry);
  }
  return hash.digest();
}

const vocabularies = new Map();
export function vocabulary(v) {
  if (!vocabularies.has(v)) {
    vocabularies.set(v, vocabularyDigest(Array.from({ length: v }, (_, id) => Buffer.from(String(id)))));
  }
  return vocabularies.get(v);
}

/** What a node offers of this model (S-16). */
export function offer(m) {
  const text = `weights=none\ndtype=integers\nkernels=tm-1 ${m.name}\nthreads=any\n`;
  return { vocabulary_size: m.v, vocabulary_digest: vocabulary(m.v), profile_text: text, profile: sha256(text) };
}
