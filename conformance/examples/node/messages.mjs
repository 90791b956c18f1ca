// Messages: a frame's payload as named fields, and back. Judges what a message says by itself (B-9, R-1, R-4 to R-9,
// S-12, C-7, Q-1); what depends on connection or session is judged elsewhere.
// Fields in memory: number (BigInt beyond 2^53-1), Buffer, string, array of tokens, record as object.

import * as cbor from './cbor.mjs';
import { frame } from './frames.mjs';
import { Refusal, bad } from './refusal.mjs';
import { MESSAGES, RECORDS, TYPES } from './tables.mjs';

function parseType(text) {
  const optional = text.endsWith(', optional');
  const body = optional ? text.slice(0, -10) : text;
  const list = body.match(/^\[(.*)\] (\d+)\.\.(\d+)$/);
  if (list) return { kind: 'list', of: parseType(list[1]), min: Number(list[2]), max: Number(list[3]), optional };
  const [kind, range] = body.split(' ');
  if (!range) return { kind: 'record', record: kind, optional };
  const [low, high = low] = range.split('..');
  const big = BigInt(high) > BigInt(Number.MAX_SAFE_INTEGER);
  return { kind, min: Number(low), max: big ? BigInt(high) : Number(high), optional };
}

const parseTable = (rows) => rows.map(([key, name, type]) => ({ key, name, ...parseType(type) }));
const RECORD = Object.fromEntries(Object.entries(RECORDS).map(([name, rows]) => [name, parseTable(rows)]));
export const FIELDS = Object.fromEntries(Object.entries(MESSAGES).map(([name, rows]) => [name, parseTable(rows)]));
export const fieldsOf = (record) => RECORD[record];
export const NAMES = new Map(Object.entries(TYPES).map(([name, entry]) => [entry.type, name]));
const CLOSED = new Set(['Contract', 'Sampling']); // S-12: no other key, odd or even

export function packTokens(tokens) {
  const bytes = Buffer.alloc(3 * tokens.length);
  tokens.forEach((token, i) => bytes.writeUIntBE(token, 3 * i, 3));
  return bytes;
}

export function unpackTokens(bytes) {
  const tokens = new Array(bytes.length / 3);
  for (let i = 0; i < tokens.length; i++) tokens[i] = bytes.readUIntBE(3 * i, 3);
  return tokens;
}

function within(type, size, what) {
  if (size < type.min || size > type.max) throw bad('R-5', `${what}: ${size} is not within ${type.min} to ${type.max}`);
}

function readValue(type, value, what) {
  switch (type.kind) {
    case 'uint':
      if (typeof value !== 'number' && typeof value !== 'bigint') throw bad('R-5', `${what} is no unsigned integer`);
      within(type, value, what);
      return value;
    case 'bstr':
      if (!Buffer.isBuffer(value)) throw bad('R-5', `${what} is no byte string`);
      within(type, value.length, what);
      return value;
    case 'tstr':
      if (typeof value !== 'string') throw bad('R-5', `${what} is no text`);
      within(type, Buffer.byteLength(value), what);
      return value;
    case 'tokens':
      if (!Buffer.isBuffer(value)) throw bad('R-5', `${what} is no byte string`);
      if (value.length % 3) throw bad('B-9', `${what}: ${value.length} bytes are no multiple of three`);
      within(type, value.length / 3, what);
      return unpackTokens(value);
    case 'list':
      if (!Array.isArray(value)) throw bad('R-5', `${what} is no array`);
      within(type, value.length, what);
      return value.map((entry, i) => readValue(type.of, entry, `${what}[${i}]`));
    default:
      if (!(value instanceof Map)) throw bad('R-5', `${what} is no map`);
      return readFields(RECORD[type.record], value, `${what}.`, CLOSED.has(type.record));
  }
}

function readFields(table, map, where, closed) {
  const fields = {};
  for (const field of table) {
    if (map.has(field.key)) fields[field.name] = readValue(field, map.get(field.key), where + field.name);
    else if (!field.optional) throw bad('R-4', `${where}${field.name} is missing`);
  }
  for (const key of map.keys()) {
    if (table.some((field) => field.key === key)) continue;
    if (closed) throw bad('S-12', `${where} has the key ${key}, which a contract does not have`);
    if (BigInt(key) % 2n === 0n) throw bad('R-1', `${where} has the unknown even key ${key}`);
  }
  return fields;
}

