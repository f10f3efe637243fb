/** One SUBSCRIBE and all that belongs to it: its request stream, its subgroup streams, its end. */

import type { Codec, SubgroupParser } from "./codec";
import { protocolViolation, RequestErrorCode, ResetCode } from "./errors";
import type {
  GoAway,
  Message,
  MoqtObject,
  ObjectDatagram,
  Parameters,
  PublishDone,
  RequestError,
  SubgroupHeader,
  Subscribe,
  SubscribeOk,
} from "./model";
import { mandatoryProperty } from "./properties";
import { cancelReason, type Reader, readRequestStream, streamReader } from "./streams";
import type { BidirectionalStream } from "./transport";

/** One open subgroup stream. */
export interface SubgroupStream {
  readonly header: SubgroupHeader;
  /** No more of this subgroup is wanted. */
  cancel(): void;
}

/** Takes what a subscription brings. */
export interface TrackSink {
  handleSubscribed(ok: SubscribeOk): void;
  /** The publisher refused; nothing follows. */
  handleRefused(error: RequestError): void;
  /** The publisher ended it; undefined: the request stream broke. Nothing follows but late objects. */
  handleDone(done: PublishDone | undefined): void;
  handleSubgroupOpen(stream: SubgroupStream): void;
  handleSubgroupObject(stream: SubgroupStream, object: MoqtObject): void;
  /** `fin`: the subgroup is whole; otherwise it was cut. */
  handleSubgroupEnd(stream: SubgroupStream, fin: boolean): void;
  handleDatagram(datagram: ObjectDatagram): void;
  handleBytes(count: number): void;
}

/** What a subscription asks of its session. */
export interface SubscriptionOwner {
  handleBytes(): void;
  nextRequestId(): bigint;
  handleAlias(alias: bigint): void;
  handleGoAway(goAway: GoAway): void;
  handleEnd(): void;
}

interface PendingUpdate {
  readonly resolve: () => void;
}

export class Subscription {
  readonly #codec: Codec;
  readonly #sink: TrackSink;
  readonly #owner: SubscriptionOwner;
  readonly #open = new Set<Reader>();
  readonly #updates: PendingUpdate[] = [];
  #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #request: Reader | undefined;
  #alias: bigint | undefined;
  #state: "pending" | "established" | "terminated" = "pending";

  constructor(codec: Codec, sink: TrackSink, owner: SubscriptionOwner) {
    this.#codec = codec;
    this.#sink = sink;
    this.#owner = owner;
  }

