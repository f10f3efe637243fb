/**
 * The playout clock: media stamped `t` is due at `t + delay`. The delay follows a target, slowly, so
 * that nobody sees it move; while sound plays, the sound's real delay leads and the picture follows it.
 *
 * All times in milliseconds of one monotonic clock; `delay` also holds the difference between that clock
 * and the publisher's, so its absolute value means nothing.
 */

import type { Arrivals } from "./arrival";

/** Further off than this is made up for at once: nobody wants to wait for it. */
const JUMP_MS = 300;
/** Milliseconds per second. Falling behind costs smoothness, so the delay grows faster than it shrinks … */
const GROW_RATE = 200;
const SHRINK_RATE = 40;
/** … unless there is more to make up for than this: a second of quicker pictures is not seen. */
const LEISURE_MS = 50;
const CATCH_UP_S = 0.5;
/** Without a word from the audio side for so long, the wall clock takes over. */
const AUDIO_SILENT_MS = 300;
/** Share of a new audio report in the smoothed audio delay. */
const AUDIO_SMOOTHING = 0.2;

export class PlayoutClock {
  #target: number | undefined;
  #delay: number | undefined;
  #updatedAt = 0;
  #audioDelay: number | undefined;
  #audioAt = Number.NEGATIVE_INFINITY;

  /** What the delay should be. */
  setTarget(target: number): void {
    this.#target = target;
    this.#delay ??= target;
  }

  get target(): number | undefined {
    return this.#target;
  }

  /** What it is; undefined until there is a target. */
  get delay(): number | undefined {
    return this.#delay;
  }

  /** Sound stamped `now − delay` is being heard now. */
  handleAudio(delay: number, now: number): void {
    const fresh = now - this.#audioAt > AUDIO_SILENT_MS || this.#audioDelay === undefined;
    const jumped = this.#audioDelay !== undefined && Math.abs(delay - this.#audioDelay) > JUMP_MS;
    this.#audioDelay =
      fresh || jumped ? delay : (this.#audioDelay ?? delay) * (1 - AUDIO_SMOOTHING) + delay * AUDIO_SMOOTHING;
    this.#audioAt = now;
  }

  /** The sound stopped: from here on the wall clock leads. */
  handleAudioStopped(): void {
    this.#audioAt = Number.NEGATIVE_INFINITY;
  }

  get audioLeads(): boolean {
    return this.#audioDelay !== undefined && this.#updatedAt - this.#audioAt <= AUDIO_SILENT_MS;
  }

  /** Moves the delay towards where it belongs. */
  update(now: number): void {
    const elapsed = Math.max(0, now - this.#updatedAt) / 1000;
    this.#updatedAt = now;
    const goal = this.audioLeads ? this.#audioDelay : this.#target;
    if (goal === undefined || this.#delay === undefined) return;
    const off = goal - this.#delay;
    if (Math.abs(off) > JUMP_MS) this.#delay = goal;
    else if (off > 0) this.#delay += Math.min(off, elapsed * GROW_RATE);
    else this.#delay += Math.max(off, -elapsed * Math.max(SHRINK_RATE, (-off - LEISURE_MS) / CATCH_UP_S));
  }

  /** When media stamped `timestamp` is due; undefined: at once. */
  dueAt(timestamp: number): number | undefined {
    return this.#delay === undefined ? undefined : timestamp + this.#delay;
  }

  /** Forgets everything: another timeline begins. */
  reset(): void {
    this.#target = undefined;
    this.#delay = undefined;
    this.#audioDelay = undefined;
    this.handleAudioStopped();
  }
}

/** A publisher's wish beyond this is met so far only: what waits is held in memory. */
const MAX_ASKED_LATENCY_MS = 2500;

/**
 * The delay that gives the latency which the publisher asks players to aim at: from capture to display.
 * `captureNow` is what the capture clock shows at `now`; where nobody knows, `offset`, the least that
 * media takes to come, is taken for nothing.
 */
export function askedDelay(
  latencyMs: number,
  now: number,
  captureNow: number | undefined,
  offset: number | undefined,
): number | undefined {
  const base = captureNow === undefined ? offset : now - captureNow;
  return base === undefined ? undefined : base + Math.min(latencyMs, MAX_ASKED_LATENCY_MS);
}

/** What a track needs between a frame's timestamp and its presentation. */
export interface TrackNeed extends Arrivals {
  /** Decoding, waiting for the next refresh, output latency. */
  readonly handling: number;
}

/** Below this much jitter margin, ordinary timer noise would already make frames late. */
const MIN_JITTER_MS = 8;

/** A track that needs so much more than another is lost to it: nothing waits for it. */
const MAX_SPREAD_MS = 2000;

/** The smallest delay that serves all tracks. */
export function targetDelay(needs: readonly TrackNeed[]): number | undefined {
  if (needs.length === 0) return undefined;
  const delays = needs.map(
    ({ offset, jitter, handling }) => offset + Math.max(jitter, MIN_JITTER_MS) + handling,
  );
  const least = Math.min(...delays);
  return Math.max(...delays.filter((delay) => delay - least <= MAX_SPREAD_MS));
}