function ascending(list, what) {
  list.forEach((value, i) => {
    if (i && value <= list[i - 1]) throw bad('R-6', `${what}: ${value} after ${list[i - 1]}`);
  });
}

function inVocabulary(tokens, size, what) {
  for (const token of tokens) if (token >= size) throw bad('R-7', `${what}: ${token} is outside a vocabulary of ${size}`);
}

/** one byte for each token; a parent comes before its children. */
function checkTree(fields) {
  const count = fields.tokens.length;
  for (const name of ['parents', 'scores', 'origins']) {
    if (fields[name] && fields[name].length !== count) {
      throw bad('R-8', `${name} has ${fields[name].length} bytes for ${count} tokens`);
    }
  }
  fields.parents?.forEach((parent, i) => {
    if (parent > i) throw bad('R-8', `parents[${i}] is ${parent}`);
  });
}

/** an odd number of different ids. */
function checkGroup(group) {
  if (group.length % 64 !== 32) throw bad('Q-1', `a group of ${group.length} bytes is no odd number of ids`);
  const ids = membersOf(group).map((id) => id.toString('hex'));
  if (new Set(ids).size !== ids.length) throw bad('Q-1', 'a group that names a node twice');
}

export function membersOf(group) {
  const members = [];
  for (let at = 0; at < group.length; at += 32) members.push(group.subarray(at, at + 32));
  return members;
}

function checkTogether(name, fields) {
  if (name === 'HELLO') {
    if (fields.version_min > fields.version_max) throw bad('C-7', 'version_min is above version_max');
    ascending(fields.roles, 'roles');
    ascending(fields.features, 'features');
  }
  if (fields.contract) {
    const { prompt, stop_tokens: stops, vocabulary_size: size } = fields.contract;
    ascending(stops, 'stop_tokens');
    inVocabulary(prompt, size, 'prompt');
    inVocabulary(stops, size, 'stop_tokens');
    if (Array.isArray(fields.committed)) inVocabulary(fields.committed, size, 'committed');
  }
  if (fields.drafters) ascending(fields.drafters.map((entry) => entry.number), 'drafters');
  if (name === 'PROPOSE' || name === 'VERIFY' || name === 'BLOCK') checkTree(fields);
  if (name === 'VERDICT' && fields.token === undefined && fields.finish === undefined) {
    throw bad('R-9', 'neither token nor finish');
  }
  if (fields.group) checkGroup(fields.group);
}

/** {name, fields} of a frame; name null for an unknown odd type, whose payload is only a map. */
export function read(type, payload) {
  const map = cbor.decodeMap(payload);
  const name = NAMES.get(type);
  if (name === undefined) {
    if (type % 2) return { name: null };
    throw new Refusal('message', 'MESSAGE_UNKNOWN', 'R-1', `type 0x${type.toString(16)}`, 'connection');
  }
  return { name, fields: readMap(name, map) };
}

export function readMap(name, map) {
  const fields = readFields(FIELDS[name], map, '', false);
  checkTogether(name, fields);
  return fields;
}

function writeValue(type, value) {
  if (type.kind === 'tokens') return packTokens(value);
  if (type.kind === 'list') return value.map((entry) => writeValue(type.of, entry));
  if (type.kind === 'record') return writeMap(RECORD[type.record], value);
  return value;
}

function writeMap(table, fields) {
  const map = new Map();
  for (const field of table) {
    if (fields[field.name] !== undefined) map.set(field.key, writeValue(field, fields[field.name]));
  }
  return map;
}

export const toMap = (name, fields) => writeMap(FIELDS[name], fields);
export const payloadOf = (name, fields) => cbor.encode(toMap(name, fields));
export const write = (name, channel, fields) => frame(TYPES[name].type, channel, payloadOf(name, fields));
export const encodeContract = (contract) => cbor.encode(writeMap(RECORD.Contract, contract));
