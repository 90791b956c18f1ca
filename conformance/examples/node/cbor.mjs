// CBOR in its one encoding (SPEC.md section 8): unsigned integers, byte strings, text, arrays, maps.
// Decoded: number (BigInt beyond 2^53-1), Buffer, string, Array, Map with integer keys.

import { isUtf8 } from 'node:buffer';
import { MAX_DEPTH } from './registry.mjs';
import { Refusal } from './refusal.mjs';

const malformed = (clause, at, text) => new Refusal('cbor', 'CBOR_MALFORMED', clause, `at byte ${at}: ${text}`);
const sloppy = (clause, at, text) => new Refusal('cbor', 'CBOR_NOT_DETERMINISTIC', clause, `at byte ${at}: ${text}`);

// Head of an item: [major type, argument, next position].
function head(data, at) {
  if (at >= data.length) throw malformed('B-1', at, 'the payload ends within an item');
  const major = data[at] >> 5;
  const info = data[at] & 31;
  if (major === 1 || major >= 6) throw malformed('B-2', at, `major type ${major} does not occur`);
  if (info < 24) return [major, info, at + 1];
  if (info === 31 && major >= 2) throw sloppy('B-4', at, 'indefinite length');
  if (info > 27) throw malformed('B-1', at, `additional information ${info} means nothing`);
  const size = 1 << (info - 24);
  if (at + 1 + size > data.length) throw malformed('B-1', at, 'the payload ends within the head of an item');
  let value;
  if (size === 8) {
    const long = data.readBigUInt64BE(at + 1);
    if (long < 0x100000000n) throw sloppy('B-4', at, `${long} in more bytes than it needs`);
    value = long <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(long) : long;
  } else {
    value = data.readUIntBE(at + 1, size);
    const least = size === 1 ? 24 : size === 2 ? 256 : 65536;
    if (value < least) throw sloppy('B-4', at, `${value} in more bytes than it needs`);
  }
  return [major, value, at + 1 + size];
}

function item(data, start, depth) {
  const [major, argument, next] = head(data, start);
  if (major === 0) return [argument, next];
  const room = data.length - next;
  if (major === 2 || major === 3) {
    if (argument > room) throw malformed('B-1', start, `${argument} bytes announced, ${room} there`);
    const bytes = data.subarray(next, next + argument);
    if (major === 2) return [Buffer.from(bytes), next + argument];
    if (!isUtf8(bytes)) throw malformed('B-7', start, 'text that is not UTF-8');
    return [bytes.toString('utf8'), next + argument];
  }
  if (depth >= MAX_DEPTH) throw malformed('B-5', start, `nested deeper than ${MAX_DEPTH}`);
  if (argument > (major === 5 ? room / 2 : room)) throw malformed('B-1', start, 'more items announced than bytes are left');
  let at = next;
  if (major === 4) {
    const list = [];
    for (let i = 0; i < argument; i++) {
      const [value, after] = item(data, at, depth + 1);
      list.push(value);
      at = after;
    }
    return [list, at];
  }
  const map = new Map();
  let last = -1;
  for (let i = 0; i < argument; i++) {
    const [kind, key, after] = head(data, at);
    if (kind !== 0) throw malformed('B-3', at, 'a map key that is no unsigned integer');
    if (key <= last) throw sloppy('B-3', at, `key ${key} after key ${last}`);
    last = key;
    const [value, behind] = item(data, after, depth + 1);
    map.set(key, value);
    at = behind;
  }
  return [map, at];
}

/** One item and nothing behind it (B-1 to B-7). */
export function decode(data) {
  const [value, end] = item(data, 0, 0);
  if (end !== data.length) throw malformed('B-6', end, `${data.length - end} bytes behind the item`);
  return value;
}

/** A payload: one item, which is a map (B-8). */
export function decodeMap(data) {
  const value = decode(data);
  if (!(value instanceof Map)) throw malformed('B-8', 0, 'the item of a payload is a map');
  return value;
}

function encodeHead(major, value) {
  const lead = major << 5;
  if (value < 24) return Buffer.from([lead | Number(value)]);
  if (value < 0x100) return Buffer.from([lead | 24, Number(value)]);
  let bytes;
  if (value < 0x10000) {
    bytes = Buffer.from([lead | 25, 0, 0]);
    bytes.writeUInt16BE(Number(value), 1);
  } else if (value < 0x100000000) {
    bytes = Buffer.from([lead | 26, 0, 0, 0, 0]);
    bytes.writeUInt32BE(Number(value), 1);
  } else {
    bytes = Buffer.alloc(9, lead | 27);
    bytes.writeBigUInt64BE(BigInt(value), 1);
  }
  return bytes;
}

function write(value, parts) {
  if (typeof value === 'number' || typeof value === 'bigint') {
    parts.push(encodeHead(0, value));
  } else if (Buffer.isBuffer(value)) {
    parts.push(encodeHead(2, value.length), value);
  } else if (typeof value === 'string') {
    const bytes = Buffer.from(value, 'utf8');
    parts.push(encodeHead(3, bytes.length), bytes);
  } else if (Array.isArray(value)) {
    parts.push(encodeHead(4, value.length));
    for (const entry of value) write(entry, parts);
  } else {
    parts.push(encodeHead(5, value.size));
    const entries = [...value].sort((a, b) => (a[0] < b[0] ? -1 : 1));
    for (const [key, entry] of entries) {
      parts.push(encodeHead(0, key));
      write(entry, parts);
    }
  }
}

export function encode(value) {
  const parts = [];
  write(value, parts);
  return Buffer.concat(parts);
}
