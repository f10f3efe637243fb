/**
 * How late does a track's media come? Timestamps are the publisher's clock, arrivals ours, and the two
 * clocks need not agree: only `arrival − timestamp` is looked at. Its minimum over the last samples is
 * the path's constant part (clock difference included), what lies above it is jitter.
 */

import { BurstEstimator, leastLateness } from "./bursts";

/** Samples remembered: about eight seconds of video, five of audio. */
const WINDOW = 256;
/** Later than this, and all at once: what an outage held up, not jitter that will be there again. */
const OUTAGE_MS = 300;
/** So much earlier than anything before: the publisher's clock was set. */
const CLOCK_STEP_MS = 1000;
/** In a backlog, media comes this much faster than it was made: each sample falls below the one before. */
const BACKLOG_SPEED = 1.4;
/** So many samples in a row that don't fall: the backlog is over. */
const LIVE_SAMPLES = 3;
/** After so long it is no backlog, but how this media comes. */
const MAX_JOIN_MS = 3000;
/** Nothing for so long: what comes then starts with a backlog. */
const GAP_MS = 400;
/** Nothing for so long: what was measured says nothing about now. */
const STALE_MS = 2000;
/** While a player starts, the page itself is busy: once there are so many samples, the first half goes. */
const WARM_UP = 48;
/** Later than the earliest by more than this: the line is not at rest. */
const UNREST_MS = 60;
/** At rest for so long: what came late before came over another line, so to speak. */
const REST_MS = 1500;
/** Late again within this: rest was believed in too soon, and has to last so much longer next time. */
const REGRET_MS = 15_000;
const REGRET_FACTOR = 4;
const MAX_REST_MS = 12_000;
/** Longer bursts are not waited out: that is no live picture any more. */
const MAX_BURST_MS = 2500;

interface Sample {
  /** Its arrival less its timestamp. */
  readonly lateness: number;
  readonly arrival: number;
}

/** When media can be shown at the earliest that all of it is there: at its timestamp and both of these. */
export interface Arrivals {
  readonly offset: number;
  readonly jitter: number;
}

export class ArrivalEstimator {
  readonly #bursts = new BurstEstimator();
  /** In order of arrival. */
  #samples: Sample[] = [];
  #previous: { readonly timestamp: number; readonly arrival: number } | undefined;
  #steady = 0;
  #joiningSince: number | undefined;
  #warm = false;
  #arrivedAt = Number.NEGATIVE_INFINITY;
  #restMs = REST_MS;
  #settledAt = Number.NEGATIVE_INFINITY;

  /** Media stamped `timestamp` came at `arrival`; both in milliseconds. */
  observe(timestamp: number, arrival: number): void {
    if (arrival - this.#arrivedAt > GAP_MS) this.#expectBacklog();
    this.#arrivedAt = arrival;
    this.#bursts.observe(timestamp, arrival);
    const lateness = arrival - timestamp;
    const falls = this.#judge(timestamp, arrival);
    this.#joiningSince ??= arrival;
    if (this.#steady >= LIVE_SAMPLES) this.#joiningSince = undefined;
    else if (arrival - this.#joiningSince < MAX_JOIN_MS) return;
    const offset = this.offset;
    if (offset !== undefined && lateness < offset - CLOCK_STEP_MS) this.#samples.length = 0;
    else if (falls && offset !== undefined && lateness > offset + OUTAGE_MS) return;
    this.#push({ lateness, arrival });
    this.#settle({ lateness, arrival });
  }

  /** A new stream of arrivals begins (another session, another publisher): expect a backlog. */
  resync(): void {
    this.#expectBacklog();
    this.#joiningSince = undefined;
  }

  /** Forgets everything. */
  reset(): void {
    this.resync();
    this.#bursts.reset();
    this.#samples.length = 0;
    this.#warm = false;
    this.#restMs = REST_MS;
    this.#settledAt = Number.NEGATIVE_INFINITY;
  }

  /**
   * What there is to wait for: the given share of the samples, up to so much jitter; of media that comes
   * in bursts all. Undefined before live media came, or when none came lately.
   */
  expect(share: number, maxJitterMs: number, now: number): Arrivals | undefined {
    if (!this.isFresh(now)) return undefined;
    const { offset, length } = this.#bursts;
    if (offset !== undefined && length !== undefined) {
      return { offset, jitter: Math.min(length, MAX_BURST_MS) };
    }
    if (this.offset === undefined) return undefined;
    return { offset: this.offset, jitter: Math.min(this.jitter(share), maxJitterMs) };
  }

  /** Whether media came lately. */
  isFresh(now: number): boolean {
    return now - this.#arrivedAt < STALE_MS;
  }

  /** The smallest `arrival − timestamp` lately; undefined before live media came. */
  get offset(): number | undefined {
    return leastLateness(this.#samples);
  }

  /** How far above `offset` the given share (0 to 1) of the samples stays, in milliseconds. */
  jitter(share: number): number {
    const sorted = this.#samples.map(({ lateness }) => lateness).toSorted((a, b) => a - b);
    const last = sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    return last === undefined ? 0 : last - (sorted[0] ?? last);
  }

  #expectBacklog(): void {
    this.#previous = undefined;
    this.#steady = 0;
  }

  /** Whether this belongs to a backlog. While joining, counts how long that has not been so. */
  #judge(timestamp: number, arrival: number): boolean {
    const before = this.#previous;
    // Frames that are shown before one that came earlier say nothing about speed.
    if (before && timestamp <= before.timestamp) return false;
    this.#previous = { timestamp, arrival };
    const falls =
      before !== undefined && timestamp - before.timestamp > BACKLOG_SPEED * (arrival - before.arrival);
    if (this.#steady < LIVE_SAMPLES) this.#steady = falls || !before ? 0 : this.#steady + 1;
    return falls;
  }

  #push(sample: Sample): void {
    this.#samples.push(sample);
    if (this.#samples.length > WINDOW) this.#samples.shift();
    if (this.#warm || this.#samples.length < WARM_UP) return;
    this.#warm = true;
    this.#samples.splice(0, WARM_UP / 2);
  }

  /** A line that has been at rest for a while is taken for what it is now, not for what it was. */
  #settle({ lateness, arrival }: Sample): void {
    const restless = (this.offset ?? lateness) + UNREST_MS;
    if (lateness > restless) {
      if (arrival - this.#settledAt > REGRET_MS) return;
      this.#restMs = Math.min(REGRET_FACTOR * this.#restMs, MAX_REST_MS);
      this.#settledAt = Number.NEGATIVE_INFINITY;
      return;
    }
    const last = this.#samples.findLastIndex((sample) => sample.lateness > restless);
    const since = this.#samples[last]?.arrival;
    if (since === undefined || arrival - since < this.#restMs) return;
    this.#samples.splice(0, last + 1);
    if (arrival - this.#settledAt > REGRET_MS && Number.isFinite(this.#settledAt)) this.#restMs = REST_MS;
    this.#settledAt = arrival;
  }
}
