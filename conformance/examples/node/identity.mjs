// Node ids, their text form, statements and signatures (SPEC.md section 4.2).

import crypto from 'node:crypto';
import { sha256 } from './prefix.mjs';
import { worthless } from './refusal.mjs';

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567';
const P256 = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex');
const ED25519 = Buffer.from('302a300506032b6570032100', 'hex');

function checkOf(values) {
  const sum = values.reduce((total, value, i) => (total + (i + 1) * value) % 1021, 0);
  return [sum >> 5, sum & 31];
}

/** Checked base32 (N-3). */
export function checked(bytes) {
  const values = [];
  let [bits, held] = [0, 0];
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    held += 8;
    while (held >= 5) {
      held -= 5;
      values.push((bits >> held) & 31);
    }
    bits &= (1 << held) - 1;
  }
  if (held) values.push((bits << (5 - held)) & 31);
  return [...values, ...checkOf(values)].map((value) => ALPHABET[value]).join('');
}

/** Bytes of checked base32 (N-4); white space, hyphens and case are of no account. */
export function readChecked(text) {
  const values = [...text.replace(/[-\s]/g, '')].map((c) => ALPHABET.indexOf(c >= 'A' && c <= 'Z' ? c.toLowerCase() : c));
  if (values.includes(-1)) throw worthless('N-4', 'a character that base32 does not have');
  if (values.length < 2) throw worthless('N-4', 'too short');
  const body = values.slice(0, -2);
  const [upper, lower] = checkOf(body);
  if (values.at(-2) !== upper || values.at(-1) !== lower) throw worthless('N-4', 'wrong check characters');
  const bytes = [];
  let [bits, held] = [0, 0];
  for (const value of body) {
    bits = (bits << 5) | value;
    held += 5;
    if (held >= 8) {
      held -= 8;
      bytes.push((bits >> held) & 255);
    }
    bits &= (1 << held) - 1;
  }
  if (held >= 5) throw worthless('N-4', 'a character more than the bytes need');
  if (bits) throw worthless('N-4', 'spare bits that are not zero');
  return Buffer.from(bytes);
}

export const nodeIdText = (id) => checked(id).match(/.{6}/g).join('-');

export function readNodeId(text) {
  const id = readChecked(text);
  if (id.length !== 32) throw worthless('N-4', `${id.length} bytes are no node id`);
  return id;
}

/** A public key, if its SubjectPublicKeyInfo is canonical (N-2). */
export function publicKey(spki) {
  const p256 = spki.length === 91 && spki.subarray(0, P256.length).equals(P256);
  const ed25519 = spki.length === 44 && spki.subarray(0, ED25519.length).equals(ED25519);
  if (!p256 && !ed25519) throw worthless('N-2', 'no canonical key of P-256 or Ed25519');
  try {
    return crypto.createPublicKey({ key: spki, format: 'der', type: 'spki' }); // is the point on the curve?
  } catch (error) {
    throw worthless('N-2', error.message);
  }
}

/** N-1. */
export function nodeId(spki) {
  publicKey(spki);
  return sha256(spki);
}

/** What is signed (N-6). */
export function statement(context, payload) {
  const name = Buffer.from(context, 'utf8');
  if (!name.length || name.length > 255 || name.some((byte) => byte > 127)) {
    throw worthless('N-6', 'a context has 1 to 255 characters of ASCII');
  }
  return Buffer.concat([Buffer.from('DSDP statement v1\0'), Buffer.from([name.length]), name, payload]);
}

/** ECDSA by the P-256 key with that private scalar (N-7). */
export function sign(scalar, message) {
  const pair = crypto.createECDH('prime256v1');
  pair.setPrivateKey(scalar);
  const point = pair.getPublicKey();
  const part = (from) => point.subarray(from, from + 32).toString('base64url');
  const key = { kty: 'EC', crv: 'P-256', x: part(1), y: part(33), d: scalar.toString('base64url') };
  return crypto.sign('sha256', message, crypto.createPrivateKey({ key, format: 'jwk' }));
}

export function verifySignature(spki, message, signature) {
  const key = publicKey(spki);
  try {
    return crypto.verify(key.asymmetricKeyType === 'ed25519' ? null : 'sha256', message, key, signature);
  } catch {
    return false; // what is no signature at all is not valid
  }
}
