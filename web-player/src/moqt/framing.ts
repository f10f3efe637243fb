/** Cuts a control or request stream into messages: Type (vi64), Length (16), Payload. */

import { ByteReader, concat, EndOfBytes } from "./bytes";

export interface Frame {
  readonly type: bigint;
  readonly payload: Uint8Array;
}

export class MessageFramer {
  #pending: Uint8Array = new Uint8Array(0);

  handleBytes(chunk: Uint8Array): void {
    this.#pending = this.#pending.byteLength === 0 ? chunk : concat([this.#pending, chunk]);
  }

  /** The next whole message. At most one message (65,548 bytes) waits here. */
  pollFrame(): Frame | undefined {
    const input = new ByteReader(this.#pending);
    try {
      const type = input.u64();
      const payload = input.bytes(input.u16());
      this.#pending = this.#pending.subarray(input.offset);
      return { type, payload };
    } catch (error) {
      if (error instanceof EndOfBytes) return undefined;
      throw error;
    }
  }

  /** A FIN here would cut a message. */
  get midMessage(): boolean {
    return this.#pending.byteLength > 0;
  }
}
