/**
 * Asks a relay, again and again, what the clock shows that stamps a broadcast's pictures: by TRACK_STATUS of
 * `weir/clock/BROADCAST`, track `now`, whose largest location is that time and how wrong it may be, both in
 * microseconds. A relay finds out by asking the same of whom it has the broadcast from.
 */

import { type FullTrackName, fullTrackName } from "../moqt/names";
import type { TrackStatusAnswer } from "../moqt/session";
import type { CaptureClock } from "../playout/capture-clock";
import { Backoff } from "./backoff";

/** Asked so often at first: the one that travelled fastest knows best. */
const BURST = 4;
const INTERVAL_MS = 10_000;

export interface ClockSource {
  trackStatus(track: FullTrackName): Promise<TrackStatusAnswer | undefined>;
}

/** Undefined: the broadcast's name leaves no room for the question. */
export function clockTrack(broadcast: string): FullTrackName | undefined {
  try {
    return fullTrackName(`weir/clock/${broadcast}`, "now");
  } catch {
    return undefined;
  }
}

export class ClockFeed {
  readonly #source: ClockSource;
  readonly #track: FullTrackName | undefined;
  readonly #clock: CaptureClock;
  /** A relay that doesn't know yet has to ask somebody itself. */
  readonly #backoff = new Backoff({ firstMs: 1000, mostMs: INTERVAL_MS });
  #answers = 0;
  #due = Number.NEGATIVE_INFINITY;
  #asking = false;

  constructor(source: ClockSource, broadcast: string, clock: CaptureClock) {
    this.#source = source;
    this.#track = clockTrack(broadcast);
    this.#clock = clock;
  }

  /** Asks, when it is time; a few times a second. */
  tick(now: number): void {
    const track = this.#track;
    if (!track || this.#asking || now < this.#due) return;
    this.#asking = true;
    this.#source
      .trackStatus(track)
      .then((answer) => {
        this.#due = now + this.#handle(answer);
      })
      .finally(() => {
        this.#asking = false;
      });
  }

  /** Returns how long to wait. */
  #handle(answer: TrackStatusAnswer | undefined): number {
    const largest = answer?.ok.parameters.largestObject;
    if (!answer || !largest) return this.#backoff.next();
    const { askedAt, answeredAt } = answer;
    const [theirs, errorMs] = [Number(largest.group) / 1000, Number(largest.object) / 1000];
    this.#clock.handleAnswer({ askedAt, answeredAt, theirs, errorMs });
    this.#backoff.reset();
    this.#answers++;
    return this.#answers < BURST ? 0 : INTERVAL_MS;
  }
}
