// A TLS 1.3 alert, written by hand. Node.js judges a peer's certificate after the handshake, and closes without a word;
// T-8 wants the alert. The key comes from the traffic secret that Node.js tells ('keylog'); the acceptor has sent
// nothing under it yet, so the record has sequence number 0 (RFC 8446, sections 5.2, 5.3, 7.3).

import crypto from 'node:crypto';

const SUITES = {
  TLS_AES_128_GCM_SHA256: ['aes-128-gcm', 16, 'sha256'],
  TLS_AES_256_GCM_SHA384: ['aes-256-gcm', 32, 'sha384'],
  TLS_CHACHA20_POLY1305_SHA256: ['chacha20-poly1305', 32, 'sha256'],
};
export const ALERT = { BAD_CERTIFICATE: 42, CERTIFICATE_EXPIRED: 45, UNKNOWN_CA: 48, NO_APPLICATION_PROTOCOL: 120 };

function expand(hash, secret, label, length) {
  const name = Buffer.from(`tls13 ${label}`);
  const info = Buffer.concat([Buffer.from([0, length, name.length]), name, Buffer.from([0, 1])]);
  return crypto.createHmac(hash, secret).update(info).digest().subarray(0, length); // one block is enough here
}

/** The record of a fatal alert, under the acceptor's first traffic secret. */
export function alertRecord(suite, secret, description) {
  const [cipher, length, hash] = SUITES[suite];
  const key = expand(hash, secret, 'key', length);
  const nonce = expand(hash, secret, 'iv', 12);
  const seal = crypto.createCipheriv(cipher, key, nonce, { authTagLength: 16 });
  const header = Buffer.from([23, 3, 3, 0, 3 + 16]);
  seal.setAAD(header, { plaintextLength: 3 });
  const sealed = Buffer.concat([seal.update(Buffer.from([2, description, 21])), seal.final()]);
  return Buffer.concat([header, sealed, seal.getAuthTag()]);
}
