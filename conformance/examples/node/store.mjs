// What a voter keeps (SPEC.md section 16.10): the messages that it took, one a line behind a checksum, synced before
// anything is sent because of them. A ledger is a function of them, so they are applied once more after a restart.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { sha256 } from './prefix.mjs';
import { fieldsFromJson, toJson } from './values.mjs';

const sum = (text) => sha256(text).toString('hex').slice(0, 16);

export class Store {
  constructor(folder) {
    const place = folder ?? fs.mkdtempSync(path.join(os.tmpdir(), 'dsdp-voter-'));
    fs.mkdirSync(place, { recursive: true });
    this.path = path.join(place, 'ledgers');
    this.file = fs.openSync(this.path, 'a+');
  }

  /** Everything that was confirmed, in its order. A line that was cut short at the end was not. */
  load() {
    const text = fs.readFileSync(this.path, 'utf8');
    const whole = text.slice(0, text.lastIndexOf('\n') + 1);
    if (whole.length < text.length) fs.ftruncateSync(this.file, Buffer.byteLength(whole));
    return whole.split('\n').filter(Boolean).map((line) => {
      const [check, body] = [line.slice(0, 16), line.slice(17)];
      if (check !== sum(body)) throw new Error(`${this.path} is damaged: the node needs a new key (Q-62)`);
      const { type, session, from, fields } = JSON.parse(body);
      return { type, session, from: Buffer.from(from, 'hex'), fields: fields && fieldsFromJson(type, fields) };
    });
  }

  /** Q-60; what is only known to be committed need not be synced. */
  append({ type, session, from, fields }) {
    const body = JSON.stringify(toJson({ type, session, from, fields }));
    fs.writeSync(this.file, `${sum(body)} ${body}\n`);
    if (type !== 'COMMIT') fs.fsyncSync(this.file);
  }

  close() {
    fs.closeSync(this.file);
  }
}
