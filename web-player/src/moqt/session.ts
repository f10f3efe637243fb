/**
 * A MoQT session, a viewer's side, over any transport and any draft's codec.
 *
 * In: the transport's streams and datagrams. Out: {@link SessionEvents} for the session and a
 * {@link TrackSink} per subscription. A peer that breaks the draft's rules ends the session with the
 * draft's code; nothing it sends throws past here.
 */

import { ByteReader, EndOfBytes, vi64Length } from "./bytes";
import type { Codec } from "./codec";
import {
  codeName,
  protocolViolation,
  RequestErrorCode,
  ResetCode,
  SessionCode,
  SessionError,
} from "./errors";
import { MessageFramer } from "./framing";
import type { GoAway, Message, Parameters, RequestError, RequestOk, Setup } from "./model";
import type { FullTrackName } from "./names";
import { Publication, type PublicationEvents } from "./publication";
import { cancelReason, type Reader, streamReader } from "./streams";
import { Subscription, type TrackSink } from "./subscription";
import type { BidirectionalStream, CloseInfo, Transport } from "./transport";

export interface SessionEvents {
  /** Bytes came, on any stream: the peer is alive. */
  handleBytes(): void;
  handleSetup(setup: Setup): void;
  /** The peer is going away: move to another session before `timeout`. */
  handleGoAway(goAway: GoAway): void;
  /** Once, and nothing after it. */
  handleClosed(reason: Error): void;
}

/** A stream may come before the SUBSCRIBE_OK that names its alias; so long and so many may wait. */
const ALIAS_WAIT_MS = 5000;
const MAX_WAITING_STREAMS = 64;
const MAX_RETIRED_ALIASES = 64;
/** A TRACK_STATUS that was passed on to a publisher may take a while. */
const STATUS_WAIT_MS = 5000;

/** The answer to a TRACK_STATUS, and when the question went out, on the clock of `performance.now()`. */
export interface TrackStatusAnswer {
  readonly ok: RequestOk;
  readonly askedAt: number;
  readonly answeredAt: number;
}

export class Session {
  readonly #transport: Transport;
  readonly #codec: Codec;
  readonly #events: SessionEvents;
  readonly #subscriptions = new Map<bigint, Subscription>();
  readonly #retiredAliases = new Set<bigint>();
  #aliasWaiters: (() => void)[] = [];
  #nextRequestId = 0n;
  #nextOwnAlias = 0n;
  #peerControl = false;
  #goAway = false;
  #closed = false;

