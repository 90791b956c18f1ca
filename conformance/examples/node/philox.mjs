// Randomness (SPEC.md section 17.1): Philox4x32-10 with random access.

// Upper 32 bits of a product of two 32-bit words, without leaving the integers of a double.
function high(a, b) {
  const [a0, a1, b0, b1] = [a & 0xffff, a >>> 16, b & 0xffff, b >>> 16];
  const middle = a1 * b0 + Math.floor((a0 * b0) / 0x10000); // at most 2^32 + 2^16: exact
  const cross = a0 * b1 + (middle % 0x10000);
  return (a1 * b1 + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** S-RNG-1: four words from a counter of four and a key of two. */
export function philox4x32([x0, x1, x2, x3], [k0, k1]) {
  for (let round = 0; round < 10; round++) {
    const [hiA, loA] = [high(0xd2511f53, x0), Math.imul(0xd2511f53, x0)];
    const [hiB, loB] = [high(0xcd9e8d57, x2), Math.imul(0xcd9e8d57, x2)];
    [x0, x1, x2, x3] = [(hiB ^ x1 ^ k0) >>> 0, loB >>> 0, (hiA ^ x3 ^ k1) >>> 0, loA >>> 0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [x0, x1, x2, x3];
}

const halves = (value) => {
  const big = BigInt(value);
  return [Number(big & 0xffffffffn), Number(big >> 32n)];
};

/** S-RNG-2: seed and position have 64 bits, domain and block 32. */
export function philox(seed, domain, position, block) {
  const [low, high32] = halves(position);
  return philox4x32([block, domain, low, high32], halves(seed));
}

export const wordOf = (seed, domain, position, token) => philox(seed, domain, position, Math.floor(token / 4))[token % 4];

export const DOMAIN = { NOISE: 1, TARGET: 16, DRAFTER: 17 }; // S-RNG-3
