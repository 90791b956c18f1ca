// Prefix names (SPEC.md section 10): a chain of digests over contract and tokens.

import { createHash } from 'node:crypto';
import { encodeContract } from './messages.mjs';

export const sha256 = (...parts) => {
  const hash = createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const buffer = Buffer.alloc(36);
/** d(n+1) from the full d(n) and a token (S-PFX-1). */
export function extend(digest, token) {
  digest.copy(buffer);
  buffer.writeUInt32BE(token, 32);
  return sha256(buffer);
}

export const short = (digest) => digest.subarray(0, 16); // S-PFX-4

/** A prefix that grows: tokens, and the digest of every position from `from` on. */
export class Prefix {
  constructor(digest, from = 0) {
    this.from = from;
    this.digests = [digest];
    this.tokens = []; // tokens[i] is the one at position from + i
  }

  static ofContract(contract, committed = []) {
    const prefix = new Prefix(sha256(encodeContract(contract)));
    prefix.grow(contract.prompt);
    prefix.grow(committed);
    return prefix;
  }

  get position() {
    return this.from + this.tokens.length;
  }

  get digest() {
    return this.digests[this.digests.length - 1];
  }

  grow(tokens) {
    for (const token of tokens) {
      this.tokens.push(token);
      this.digests.push(extend(this.digest, token));
    }
  }

  /** Forgets what is behind `position`. */
  cut(position) {
    this.tokens.length = position - this.from;
    this.digests.length = position - this.from + 1;
  }

  knows(position) {
    return position >= this.from && position <= this.position;
  }

  digestAt(position) {
    return this.digests[position - this.from];
  }

  tokensFrom(position, to = this.position) {
    return this.tokens.slice(position - this.from, to - this.from);
  }
}

/** The digest after some tokens. */
export const digestAfter = (digest, tokens) => tokens.reduce(extend, digest);