  get #terminated(): boolean {
    return this.#state === "terminated";
  }

  /** Known once the publisher accepted. */
  get alias(): bigint | undefined {
    return this.#alias;
  }

  get established(): boolean {
    return this.#state === "established";
  }

  /** Sends the request and serves its stream until the end. */
  async run(stream: BidirectionalStream, request: Subscribe): Promise<void> {
    this.#writer = stream.writable.getWriter();
    const reader = streamReader(stream.readable, () => this.#owner.handleBytes());
    this.#request = reader;
    if (this.#terminated) return this.#abandonRequest();
    // A write that fails shows as the end of the stream below.
    this.#writer.write(this.#codec.encodeMessage(request)).catch(() => undefined);
    const ended = await readRequestStream(reader, (frame) => {
      if (this.#terminated) return false;
      this.#handleMessage(this.#codec.decodeMessage(frame.type, frame.payload, false));
      return true;
    });
    if (!ended) return;
    if (!this.#terminated) this.#finish(() => this.#sink.handleDone(undefined));
  }

  /**
   * Changes parameters. Resolves when the publisher answers, whatever it says: any answer shows that it
   * is there. Only for established subscriptions.
   */
  update(parameters: Parameters): Promise<void> {
    const writer = this.#writer;
    if (!this.established || !writer) return Promise.reject(new Error("the subscription is not established"));
    const message: Message = { kind: "request-update", requestId: this.#owner.nextRequestId(), parameters };
    return new Promise((resolve, reject) => {
      this.#updates.push({ resolve });
      writer.write(this.#codec.encodeMessage(message)).catch(reject);
    });
  }

  /** Not wanted any more: no event follows. */
  cancel(): void {
    if (this.#terminated) return;
    this.#finish(() => undefined);
    this.#abandonRequest();
    for (const reader of this.#open) reader.cancel(ResetCode.CANCELLED);
  }

  async readSubgroup(parser: SubgroupParser, reader: Reader): Promise<void> {
    if (this.#terminated) return reader.cancel(ResetCode.CANCELLED);
    this.#open.add(reader);
    const stream: SubgroupStream = {
      get header() {
        if (!parser.header) throw new Error("a subgroup is announced only with its header");
        return parser.header;
      },
      cancel: () => reader.cancel(ResetCode.CANCELLED),
    };
    this.#sink.handleSubgroupOpen(stream);
    try {
      for (;;) {
        for (let object = parser.pollObject(); object; object = parser.pollObject()) {
          this.#sink.handleSubgroupObject(stream, object);
        }
        const chunk = await reader.read();
        if (!chunk) break;
        this.#sink.handleBytes(chunk.byteLength);
        parser.handleBytes(chunk);
      }
      if (!reader.wasReset) parser.handleFin();
    } finally {
      this.#open.delete(reader);
      this.#sink.handleSubgroupEnd(stream, !reader.wasReset);
    }
  }

  handleDatagram(datagram: ObjectDatagram, bytes: number): void {
    this.#sink.handleBytes(bytes);
    this.#sink.handleDatagram(datagram);
  }

  #handleMessage(message: Message): void {
    const expected =
      this.#state === "pending"
        ? message.kind === "subscribe-ok" || message.kind === "request-error" || message.kind === "goaway"
        : message.kind !== "subscribe-ok";
    if (!expected) throw protocolViolation(`${message.kind} in answer to a ${this.#state} SUBSCRIBE`);
    switch (message.kind) {
      case "subscribe-ok":
        return this.#handleOk(message);
      case "request-error":
        if (this.#state === "pending") return this.#finish(() => this.#sink.handleRefused(message));
        return this.#answerUpdate();
      case "request-ok":
        if (message.trackProperties.length > 0)
          throw protocolViolation("Track Properties in a REQUEST_UPDATE_OK");
        return this.#answerUpdate();
      case "publish-done":
        return this.#finish(() => this.#sink.handleDone(message));
      case "publish-state-notify":
        // What it announces shows in the objects that come, or don't.
        return;
      case "goaway":
        return this.#owner.handleGoAway(message);
      default:
        throw protocolViolation(`${message.kind} in answer to SUBSCRIBE`);
    }
  }

  #handleOk(ok: SubscribeOk): void {
    const mandatory = mandatoryProperty(ok.trackProperties);
    if (mandatory !== undefined) {
      this.#finish(() =>
        this.#sink.handleRefused({
          kind: "request-error",
          code: RequestErrorCode.UNSUPPORTED_EXTENSION,
          reason: `the track needs an extension (property 0x${mandatory.toString(16)}) that this player doesn't know`,
        }),
      );
      return this.#abandonRequest();
    }
    this.#state = "established";
    this.#alias = ok.trackAlias;
    this.#owner.handleAlias(ok.trackAlias);
    this.#sink.handleSubscribed(ok);
  }

  #answerUpdate(): void {
    const update = this.#updates.shift();
    if (!update) throw protocolViolation("an answer to no REQUEST_UPDATE");
    update.resolve();
  }

  #finish(tell: () => void): void {
    this.#state = "terminated";
    for (const update of this.#updates.splice(0)) update.resolve();
    this.#owner.handleEnd();
    tell();
  }

  #abandonRequest(): void {
    this.#request?.cancel(ResetCode.CANCELLED);
    this.#writer?.abort(cancelReason(ResetCode.CANCELLED)).catch(() => undefined);
  }
}
