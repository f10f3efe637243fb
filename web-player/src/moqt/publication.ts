/** One PUBLISH and all that belongs to it: its request stream, and a stream for each group we send. */

import type { Codec } from "./codec";
import { protocolViolation, ResetCode } from "./errors";
import type { GoAway, Message, Parameters, Publish, RequestError } from "./model";
import { cancelReason, type Reader, readRequestStream, streamReader } from "./streams";
import type { BidirectionalStream } from "./transport";

export interface PublicationEvents {
  /** It is over: refused, or (undefined) ended later. Once, and nothing after it. */
  handleEnd(refusal: RequestError | undefined): void;
}

/** What a publication asks of its session. */
export interface PublicationOwner {
  handleBytes(): void;
  handleGoAway(goAway: GoAway): void;
  openStream(): Promise<WritableStream<Uint8Array>>;
}

export class Publication {
  readonly #codec: Codec;
  readonly #alias: bigint;
  readonly #events: PublicationEvents;
  readonly #owner: PublicationOwner;
  #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #request: Reader | undefined;
  #state: "pending" | "established" | "terminated" = "pending";
  #forward = true;
  #sending = false;

  constructor(codec: Codec, alias: bigint, events: PublicationEvents, owner: PublicationOwner) {
    this.#codec = codec;
    this.#alias = alias;
    this.#events = events;
    this.#owner = owner;
  }

  get #terminated(): boolean {
    return this.#state === "terminated";
  }

  /** Groups may be sent: the subscriber said yes, and the group before is on its way. */
  get ready(): boolean {
    return this.#state === "established" && this.#forward && !this.#sending;
  }

  /** Sends the request and serves its stream until the end. */
  async run(stream: BidirectionalStream, request: Publish): Promise<void> {
    this.#writer = stream.writable.getWriter();
    const reader = streamReader(stream.readable, () => this.#owner.handleBytes());
    this.#request = reader;
    if (this.#terminated) return this.#abandon();
    this.#send(request);
    const ended = await readRequestStream(reader, (frame) => {
      if (this.#terminated) return false;
      this.#handleMessage(this.#codec.decodeMessage(frame.type, frame.payload, false));
      return true;
    });
    if (!ended) return;
    this.#finish(undefined);
  }

  /** Sends an object that is a group of its own; lost when the publication isn't {@link ready}. */
  send(group: bigint, payload: Uint8Array): void {
    if (!this.ready) return;
    this.#sending = true;
    this.#sendGroup(group, payload)
      // A stream that broke: the request stream, or the session, says the rest.
      .catch(() => undefined)
      .finally(() => {
        this.#sending = false;
      });
  }

  /** No more of it: no event follows. */
  cancel(): void {
    if (this.#terminated) return;
    this.#state = "terminated";
    this.#abandon();
  }

  async #sendGroup(group: bigint, payload: Uint8Array): Promise<void> {
    const stream = await this.#owner.openStream();
    const writer = stream.getWriter();
    await writer.write(this.#codec.encodeGroup(this.#alias, group, payload));
    await writer.close();
  }

  #handleMessage(message: Message): void {
    switch (message.kind) {
      case "request-ok":
        if (this.#state !== "pending") break;
        this.#state = "established";
        return this.#heed(message.parameters);
      case "request-error":
        if (this.#state !== "pending") break;
        return this.#finish(message);
      case "request-update":
        if (this.#state !== "established") break;
        this.#heed(message.parameters);
        return this.#send({ kind: "request-ok", parameters: {}, trackProperties: [] });
      case "goaway":
        return this.#owner.handleGoAway(message);
    }
    throw protocolViolation(`${message.kind} in answer to a ${this.#state} PUBLISH`);
  }

  #heed({ forward }: Parameters): void {
    if (forward !== undefined) this.#forward = forward;
  }

  /** A write that fails shows as the end of the stream that is read. */
  #send(message: Message): void {
    this.#writer?.write(this.#codec.encodeMessage(message)).catch(() => undefined);
  }

  #finish(refusal: RequestError | undefined): void {
    if (this.#terminated) return;
    this.#state = "terminated";
    this.#writer?.close().catch(() => undefined);
    this.#events.handleEnd(refusal);
  }

  #abandon(): void {
    this.#request?.cancel(ResetCode.CANCELLED);
    this.#writer?.abort(cancelReason(ResetCode.CANCELLED)).catch(() => undefined);
  }
}
