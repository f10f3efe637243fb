/**
 * One wanted track on one session: subscribes, puts objects in order, subscribes again with growing
 * waits when the subscription ends or is refused.
 */

import { type AssembledObject, type AssemblerOptions, GroupAssembler } from "../media/assembler";
import { trackTimescale } from "../media/loc";
import { RequestErrorCode } from "../moqt/errors";
import type { ObjectDatagram, Parameters, PublishDone, RequestError, SubscribeOk } from "../moqt/model";
import type { FullTrackName } from "../moqt/names";
import type { Session } from "../moqt/session";
import type { SubgroupStream, Subscription, TrackSink } from "../moqt/subscription";
import { Backoff } from "./backoff";

export interface ReceiverEvents {
  handleObject(object: AssembledObject, timescale: bigint | undefined): void;
  handleBytes(count: number): void;
  handleSubscribed(ok: SubscribeOk): void;
  handleRefused(error: RequestError): void;
  handleDone(done: PublishDone | undefined): void;
}

export interface ReceiverOptions {
  readonly track: FullTrackName;
  readonly priority: number;
  readonly assembler: AssemblerOptions;
}

/** How long a relay may hold the request while no publisher is there. */
const RENDEZVOUS_TIMEOUT_MS = 10_000n;
/** Without any answer for that long and a little, the request is lost. */
const MAX_RETRY_MS = 3000;

export class TrackReceiver {
  readonly #session: Session;
  readonly #options: ReceiverOptions;
  readonly #events: ReceiverEvents;
  readonly #backoff = new Backoff({ firstMs: 200, mostMs: MAX_RETRY_MS });
  #assembler: GroupAssembler;
  #subscription: Subscription | undefined;
  #timescale: bigint | undefined;
  #retryTimer: ReturnType<typeof setTimeout> | undefined;
  #pollTimer: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(session: Session, options: ReceiverOptions, events: ReceiverEvents) {
    this.#session = session;
    this.#options = options;
    this.#events = events;
    this.#assembler = new GroupAssembler(options.assembler);
    this.#subscribe();
  }

  get established(): boolean {
    return this.#subscription?.established ?? false;
  }

  /** Asks the publisher for a sign of life; resolves with any answer. */
  ping(): Promise<void> {
    const { priority } = this.#options;
    return (
      this.#subscription?.update({ subscriberPriority: priority }) ??
      Promise.reject(new Error("not subscribed"))
    );
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#pollTimer);
    this.#subscription?.cancel();
  }

  #subscribe(): void {
    if (this.#stopped || this.#session.closed) return;
    const { track, priority, assembler: options } = this.#options;
    const assembler = new GroupAssembler(options);
    this.#assembler = assembler;
    const parameters: Parameters = {
      rendezvousTimeout: RENDEZVOUS_TIMEOUT_MS,
      subscriberPriority: priority,
      // No filter: the newest group from its start, then all that follows. The newest matters most.
      groupOrder: "descending",
    };
    const current = (handle: () => void) => {
      if (!this.#stopped && this.#assembler === assembler) handle();
    };
    const feed = (handle: (now: number) => void) =>
      current(() => {
        handle(performance.now());
        this.#drain();
      });
    const sink: TrackSink = {
      handleSubscribed: (ok) =>
        current(() => {
          this.#timescale = trackTimescale(ok.trackProperties);
          this.#backoff.reset();
          this.#events.handleSubscribed(ok);
        }),
      handleRefused: (error) =>
        current(() => {
          this.#events.handleRefused(error);
          this.#retry(error);
        }),
      handleDone: (done) =>
        current(() => {
          this.#events.handleDone(done);
          this.#retry();
        }),
      handleSubgroupOpen: (stream) => feed((now) => assembler.handleSubgroupOpen(stream, now)),
      handleSubgroupObject: (stream, object) =>
        feed((now) => assembler.handleSubgroupObject(stream, object, now)),
      handleSubgroupEnd: (stream: SubgroupStream, fin) =>
        feed(() => assembler.handleSubgroupEnd(stream, fin)),
      handleDatagram: (datagram: ObjectDatagram) => feed((now) => assembler.handleDatagram(datagram, now)),
      handleBytes: (count) => this.#events.handleBytes(count),
    };
    this.#subscription = this.#session.subscribe(track, parameters, sink);
  }

  #retry(error?: RequestError): void {
    if (this.#session.closed) return;
    // A relay that held the request until its rendezvous timeout has made us wait already.
    const waited = error?.code === RequestErrorCode.TIMEOUT;
    const asked = Number(error?.retryAfter ?? 0n);
    const wait = Math.min(Math.max(asked, waited ? 50 : this.#backoff.next()), 10 * MAX_RETRY_MS);
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => this.#subscribe(), wait);
  }

  #drain(): void {
    clearTimeout(this.#pollTimer);
    const now = performance.now();
    const assembler = this.#assembler;
    for (let object = assembler.pollObject(now); object; object = assembler.pollObject(now)) {
      this.#events.handleObject(object, this.#timescale);
    }
    for (let stream = assembler.pollAbandoned(); stream; stream = assembler.pollAbandoned()) stream.cancel();
    const timeout = assembler.pollTimeout();
    if (timeout !== undefined) this.#pollTimer = setTimeout(() => this.#drain(), Math.max(1, timeout - now));
  }
}
