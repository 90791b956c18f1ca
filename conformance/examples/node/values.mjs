// Values of the exec door: bytes as hexadecimal, integers beyond 2^53-1 as decimal strings (IMPLEMENTERS.md).

import { FIELDS, fieldsOf } from './messages.mjs';

/** Any value in memory, as JSON can hold it. */
export function toJson(value) {
  if (typeof value === 'bigint') return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value.toString();
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map(toJson);
  if (value && typeof value === 'object') {
    const out = {};
    for (const [key, entry] of Object.entries(value)) if (entry !== undefined) out[key] = toJson(entry);
    return out;
  }
  return value;
}

export const bytes = (hex) => Buffer.from(hex, 'hex');

export function integer(value) {
  const big = BigInt(value);
  return big <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(big) : big;
}

function valueFromJson(type, value) {
  if (type.kind === 'uint') return integer(value);
  if (type.kind === 'bstr') return bytes(value);
  if (type.kind === 'list') return value.map((entry) => valueFromJson(type.of, entry));
  if (type.kind === 'record') return recordFromJson(type.record, value);
  return value;
}

function fromTable(table, json) {
  const fields = {};
  for (const field of table) {
    if (json[field.name] !== undefined) fields[field.name] = valueFromJson(field, json[field.name]);
  }
  return fields;
}

export const fieldsFromJson = (name, json) => fromTable(FIELDS[name], json);
export const recordFromJson = (record, json) => fromTable(fieldsOf(record), json);

/** A CBOR item as the door shows it. */
export function itemToJson(value) {
  if (typeof value === 'string') return { text: value };
  if (Buffer.isBuffer(value)) return { bytes: value.toString('hex') };
  if (Array.isArray(value)) return { array: value.map(itemToJson) };
  if (value instanceof Map) return { map: [...value].map(([key, entry]) => [toJson(key), itemToJson(entry)]) };
  return { uint: toJson(value) };
}
