/**
 * From objects to the screen: decodes, waits for each frame's time, paints.
 *
 * Bounded: chunks wait here (never more than a few seconds, the newest key frame cuts the rest off), a
 * few are in the decoder, a few decoded frames wait in the frame queue.
 */

import type { AssembledObject } from "../media/assembler";
import { readLocHeader, startsWithStartCode } from "../media/loc";
import { codecFamily, type PlayableTrack } from "../media/tracks";
import { ArrivalEstimator } from "../playout/arrival";
import type { PlayoutClock, TrackNeed } from "../playout/clock";
import { FrameQueue } from "../playout/frames";
import { RecentDurations } from "./meter";
import type { Screen } from "./screen";

interface PendingChunk {
  readonly isKey: boolean;
  /** Milliseconds, publisher's clock. */
  readonly timestamp: number;
  readonly payload: Uint8Array;
  readonly config: Uint8Array | undefined;
}

export interface VideoEvents {
  /** `captured`: milliseconds by the publisher's clock; undefined when timestamps aren't wall-clock time. */
  handlePainted(now: number, captured: number | undefined): void;
  /** The publisher's clock went back: what was known about timing is void. */
  handleTimelineReset(): void;
  handleDecoderFault(reason: string): void;
}

/** Decoded frames that wait; a hardware decoder lends out few. */
const MAX_DECODED = 8;
/** Chunks that wait in the decoder; more would only be decoded later, and couldn't be skipped. */
const MAX_DECODE_QUEUE = 4;
/** Chunks that went in and didn't come out: a decoder may hold 16 to put them in order. */
const MAX_IN_DECODER = 24;
const MAX_PENDING = 600;
const MAX_PENDING_BYTES = 64 * 1024 * 1024;
/** A frame due within this is painted now: the next refresh would be later. */
const LOOKAHEAD_MS = 8;
/** Catching up: older than this is not worth painting while newer frames are being decoded … */
const STALE_MS = 100;
/** … unless nothing was painted for so long. */
const KEEP_MOVING_MS = 66;
/** Later frames are painted late: staying live is worth more than staying smooth. */
const MAX_JITTER_MS = 250;
const BACKWARDS_MS = 1000;
/** A page in the background gets no animation frames: frames are then dropped on this beat. */
const HIDDEN_BEAT_MS = 100;
const MAX_FAULTS = 4;

export class VideoPipeline {
  readonly arrivals = new ArrivalEstimator();
  readonly #clock: PlayoutClock;
  readonly #screen: Screen;
  readonly #events: VideoEvents;
  readonly #queue = new FrameQueue<VideoFrame>();
  readonly #decodeTimes = new RecentDurations();
  /** Chunks in the decoder by timestamp, and when they went in if that is worth measuring. */
  readonly #fedAt = new Map<number, number | undefined>();
  #track: PlayableTrack | undefined;
  #pending: PendingChunk[] = [];
  #pendingBytes = 0;
  #decoder: VideoDecoder | undefined;
  #config: Uint8Array | undefined;
  #configuredWith: Uint8Array | undefined;
  #needsKey = true;
  #faults = 0;
  #wallClock = true;
  #lastGroup: bigint | undefined;
  #lastTimestamp = Number.NEGATIVE_INFINITY;
  #paintedAt = Number.NEGATIVE_INFINITY;
  #waking = false;
  #framesDecoded = 0;
  #framesRendered = 0;
  #framesDropped = 0;
  /** Caught up with what is live: a frame that isn't shown from here on is missed. */
  #live = false;

  constructor(clock: PlayoutClock, screen: Screen, events: VideoEvents) {
    this.#clock = clock;
    this.#screen = screen;
    this.#events = events;
  }

  get framesDecoded(): number {
    return this.#framesDecoded;
  }

  get framesRendered(): number {
    return this.#framesRendered;
  }

  /** Since the picture first was live, and was again after each change of who delivers. */
  get framesDropped(): number {
    return this.#framesDropped;
  }

  get track(): PlayableTrack | undefined {
    return this.#track;
  }