  /** Starts at once: SETUP is sent, and requests may follow it without waiting for the peer's. */
  constructor(transport: Transport, codec: Codec, implementation: string, events: SessionEvents) {
    this.#transport = transport;
    this.#codec = codec;
    this.#events = events;
    transport.closed.then(
      (info) => this.#ended(new SessionError(info.closeCode ?? 0, closeText(info))),
      (error: unknown) => this.#ended(new Error(`the connection broke: ${textOf(error)}`)),
    );
    this.#run(() => this.#sendSetup(implementation));
    this.#run(() =>
      this.#accept(transport.incomingUnidirectionalStreams, (stream) => this.#handleUniStream(stream)),
    );
    this.#run(() =>
      this.#accept(transport.incomingBidirectionalStreams, (stream) => this.#handleBidiStream(stream)),
    );
    this.#run(() => this.#readDatagrams());
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Asks for a track. What comes goes to `sink`. */
  subscribe(track: FullTrackName, parameters: Parameters, sink: TrackSink): Subscription {
    const subscription = new Subscription(this.#codec, sink, {
      handleBytes: () => this.#events.handleBytes(),
      nextRequestId: () => this.#takeRequestId(),
      handleAlias: (alias) => this.#register(alias, subscription),
      handleGoAway: (goAway) => this.#events.handleGoAway(goAway),
      handleEnd: () => this.#unregister(subscription),
    });
    const requestId = this.#takeRequestId();
    this.#run(async () => {
      const stream = await this.#transport.createBidirectionalStream();
      await subscription.run(stream, { kind: "subscribe", requestId, track, parameters });
    });
    return subscription;
  }

  /** Offers a track. Its alias is one of ours: the peer's count apart. */
  publish(track: FullTrackName, events: PublicationEvents): Publication {
    const trackAlias = this.#nextOwnAlias++;
    const publication = new Publication(this.#codec, trackAlias, events, {
      handleBytes: () => this.#events.handleBytes(),
      handleGoAway: (goAway) => this.#events.handleGoAway(goAway),
      openStream: () => this.#transport.createUnidirectionalStream(),
    });
    const requestId = this.#takeRequestId();
    this.#run(async () => {
      const stream = await this.#transport.createBidirectionalStream();
      await publication.run(stream, {
        kind: "publish",
        requestId,
        track,
        trackAlias,
        parameters: {},
        trackProperties: [],
      });
    });
    return publication;
  }

  /** Asks how a track is. Undefined: refused, or not answered in time. */
  trackStatus(track: FullTrackName): Promise<TrackStatusAnswer | undefined> {
    const requestId = this.#takeRequestId();
    return new Promise((resolve) => {
      this.#run(async () => {
        try {
          resolve(await this.#askStatus({ kind: "track-status", requestId, track, parameters: {} }));
        } finally {
          resolve(undefined);
        }
      });
    });
  }

  close(code: number = SessionCode.NO_ERROR, reason = ""): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const subscription of this.#subscriptions.values()) subscription.cancel();
    this.#wakeAliasWaiters();
    try {
      this.#transport.close({ closeCode: code, reason: reason.slice(0, 256) });
    } catch {
      // It was closed already, or never opened: closed is what was asked for.
    }
  }

  #takeRequestId(): bigint {
    const id = this.#nextRequestId;
    this.#nextRequestId += 2n;
    return id;
  }

  async #askStatus(request: Message): Promise<TrackStatusAnswer | undefined> {
    const stream = await this.#transport.createBidirectionalStream();
    const reader = streamReader(stream.readable, () => this.#events.handleBytes());
    const writer = stream.writable.getWriter();
    const patience = setTimeout(() => {
      reader.cancel(ResetCode.CANCELLED);
      writer.abort(cancelReason(ResetCode.CANCELLED)).catch(() => undefined);
    }, STATUS_WAIT_MS);
    try {
      const askedAt = performance.now();
      // A write that fails shows as the end of the stream below.
      writer.write(this.#codec.encodeMessage(request)).catch(() => undefined);
      const answer = await this.#readMessage(reader);
      const answeredAt = performance.now();
      if (!answer || answer.kind === "request-error") return undefined;
      if (answer.kind !== "request-ok") throw protocolViolation(`${answer.kind} in answer to TRACK_STATUS`);
      return { ok: answer, askedAt, answeredAt };
    } finally {
      clearTimeout(patience);
      writer.close().catch(() => undefined);
    }
  }

  /** The first message of a request stream; undefined when it ends before. */
  async #readMessage(reader: Reader): Promise<Message | undefined> {
    const framer = new MessageFramer();
    let frame = framer.pollFrame();
    while (!frame) {
      const chunk = await reader.read();
      if (!chunk) return undefined;
      framer.handleBytes(chunk);
      frame = framer.pollFrame();
    }
    return this.#codec.decodeMessage(frame.type, frame.payload, false);
  }

  #register(alias: bigint, subscription: Subscription): void {
    const holder = this.#subscriptions.get(alias);
    if (holder && holder !== subscription) {
      throw new SessionError(SessionCode.DUPLICATE_TRACK_ALIAS, `Track Alias ${alias} names two tracks`);
    }
    this.#retiredAliases.delete(alias);
    this.#subscriptions.set(alias, subscription);
    this.#wakeAliasWaiters();
  }

  #unregister(subscription: Subscription): void {
    const alias = subscription.alias;
    if (alias === undefined || this.#subscriptions.get(alias) !== subscription) return;
    this.#subscriptions.delete(alias);
    this.#retiredAliases.add(alias);
    for (const oldest of this.#retiredAliases) {
      if (this.#retiredAliases.size <= MAX_RETIRED_ALIASES) break;
      this.#retiredAliases.delete(oldest);
    }
  }

  #wakeAliasWaiters(): void {
    const waiters = this.#aliasWaiters;
    this.#aliasWaiters = [];
    for (const wake of waiters) wake();
  }

  async #sendSetup(implementation: string): Promise<void> {
    const control = await this.#transport.createUnidirectionalStream();
    // The writer is kept, and never closed: a closed control stream ends the session.
    await control.getWriter().write(this.#codec.encodeSetup({ kind: "setup", implementation }));
  }

  async #accept<T>(incoming: ReadableStream<T>, handle: (stream: T) => Promise<void>): Promise<void> {
    const reader = incoming.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.#closed) return;
      this.#run(() => handle(value));
    }
  }

  async #handleUniStream(stream: ReadableStream<Uint8Array>): Promise<void> {
    const reader = streamReader(stream, () => this.#events.handleBytes());
    const type = await this.#peekStreamType(reader);
    if (type === undefined) return;
    switch (this.#codec.uniStreamKind(type)) {
      case "control":
        return this.#readControlStream(reader);
      case "subgroup":
        return this.#readSubgroup(reader);
      case "padding":
        while (await reader.read()) {
          // Padding is read only to be thrown away.
        }
        return;
      case "fetch":
        // This player never fetches, so nobody waits for it.
        reader.cancel(ResetCode.CANCELLED);
    }
  }

  /** The stream's type, which stays in the stream. Undefined: the stream ended before it. */
  async #peekStreamType(reader: Reader): Promise<bigint | undefined> {
    for (let wanted = 1; ; ) {
      const head = await reader.peek(wanted);
      if (!head) return undefined;
      wanted = vi64Length(head[0] ?? 0);
      if (head.byteLength >= wanted) return new ByteReader(head).u64();
    }
  }

  async #readControlStream(reader: Reader): Promise<void> {
    if (this.#peerControl) throw protocolViolation("a second control stream");
    this.#peerControl = true;
    const framer = new MessageFramer();
    let first = true;
    for (let chunk = await reader.read(); chunk; chunk = await reader.read()) {
      framer.handleBytes(chunk);
      for (let frame = framer.pollFrame(); frame; frame = framer.pollFrame()) {
        this.#handleControlMessage(this.#codec.decodeMessage(frame.type, frame.payload, true), first);
        first = false;
      }
    }
    // When the session itself ended, `closed` says why, and says it in a moment.
    await Promise.race([this.#transport.closed.catch(() => undefined), delay(200)]);
    throw protocolViolation("the peer closed its control stream");
  }

  #handleControlMessage(message: Message, first: boolean): void {
    if (first !== (message.kind === "setup")) {
      throw protocolViolation(first ? `the control stream starts with ${message.kind}` : "SETUP twice");
    }
    if (message.kind === "setup") {
      this.#events.handleSetup(message);
    } else if (message.kind === "goaway") {
      if (this.#goAway) throw protocolViolation("GOAWAY twice");
      this.#goAway = true;
      this.#events.handleGoAway(message);
    } else {
      throw protocolViolation(`${message.kind} on the control stream`);
    }
  }

  async #readSubgroup(reader: Reader): Promise<void> {
    const parser = this.#codec.subgroupParser();
    while (!parser.header) {
      const chunk = await reader.read();
      if (!chunk) return reader.wasReset ? undefined : parser.handleFin();
      parser.handleBytes(chunk);
    }
    const subscription = await this.#subscriptionOf(parser.header.trackAlias);
    if (!subscription) return reader.cancel(ResetCode.CANCELLED);
    await subscription.readSubgroup(parser, reader);
  }

  async #subscriptionOf(alias: bigint): Promise<Subscription | undefined> {
    const deadline = performance.now() + ALIAS_WAIT_MS;
    for (;;) {
      const subscription = this.#subscriptions.get(alias);
      if (subscription) return subscription;
      const left = deadline - performance.now();
      const full = this.#aliasWaiters.length >= MAX_WAITING_STREAMS;
      if (this.#closed || full || left <= 0 || this.#retiredAliases.has(alias)) return undefined;
      const changed = new Promise<void>((resolve) => this.#aliasWaiters.push(resolve));
      await Promise.race([changed, delay(left)]);
    }
  }

  async #readDatagrams(): Promise<void> {
    const reader = this.#transport.datagrams.readable.getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || this.#closed) return;
      this.#events.handleBytes();
      const datagram = this.#codec.decodeDatagram(value);
      // An unknown alias: dropped, as the draft allows.
      if (datagram) this.#subscriptions.get(datagram.trackAlias)?.handleDatagram(datagram, value.byteLength);
    }
  }

  /** A request from the peer. A player has nothing that is asked for and takes nothing unasked, and says so. */
  async #handleBidiStream(stream: BidirectionalStream): Promise<void> {
    const reader = streamReader(stream.readable, () => this.#events.handleBytes());
    const request = await this.#readMessage(reader);
    if (!request) return;
    const answer = refusalOf(request);
    if (!answer) throw protocolViolation(`a request stream that starts with ${request.kind}`);
    const writer = stream.writable.getWriter();
    await writer.write(this.#codec.encodeMessage(answer));
    await writer.close();
    reader.cancel(ResetCode.CANCELLED);
  }

  /** Runs a task of the session; a peer's mistake in it ends the session, anything else only the task. */
  #run(task: () => Promise<void>): void {
    task().catch((error: unknown) => {
      if (this.#closed) return;
      if (error instanceof SessionError) this.#fail(error);
      else if (error instanceof EndOfBytes || error instanceof RangeError) {
        this.#fail(new SessionError(SessionCode.INTERNAL_ERROR, textOf(error)));
      }
      // What remains is a stream that broke: its owner has been told, and `closed` follows if all broke.
    });
  }

  #fail(error: SessionError): void {
    this.close(error.code, error.message);
    this.#events.handleClosed(error);
  }

  #ended(reason: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wakeAliasWaiters();
    this.#events.handleClosed(reason);
  }
}

/** What a peer's request is answered with; undefined: it is none. */
function refusalOf(request: Message): RequestError | undefined {
  const refuse = (code: number, reason: string): RequestError => ({ kind: "request-error", code, reason });
  switch (request.kind) {
    case "subscribe":
    case "track-status":
      return refuse(RequestErrorCode.DOES_NOT_EXIST, "a player has no tracks");
    case "publish":
      return refuse(RequestErrorCode.UNINTERESTED, "a player takes what it asked for");
    case "foreign-request":
      return refuse(RequestErrorCode.NOT_SUPPORTED, `a player does not answer ${request.name}`);
    default:
      return undefined;
  }
}

function closeText({ closeCode = 0, reason = "" }: CloseInfo): string {
  const name = codeName(SessionCode, closeCode);
  return `the relay closed the session: ${reason === "" ? name : `${reason} (${name})`}`;
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
