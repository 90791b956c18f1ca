// A certificate in DER: as Node.js reads it, and its SubjectPublicKeyInfo as it stands there (T-6, N-1), which is what
// is hashed: a key that is read and written again may have another encoding.

import crypto from 'node:crypto';
import { worthless } from './refusal.mjs';

// [start of contents, end] of the element at `at`.
function element(der, at) {
  let length = der[at + 1];
  let start = at + 2;
  if (length & 0x80) {
    const size = length & 0x7f;
    length = der.readUIntBE(start, size);
    start += size;
  }
  return [start, start + length];
}

export function spkiOf(der) {
  let [at] = element(der, element(der, 0)[0]); // Certificate, tbsCertificate
  if (der[at] === 0xa0) [, at] = element(der, at); // version
  for (let field = 0; field < 5; field++) [, at] = element(der, at); // serial, algorithm, issuer, validity, subject
  return der.subarray(at, element(der, at)[1]);
}

export function certificate(der) {
  let x509;
  try {
    x509 = new crypto.X509Certificate(der);
  } catch (error) {
    throw worthless('J-7', `no certificate: ${error.message}`);
  }
  if (!x509.raw.equals(der)) throw worthless('J-7', 'not one certificate in DER');
  return { x509, spki: spkiOf(der) };
}
