/** Reading one stream: a look ahead, an end that is never an exception, and cancelling with a code. */

import { concat } from "./bytes";
import { protocolViolation } from "./errors";
import { type Frame, MessageFramer } from "./framing";

export interface Reader {
  /** The next chunk; undefined at the end, whether FIN or reset. */
  read(): Promise<Uint8Array | undefined>;
  /** At least `length` bytes, which stay in the stream; undefined when it ends before. */
  peek(length: number): Promise<Uint8Array | undefined>;
  /** After the end: true when the peer (or we) cut the stream. */
  readonly wasReset: boolean;
  /** STOP_SENDING with the draft's reset code. */
  cancel(code: number): void;
}

export function streamReader(stream: ReadableStream<Uint8Array>, handleBytes: () => void): Reader {
  const reader = stream.getReader();
  let peeked: Uint8Array | undefined;
  let wasReset = false;

  async function next(): Promise<Uint8Array | undefined> {
    try {
      const { value, done } = await reader.read();
      if (done) return undefined;
      handleBytes();
      return value;
    } catch {
      wasReset = true;
      return undefined;
    }
  }

  return {
    get wasReset() {
      return wasReset;
    },
    async read() {
      const first = peeked;
      peeked = undefined;
      return first ?? next();
    },
    async peek(length) {
      while (!peeked || peeked.byteLength < length) {
        const chunk = await next();
        if (!chunk) return undefined;
        peeked = peeked ? concat([peeked, chunk]) : chunk;
      }
      return peeked;
    },
    cancel(code) {
      wasReset = true;
      reader.cancel(cancelReason(code)).catch(() => undefined);
    },
  };
}

/** What to cancel or abort a stream with so that `code` reaches the peer. */
export function cancelReason(code: number): unknown {
  if (typeof WebTransportError !== "function") return new Error(`stream reset code ${code}`);
  const init: WebTransportErrorOptions = { source: "stream", streamErrorCode: code };
  try {
    return new WebTransportError("", init);
  } catch {
    // Chromium still has the constructor of earlier drafts, which takes everything in one argument.
    return Reflect.construct(WebTransportError, [init]);
  }
}

/**
 * Hands on the messages of a request stream, to its end. False: `handle` said that it wants no more.
 * A peer may reset the stream inside a message, but not end it there.
 */
export async function readRequestStream(reader: Reader, handle: (frame: Frame) => boolean): Promise<boolean> {
  const framer = new MessageFramer();
  for (let chunk = await reader.read(); chunk; chunk = await reader.read()) {
    framer.handleBytes(chunk);
    for (let frame = framer.pollFrame(); frame; frame = framer.pollFrame()) {
      if (!handle(frame)) return false;
    }
  }
  if (framer.midMessage && !reader.wasReset)
    throw protocolViolation("a request stream ended inside a message");
  return true;
}