  /** Timestamp of the newest frame that came, milliseconds. */
  get newest(): number | undefined {
    return Number.isFinite(this.#lastTimestamp) ? this.#lastTimestamp : undefined;
  }

  /** Timestamp of the frame on screen. */
  get shown(): number | undefined {
    return this.#queue.shown;
  }

  need(now: number): TrackNeed | undefined {
    const arrivals = this.arrivals.expect(0.95, MAX_JITTER_MS, now);
    return arrivals && { ...arrivals, handling: this.#decodeTimes.quantile(0.9) + 4 };
  }

  resetCounters(): void {
    this.#framesDecoded = 0;
    this.#framesRendered = 0;
    this.#framesDropped = 0;
  }

  /** From the next key frame on, this is what comes. Undefined: no video. */
  setTrack(track: PlayableTrack | undefined): void {
    const same = this.#track?.codec === track?.codec && this.#track?.name === track?.name;
    const sameInit = sameBytes(this.#track?.initData, track?.initData);
    this.#track = track;
    if (same && sameInit) return;
    this.#config = track?.initData;
    this.#closeDecoder();
    this.#dropPending(this.#pending.length);
    this.#faults = 0;
  }

  /** Another subscription delivers from here on, starting with a whole group. */
  resync(): void {
    this.#dropPending(this.#pending.length);
    this.#needsKey = true;
    this.#live = false;
    this.#lastGroup = undefined;
    this.arrivals.resync();
  }

  /** Forgets the timeline: any timestamp may come next. */
  resetTimeline(): void {
    this.arrivals.reset();
    this.#queue.reset();
    this.#live = false;
    this.#lastTimestamp = Number.NEGATIVE_INFINITY;
  }

  handleObject({ group, object, arrivedAt }: AssembledObject, timescale: bigint | undefined): void {
    const header = readLocHeader(object.properties, timescale);
    const frameMs = 1000 / (this.#track?.framerate ?? 30);
    const timestamp =
      header.timestamp !== undefined ? header.timestamp / 1000 : (this.newest ?? performance.now()) + frameMs;
    const isKey = object.object === 0;
    this.#wallClock = header.wallClock && header.timestamp !== undefined;
    const newGroup = this.#lastGroup !== undefined && group > this.#lastGroup;
    if (isKey && newGroup && timestamp < this.#lastTimestamp - BACKWARDS_MS)
      this.#events.handleTimelineReset();
    this.#lastGroup = group;
    this.#lastTimestamp = Math.max(this.#lastTimestamp, timestamp);
    this.arrivals.observe(timestamp, arrivedAt);
    this.#pending.push({ isKey, timestamp, payload: object.payload, config: header.config });
    this.#pendingBytes += object.payload.byteLength;
    this.#pump();
  }

  close(): void {
    this.#closeDecoder();
    this.#dropPending(this.#pending.length);
    this.#queue.clear();
    this.#track = undefined;
  }

  #pump(): void {
    this.#skipToLive();
    while (this.#pending.length > 0 && !this.#full) {
      const [chunk] = this.#pending;
      this.#dropPending(1);
      if (chunk) this.#feed(chunk);
    }
    this.#schedule();
  }

  get #full(): boolean {
    const queued = this.#decoder?.decodeQueueSize ?? 0;
    return (
      queued >= MAX_DECODE_QUEUE || this.#queue.length >= MAX_DECODED || this.#fedAt.size >= MAX_IN_DECODER
    );
  }

  /** When a later key frame is due already, nothing before it needs decoding. */
  #skipToLive(): void {
    const now = performance.now();
    const overfull = this.#pending.length > MAX_PENDING || this.#pendingBytes > MAX_PENDING_BYTES;
    for (let i = this.#pending.length - 1; i > 0; i--) {
      const chunk = this.#pending[i];
      if (!chunk?.isKey) continue;
      const due = this.#clock.dueAt(chunk.timestamp);
      if (overfull || (due !== undefined && due <= now)) return this.#skipPending(i);
    }
    if (overfull) {
      // One endless group that can't be decoded in time: start again at its next key frame.
      this.#skipPending(this.#pending.length);
      this.#needsKey = true;
    }
  }

  #skipPending(count: number): void {
    this.#miss(count);
    this.#dropPending(count);
  }

  #miss(count: number): void {
    if (this.#live) this.#framesDropped += count;
  }

  #dropPending(count: number): void {
    for (const { payload } of this.#pending.splice(0, count)) this.#pendingBytes -= payload.byteLength;
  }

  #feed(chunk: PendingChunk): void {
    if (this.#needsKey && !chunk.isKey) return this.#miss(1);
    if (chunk.isKey) {
      if (chunk.config) this.#config = chunk.config;
      if (!this.#configure(chunk)) return;
    }
    const decoder = this.#decoder;
    if (decoder?.state !== "configured") return;
    this.#needsKey = false;
    const timestamp = Math.round(chunk.timestamp * 1000);
    // Behind others in the decoder, a chunk's time there says nothing about decoding.
    const alone = this.#fedAt.size <= 1 && this.#pending.length === 0;
    this.#fedAt.set(timestamp, alone ? performance.now() : undefined);
    try {
      decoder.decode(
        new EncodedVideoChunk({
          type: chunk.isKey ? "key" : "delta",
          timestamp,
          data: chunk.payload as BufferSource,
        }),
      );
    } catch (error) {
      this.#handleFault(decoder, error);
    }
  }

  /** Makes the decoder fit this key frame. */
  #configure(key: PendingChunk): boolean {
    const track = this.#track;
    if (!track) return false;
    // Start codes in the payload: parameter sets are in band, and a description would contradict them.
    const lengthPrefixed = /^(avc|hev|hvc)/.test(track.codec);
    const description = lengthPrefixed && startsWithStartCode(key.payload) ? undefined : this.#config;
    const current = this.#decoder?.state === "configured";
    if (current && sameBytes(description, this.#configuredWith)) return true;
    try {
      this.#decoder ??= this.#newDecoder();
      this.#decoder.configure({
        codec: track.codec,
        ...(description && { description: description as BufferSource }),
        ...(track.width && track.height && { codedWidth: track.width, codedHeight: track.height }),
        optimizeForLatency: true,
        hardwareAcceleration: "no-preference",
      });
    } catch (error) {
      this.#handleFault(this.#decoder, error);
      return false;
    }
    this.#configuredWith = description;
    return true;
  }

  #newDecoder(): VideoDecoder {
    const decoder: VideoDecoder = new VideoDecoder({
      output: (frame) => (decoder === this.#decoder ? this.#handleFrame(frame) : frame.close()),
      error: (error) => this.#handleFault(decoder, error),
    });
    decoder.ondequeue = () => this.#pump();
    return decoder;
  }

  #handleFault(decoder: VideoDecoder | undefined, error: unknown): void {
    if (decoder && decoder !== this.#decoder) return;
    this.#closeDecoder();
    // One broken frame costs its group; a stream that never decodes has to be said.
    if (++this.#faults < MAX_FAULTS) return;
    const family = codecFamily(this.#track?.codec ?? "");
    this.#events.handleDecoderFault(`${family}: ${error instanceof Error ? error.message : String(error)}`);
  }

  #closeDecoder(): void {
    const decoder = this.#decoder;
    this.#decoder = undefined;
    this.#configuredWith = undefined;
    this.#fedAt.clear();
    this.#needsKey = true;
    if (decoder && decoder.state !== "closed") decoder.close();
  }

  #handleFrame(frame: VideoFrame): void {
    const now = performance.now();
    const fedAt = this.#fedAt.get(frame.timestamp);
    if (fedAt !== undefined) this.#decodeTimes.add(now - fedAt);
    // A decoder that dropped older frames won't give them any more.
    for (const timestamp of this.#fedAt.keys())
      if (timestamp <= frame.timestamp) this.#fedAt.delete(timestamp);
    this.#faults = 0;
    this.#framesDecoded++;
    if (!this.#queue.push({ frame, timestamp: frame.timestamp / 1000 })) this.#miss(1);
    this.#present(now);
    this.#pump();
  }

  #present(now: number): void {
    this.#clock.update(now);
    const { delay } = this.#clock;
    const first = this.#queue.shown === undefined;
    const position = first || delay === undefined ? Number.POSITIVE_INFINITY : now - delay + LOOKAHEAD_MS;
    const waited = this.#queue.length;
    const due = this.#queue.takeDue(position);
    if (!due) return;
    this.#miss(waited - this.#queue.length - 1);
    const late = delay === undefined || now - delay - due.timestamp > STALE_MS;
    const catchingUp = !first && late && this.#fedAt.size > 0 && now - this.#paintedAt < KEEP_MOVING_MS;
    if (catchingUp) {
      this.#miss(1);
    } else {
      this.#screen.paint(due.frame);
      this.#paintedAt = now;
      this.#framesRendered++;
      this.#live ||= !first && !late;
      this.#events.handlePainted(now, this.#wallClock ? due.timestamp : undefined);
    }
    due.frame.close();
  }

  /** Sees to it that the next frame is painted at its time. */
  #schedule(): void {
    if (this.#waking || this.#queue.next === undefined) return;
    this.#waking = true;
    const wake = () => {
      if (!this.#waking) return;
      this.#waking = false;
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      this.#present(performance.now());
      this.#pump();
    };
    const frame = requestAnimationFrame(wake);
    const timer = setTimeout(wake, HIDDEN_BEAT_MS);
  }
}

function sameBytes(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  if (a === b) return true;
  return a !== undefined && b?.byteLength === a.byteLength && a.every((byte, i) => byte === b[i]);
}
