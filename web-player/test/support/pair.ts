/** A transport in memory with a hand-driven peer at the other end. */

import { ByteReader, ByteWriter, EndOfBytes } from "../../src/moqt/bytes";
import type { Codec } from "../../src/moqt/codec";
import { draft18 } from "../../src/moqt/draft18";
import type { Message } from "../../src/moqt/model";
import type { BidirectionalStream, CloseInfo, Transport } from "../../src/moqt/transport";

/** A pipe whose reading end is a stream and whose writing end is driven by hand. */
class Pipe {
  readonly readable: ReadableStream<Uint8Array>;
  cancelled = false;
  #controller!: ReadableStreamDefaultController<Uint8Array>;

  constructor() {
    this.readable = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#controller = controller;
      },
      cancel: () => {
        this.cancelled = true;
      },
    });
  }

  write(bytes: Uint8Array): void {
    if (!this.cancelled) this.#controller.enqueue(bytes);
  }

  fin(): void {
    if (!this.cancelled) this.#controller.close();
  }

  reset(): void {
    if (!this.cancelled) this.#controller.error(new Error("reset"));
  }
}

/** What the session wrote on one of its streams, as messages. */
class Sent {
  readonly writable: WritableStream<Uint8Array>;
  aborted = false;
  closed = false;
  #bytes = new Uint8Array(0);

  constructor(readonly codec: Codec) {
    this.writable = new WritableStream<Uint8Array>({
      write: (chunk) => {
        this.#bytes = new ByteWriter().bytes(this.#bytes).bytes(chunk).finish();
      },
      abort: () => {
        this.aborted = true;
      },
      close: () => {
        this.closed = true;
      },
    });
  }

  messages(onControlStream: boolean): Message[] {
    const reader = new ByteReader(this.#bytes);
    const messages: Message[] = [];
    try {
      while (reader.remaining > 0) {
        const type = reader.u64();
        messages.push(this.codec.decodeMessage(type, reader.bytes(reader.u16()), onControlStream));
      }
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error;
    }
    return messages;
  }
}

/** A data stream that the session opened. */
export class SentStream {
  bytes: Uint8Array = new Uint8Array(0);
  closed = false;
  readonly writable = new WritableStream<Uint8Array>({
    write: (chunk) => {
      this.bytes = new ByteWriter().bytes(this.bytes).bytes(chunk).finish();
    },
    close: () => {
      this.closed = true;
    },
  });
}

/** One request stream, from the peer's side. */
export class Request {
  readonly answers = new Pipe();
  readonly sent: Sent;

  constructor(readonly codec: Codec) {
    this.sent = new Sent(codec);
  }

  get messages(): Message[] {
    return this.sent.messages(false);
  }

  answer(message: Message): void {
    this.answers.write(this.codec.encodeMessage(message));
  }
}

export class Peer {
  readonly transport: Transport;
  readonly requests: Request[] = [];
  readonly control: Sent;
  /** What the session sent on unidirectional streams after its control stream, a byte string each. */
  readonly sentStreams: SentStream[] = [];
  closedWith: CloseInfo | undefined;
  #uni!: ReadableStreamDefaultController<ReadableStream<Uint8Array>>;
  #bidi!: ReadableStreamDefaultController<BidirectionalStream>;
  #datagrams!: ReadableStreamDefaultController<Uint8Array>;
  #close!: (info: CloseInfo) => void;

  constructor(readonly codec: Codec = draft18) {
    this.control = new Sent(codec);
    const closed = new Promise<CloseInfo>((resolve) => {
      this.#close = resolve;
    });
    const stream = <T>(keep: (controller: ReadableStreamDefaultController<T>) => void) =>
      new ReadableStream<T>({ start: keep });
    this.transport = {
      incomingUnidirectionalStreams: stream((controller) => {
        this.#uni = controller;
      }),
      incomingBidirectionalStreams: stream((controller) => {
        this.#bidi = controller;
      }),
      datagrams: {
        readable: stream((controller) => {
          this.#datagrams = controller;
        }),
      },
      closed,
      createUnidirectionalStream: async () => {
        if (!this.control.writable.locked) return this.control.writable;
        const stream = new SentStream();
        this.sentStreams.push(stream);
        return stream.writable;
      },
      createBidirectionalStream: async () => {
        const request = new Request(this.codec);
        this.requests.push(request);
        return { readable: request.answers.readable, writable: request.sent.writable };
      },
      close: (info) => {
        this.closedWith = info;
      },
    };
  }

  openUni(): Pipe {
    const pipe = new Pipe();
    this.#uni.enqueue(pipe.readable);
    return pipe;
  }

  /** The peer's control stream with its SETUP. */
  sendSetup(): Pipe {
    const control = this.openUni();
    control.write(this.codec.encodeSetup({ kind: "setup", implementation: "peer" }));
    return control;
  }

  openRequest(first: Uint8Array): Request {
    const request = new Request(this.codec);
    request.answers.write(first);
    this.#bidi.enqueue({ readable: request.answers.readable, writable: request.sent.writable });
    return request;
  }

  sendDatagram(bytes: Uint8Array): void {
    this.#datagrams.enqueue(bytes);
  }

  close(info: CloseInfo): void {
    this.#close(info);
  }
}

/** Lets everything that is ready run. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 8; i++) await new Promise((resolve) => setTimeout(resolve));
}
