// TCP with TLS 1.3, both sides authenticated (SPEC.md section 4.1).

import net from 'node:net';
import { Duplex } from 'node:stream';
import tls from 'node:tls';
import { ALERT, alertRecord } from './alert.mjs';
import { spkiOf } from './certificate.mjs';
import { nodeId } from './identity.mjs';

const ALPN = 'dsdp/1';
const HANDSHAKE_MS = 10000;
const WHY = { CERT_HAS_EXPIRED: ALERT.CERTIFICATE_EXPIRED, CERT_NOT_YET_VALID: ALERT.BAD_CERTIFICATE };

/** A TCP socket as a stream under TLS, so that an alert can be written past it. */
function under(socket) {
  const stream = new Duplex({
    read: () => socket.resume(),
    write: (chunk, _, done) => (socket.destroyed ? done() : socket.write(chunk, () => done())),
    final: (done) => socket.end(() => done()),
    destroy: (error, done) => {
      socket.destroySoon();
      done(error);
    },
  });
  socket.on('data', (chunk) => stream.push(chunk) || socket.pause());
  socket.on('end', () => stream.push(null));
  socket.on('error', (error) => stream.destroy(error));
  socket.on('close', () => stream.destroy());
  return stream;
}

// T-1 to T-5: one authority, its own certificates only, TLS 1.3 only.
const options = ({ certificate, key, authority }) => ({
  cert: certificate,
  key,
  ca: [authority],
  minVersion: 'TLSv1.3',
  maxVersion: 'TLSv1.3',
  ALPNProtocols: [ALPN],
  checkServerIdentity: () => undefined, // T-6: names play no part
});

/** The peer's node id by its certificate (T-6). */
function peerOf(secure) {
  const certificate = secure.getPeerX509Certificate();
  if (!certificate || certificate.ca) throw new Error('no certificate of a node');
  return nodeId(spkiOf(certificate.raw));
}

function refuseWith(secure, socket, secret, description) {
  const suite = secure.getCipher()?.standardName;
  if (secret && suite) socket.write(alertRecord(suite, secret, description));
  socket.end();
  setTimeout(() => socket.destroy(), 1000).unref();
}

/** Takes a TCP connection over; calls done(secure socket, peer's node id) if TLS says that it is one. */
export function accept(socket, identity, done) {
  socket.setNoDelay(true);
  const context = tls.createSecureContext({ ...options(identity), sessionIdContext: ALPN });
  const secure = new tls.TLSSocket(under(socket), {
    ...options(identity), isServer: true, requestCert: true, rejectUnauthorized: false, secureContext: context,
  });
  let secret = null;
  const timer = setTimeout(() => socket.destroy(), HANDSHAKE_MS);
  secure.on('keylog', (line) => {
    const [label, , value] = line.toString().trim().split(' ');
    if (label === 'SERVER_TRAFFIC_SECRET_0') secret = Buffer.from(value, 'hex');
  });
  secure.on('error', () => socket.destroySoon());
  secure.on('close', () => clearTimeout(timer));
  secure.once('secure', () => {
    clearTimeout(timer);
    const no = (description) => refuseWith(secure, socket, secret, description);
    const failed = secure.ssl.verifyError();
    if (secure.getPeerX509Certificate() === undefined) return no(116); // certificate_required
    if (failed) return no(WHY[failed.code] ?? ALERT.UNKNOWN_CA);
    if (secure.alpnProtocol !== ALPN) return no(ALERT.NO_APPLICATION_PROTOCOL); // T-2
    let peer;
    try {
      peer = peerOf(secure);
    } catch {
      return no(ALERT.BAD_CERTIFICATE);
    }
    return done(secure, peer);
  });
}

/** Dials host:port; calls done(error) or done(null, secure socket, peer's node id). */
export function dial(address, identity, done) {
  const [, host, port] = address.match(/^\[?([^\]]*)\]?:(\d+)$/);
  let finished = false;
  const finish = (...result) => {
    if (!finished) done(...result);
    finished = true;
  };
  const secure = tls.connect({ host, port: Number(port), ...options(identity), servername: 'dsdp.internal' });
  secure.setTimeout(HANDSHAKE_MS, () => !finished && secure.destroy(new Error('timeout')));
  secure.setNoDelay(true);
  secure.on('error', (error) => finish(error));
  secure.on('close', () => finish(new Error('closed')));
  secure.on('secureConnect', () => {
    try {
      if (secure.alpnProtocol !== ALPN) throw new Error('another protocol'); // T-2
      secure.setTimeout(0);
      finish(null, secure, peerOf(secure));
    } catch (error) {
      secure.destroy();
      finish(error);
    }
  });
}

export function listen(identity, done) {
  const server = net.createServer((socket) => accept(socket, identity, done));
  return new Promise((resolve, reject) => {
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}
