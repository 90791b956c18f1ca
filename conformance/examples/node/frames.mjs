// Frames (SPEC.md section 7): length u24, type u8, channel u32, payload.

import { HEADER_BYTES } from './registry.mjs';
import { Refusal } from './refusal.mjs';

export function frame(type, channel, payload) {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUIntBE(payload.length, 0, 3);
  header[3] = type;
  header.writeUInt32BE(channel, 4);
  return Buffer.concat([header, payload]);
}

/** A byte stream, cut anywhere (F-4); gives one frame at a time. */
export class Splitter {
  constructor() {
    this.parts = [];
    this.size = 0;
  }

  push(bytes) {
    if (bytes.length) this.parts.push(bytes);
    this.size += bytes.length;
  }

  #front(count) {
    if (this.parts.length > 1 && this.parts[0].length < count) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0];
  }

  /** The next whole frame, or null; a length beyond `limit` is refused from the header (F-2, F-3). */
  next(limit) {
    if (this.size < HEADER_BYTES) return null;
    let front = this.#front(HEADER_BYTES);
    const length = front.readUIntBE(0, 3);
    const [type, channel] = [front[3], front.readUInt32BE(4)];
    if (length > limit) {
      throw new Refusal('frame', 'FRAME_TOO_LONG', 'F-2', `a payload of ${length} bytes, ${limit} are allowed`);
    }
    const total = HEADER_BYTES + length;
    if (this.size < total) return null;
    front = this.#front(total);
    this.size -= total;
    if (front.length === total) this.parts.shift();
    else this.parts[0] = front.subarray(total);
    return { type, channel, payload: front.subarray(HEADER_BYTES, total) };
  }

  /** The stream ends here (F-5). */
  end() {
    if (this.size) throw new Refusal('frame', 'FRAME_MALFORMED', 'F-5', `the stream ends ${this.size} bytes into a frame`);
  }
}
