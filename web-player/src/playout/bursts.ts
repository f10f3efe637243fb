/**
 * Does a track come in bursts? A publisher that sends a second of media in a moment and then nothing for
 * a second is no bad line: its media is late by as much again and again, and everything else of it is in
 * time. So what a burst takes is to be waited out.
 *
 * Counted is what arrives after a pause in which it was made, and much faster than that, to the last of it,
 * which is in time. On a line that is too thin media keeps coming, or is late to the last, and one that had
 * a hiccup doesn't do it again and again.
 */

/** Shorter ones are jitter. */
const LEAST_MS = 100;
/** So much later than the sample before: a burst may begin. */
const RISE_MS = 50;
/** In this share of its length a burst is over. */
const SWIFT = 0.25;
/** The last of a burst is as late as this share of its length at the most, or so much in any case. */
const IN_TIME = 0.15;
const IN_TIME_MS = 50;
/** The pause before takes this share of it at the least. */
const PAUSE = 0.7;
/** While a player starts, the page itself is busy. */
const WARM_UP_MS = 1500;
/** How long bursts and the earliest arrival are remembered. */
const HORIZON_MS = 12_000;
const BUCKET_MS = 1000;
/** So many make a habit. */
const HABIT = 3;

/** Of samples, or of the least of several; undefined where there is none. */
export function leastLateness(samples: readonly { readonly lateness: number }[]): number | undefined {
  if (samples.length === 0) return undefined;
  return samples.reduce((least, { lateness }) => Math.min(least, lateness), Number.POSITIVE_INFINITY);
}

interface Burst {
  readonly at: number;
  /** How late its first sample was. */
  readonly length: number;
}

export class BurstEstimator {
  /** The least lateness of each second lately. */
  #least: { readonly at: number; lateness: number }[] = [];
  #bursts: Burst[] = [];
  /** It began, and is not known to be one yet. */
  #candidate: Burst | undefined;
  #startedAt: number | undefined;
  /** When the last one began, or what looked like it. */
  #pausedAt = 0;
  #arrivedAt = 0;
  #age = 0;

  /** Media stamped `timestamp` came at `arrival`; both in milliseconds. */
  observe(timestamp: number, arrival: number): void {
    this.#startedAt ??= this.#pausedAt = this.#arrivedAt = arrival;
    const pause = arrival - this.#arrivedAt;
    this.#arrivedAt = arrival;
    const lateness = arrival - timestamp;
    const recent = ({ at }: { readonly at: number }) => arrival - at <= HORIZON_MS;
    this.#least = this.#least.filter(recent);
    this.#bursts = this.#bursts.filter(recent);
    const bucket = this.#least.at(-1);
    if (!bucket || arrival - bucket.at >= BUCKET_MS) this.#least.push({ at: arrival, lateness });
    else bucket.lateness = Math.min(bucket.lateness, lateness);

    const age = lateness - (this.offset ?? lateness);
    if (age > this.#age + RISE_MS) {
      const since = arrival - this.#pausedAt;
      this.#pausedAt = arrival;
      const counts = age > LEAST_MS && age > since / 2 && pause > age * PAUSE;
      const warm = arrival - this.#startedAt > WARM_UP_MS;
      this.#candidate = counts && warm ? { at: arrival, length: age } : undefined;
    } else if (this.#candidate) {
      const { at, length } = this.#candidate;
      if (arrival - at > length * SWIFT) {
        this.#candidate = undefined;
      } else if (age < Math.max(length * IN_TIME, IN_TIME_MS)) {
        this.#bursts.push(this.#candidate);
        this.#candidate = undefined;
      }
    }
    this.#age = age;
  }

  /** The smallest `arrival − timestamp` lately. */
  get offset(): number | undefined {
    return leastLateness(this.#least);
  }

  /** How long bursts are, if they are the rule. */
  get length(): number | undefined {
    const lengths = this.#bursts.map(({ length }) => length).toSorted((a, b) => b - a);
    return lengths[HABIT - 1];
  }

  reset(): void {
    this.#least = [];
    this.#bursts = [];
    this.#candidate = undefined;
    this.#startedAt = undefined;
    this.#age = 0;
  }
}
