/**
 * When does an audio block come out? Blocks are computed in bursts, so the wall clock read in one of them
 * trembles by a device buffer; the sample clock doesn't, but counts from elsewhere. Their difference,
 * smoothed, gives a wall-clock time that runs as evenly as the samples.
 */

/** Share of a new reading: at 375 blocks a second, about a second until a change has come through. */
const SMOOTHING = 0.003;
/** Further off than this: the device stood still, or the clock was set. */
const STEP_MS = 60;

export class RenderClock {
  #offset: number | undefined;

  /** `sampleTime` and `wallTime` of one block, in milliseconds; returns its smoothed wall-clock time. */
  timeOf(sampleTime: number, wallTime: number): number {
    const reading = wallTime - sampleTime;
    if (this.#offset === undefined || Math.abs(reading - this.#offset) > STEP_MS) this.#offset = reading;
    else this.#offset += (reading - this.#offset) * SMOOTHING;
    return sampleTime + this.#offset;
  }
}
