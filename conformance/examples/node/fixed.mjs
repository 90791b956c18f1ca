// Fixed-point functions (SPEC.md section 17.4). Everything fits the 53 bits of a double, but for the products that are
// BigInt here.

import { createHash } from 'node:crypto';

const TWO24 = 2 ** 24;
const table = (entry) => Array.from({ length: 4097 }, (_, j) => Math.round(entry(j)));

export const LOG2 = table((j) => TWO24 * Math.log2(1 + j / 4096));
export const TAIL = table((j) => {
  const t = j / 8192;
  return TWO24 * Math.log2(j ? -Math.log1p(-t) / Math.LN2 / t : Math.LOG2E);
});
export const EXP2 = table((j) => 2 ** 32 * 2 ** (-j / 4096));

export function digestOf(entries) {
  const bytes = Buffer.alloc(8 * entries.length);
  entries.forEach((entry, j) => bytes.writeBigUInt64BE(BigInt(entry), 8 * j));
  return createHash('sha256').update(bytes).digest('hex');
}

// S-SAMP-4: checked when the program starts.
const WANTED = [
  [LOG2, '6fdab5116dcc89edd561ff8414c7084437058ea98a27dbebaaa6af5a32de2800'],
  [TAIL, '99fa07a0e3f5a8c270295e9200c588f72c4699e211bee823df624a03dcf8db38'],
  [EXP2, 'f73ea64387dd6bcd8354e18da146d22ded9b311d7f3b5ad0fb45483171790752'],
];
for (const [entries, digest] of WANTED) {
  if (digestOf(entries) !== digest) throw new Error('this platform computes other tables than S-SAMP-4');
}

/** Logarithm of n, 1 <= n < 2^36, in Q24 (S-SAMP-5). */
export function L(n) {
  const e = Math.floor(Math.log2(n + 0.5)); // n + 0.5: no power of two is rounded down
  const f = n * 2 ** (36 - e) - 2 ** 36;
  const j = Math.floor(f / TWO24);
  const r = f % TWO24;
  return e * TWO24 + LOG2[j] + Math.floor(((LOG2[j + 1] - LOG2[j]) * r) / TWO24);
}

/** Gumbel noise of a 32-bit word, in Q24 bits (S-SAMP-5). */
export function G(w) {
  if (w < 2 ** 31) return 24 * TWO24 - L(33 * TWO24 - L(2 * w + 1));
  const z = 2 ** 33 - (2 * w + 1);
  const j = Math.floor(z / 2 ** 20);
  const r = z % 2 ** 20;
  return 33 * TWO24 - L(z) - TAIL[j] - Math.floor(((TAIL[j + 1] - TAIL[j]) * r) / 2 ** 20);
}

/** Weight of a token that starts x (Q24) below the best, in Q40 (S-SAMP-5). */
export function W(x) {
  const j = Math.floor(x / 4096) % 4096;
  const r = x % 4096;
  const value = (EXP2[j] - Math.floor(((EXP2[j] - EXP2[j + 1]) * r) / 4096)) * 256;
  return Math.floor(value / 2 ** Math.floor(x / TWO24));
}

/** A logit in Q24, cut to 2^28 either way; exact (S-SAMP-6). */
export const F = (logit) => Math.floor(TWO24 * Math.min(Math.max(logit, -(2 ** 28)), 2 ** 28));

/** The factor of a temperature (S-SAMP-6). */
export const S = (temperature) => Number((6196328018n * 65536n) / BigInt(temperature));

/** How many bits a token starts below the best one: D and S to x (S-SAMP-6). */
export function below(d, s) {
  const x = (BigInt(d) * BigInt(s)) >> 32n;
  return x > 2n ** 30n ? 2 ** 30 : Number(x);
}

export function floatOf(hex) {
  return Buffer.from(hex, 'hex').readFloatBE(0);
}

export function bitsOf(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatBE(value);
  return bytes.toString('hex');
}
