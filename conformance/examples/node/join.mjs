// Join tokens, and what authority and newcomer make of JOIN and JOINED (SPEC.md section 5).

import crypto from 'node:crypto';
import net from 'node:net';
import { certificate } from './certificate.mjs';
import { checked, nodeId, readChecked, statement, verifySignature } from './identity.mjs';
import { sha256 } from './prefix.mjs';
import { Refusal, refuse, worthless } from './refusal.mjs';

const PREFIX = 'dsdp-join-1-';

function checkAddress(address) {
  const match = address.match(/^(?:\[([0-9A-Fa-f:.]+)\]|([\x21-\x7e]+)):([0-9]{1,5})$/);
  const [, v6, host, port] = match ?? [];
  const fine = match && (v6 ? net.isIPv6(v6) : !/[[\]:]/.test(host));
  if (!fine || port < 1 || port > 65535) throw worthless('J-1', `${JSON.stringify(address)} is no host:port`);
}

/** J-1: fields to text. */
export function writeToken({ cluster, authority, secret_id: id, secret, expires, addresses }) {
  if (!addresses.length || addresses.length > 255) throw worthless('J-1', `${addresses.length} addresses`);
  const expiry = Buffer.alloc(8);
  expiry.writeBigUInt64BE(BigInt(expires));
  const parts = [cluster, authority, id, secret, expiry, Buffer.from([addresses.length])];
  for (const address of addresses) {
    checkAddress(address);
    if (address.length > 255) throw worthless('J-1', 'an address of more than 255 characters');
    parts.push(Buffer.from([address.length]), Buffer.from(address, 'ascii'));
  }
  return PREFIX + checked(Buffer.concat(parts));
}

/** J-1: text to fields. White space and case are of no account. */
export function readToken(text) {
  const plain = text.replace(/\s/g, '').replace(/[A-Z]/g, (c) => c.toLowerCase());
  if (!plain.startsWith(PREFIX)) throw worthless('J-1', 'no join token of version 1');
  const bytes = readChecked(plain.slice(PREFIX.length));
  let at = 0;
  const take = (count) => {
    at += count;
    if (at > bytes.length) throw worthless('J-1', 'a token that is cut off');
    return bytes.subarray(at - count, at);
  };
  const fields = { cluster: take(16), authority: take(32), secret_id: take(8), secret: take(16) };
  fields.expires = take(8).readBigUInt64BE();
  fields.addresses = Array.from({ length: take(1)[0] }, () => take(take(1)[0]).toString('latin1'));
  if (at !== bytes.length) throw worthless('J-1', 'bytes behind the last address');
  if (!fields.addresses.length) throw worthless('J-1', 'a token without an address');
  fields.addresses.forEach(checkAddress);
  return fields;
}

const same = (a, b) => a.length === b.length && crypto.timingSafeEqual(a, b); // J-4

/** An authority with one open token judges a JOIN (J-4 to J-6); gives the newcomer's node id. */
export function checkJoin(token, now, join) {
  const no = (clause, text) => refuse('JOIN_REFUSED', clause, text);
  const rightId = same(token.secret_id, join.secret_id);
  if (!same(token.secret, join.secret) || !rightId) throw no('J-4', 'another secret');
  if (BigInt(now) > BigInt(token.expires)) throw no('J-6', 'the token has expired');
  if (!/^[A-Za-z0-9][A-Za-z0-9._-]{0,47}$/.test(join.name)) throw no('J-5', 'a name that is not allowed');
  const key = join.public_key;
  try {
    const proof = statement('dsdp-join/1', Buffer.concat([join.secret_id, join.secret, sha256(key)]));
    if (!verifySignature(key, proof, join.proof)) throw no('J-5', 'a proof by another key');
    return nodeId(key);
  } catch (error) {
    if (error instanceof Refusal && error.layer === 'value') throw no('J-5', error.text);
    throw error;
  }
}

/** A newcomer judges the answer (J-7). */
export function checkJoined({ cluster, authority, spki }, joined) {
  const no = (text) => worthless('J-7', text);
  const issuer = certificate(joined.authority);
  if (!sha256(issuer.spki).equals(authority)) throw no('another authority than the token names');
  if (!joined.cluster.equals(authority.subarray(0, 16)) || !joined.cluster.equals(cluster)) throw no('another cluster');
  if (!issuer.x509.ca || !issuer.x509.verify(issuer.x509.publicKey)) throw no('the authority is no authority');
  const own = certificate(joined.certificate);
  if (!own.spki.equals(spki)) throw no('a certificate for another key');
  if (own.x509.ca) throw no('the certificate of an authority');
  if (!own.x509.checkIssued(issuer.x509) || !own.x509.verify(issuer.x509.publicKey)) throw no('issued by somebody else');
}
