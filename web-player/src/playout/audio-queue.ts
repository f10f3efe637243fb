/**
 * Sound that waits to be played, and what to play next. Runs in the audio worklet; no DOM, no clock: the
 * time of each block comes in with it.
 *
 * A sample stamped `t` belongs at `t + delay`. Playing holds to that by resampling a little faster or
 * slower; when it is far off it skips, and where there is nothing to play there is silence, until the
 * next sound's time has come.
 */

export interface AudioChunk {
  /** Of the first sample; milliseconds on the publisher's clock. */
  readonly timestamp: number;
  readonly sampleRate: number;
  /** One array per channel, all of one length. */
  readonly channels: readonly Float32Array[];
}

/** Off by more than this: skip or wait rather than bend. */
const SEEK_MS = 80;
/** Off by less: leave it. */
const TOLERANCE_MS = 3;
/** The most that the speed is bent: a third of a semitone, for as long as it takes. */
const MAX_BEND = 0.02;
/** Bend for each millisecond off. */
const BEND_PER_MS = 0.0004;
/** Smaller gaps between chunks are the source's clock trembling: played over. */
const SEAM_MS = 30;
/** More than this never waits; what is older goes. */
const MAX_BUFFER_MS = 3000;
/** What is skipped fades out over this while what follows fades in. */
const CROSSFADE_MS = 10;
/** Fade over so many samples wherever sound starts or stops, so that it doesn't click. */
const FADE_SAMPLES = 64;

export class AudioQueue {
  readonly #chunks: AudioChunk[] = [];
  #delay: number | undefined;
  /** Next sample to play, in samples (with a fraction) of the first chunk. */
  #at = 0;
  #playing = false;
  #faded = 0;
  /** What would have come next where playing skipped, one array per channel. */
  #tail: Float32Array[] = [];
  #smoothedError = 0;
  #underruns = 0;

  /** Sound is coming out. */
  get playing(): boolean {
    return this.#playing;
  }

  /** How often it ran dry. */
  get underruns(): number {
    return this.#underruns;
  }

  /** Milliseconds of sound that wait. */
  get bufferedMs(): number {
    const first = this.#chunks[0];
    if (!first) return 0;
    const total = this.#chunks.reduce((sum, chunk) => sum + durationMs(chunk), 0);
    return total - (this.#at / first.sampleRate) * 1000;
  }

  /** Timestamp of the sample that plays next. */
  get position(): number | undefined {
    const first = this.#chunks[0];
    return first && first.timestamp + (this.#at / first.sampleRate) * 1000;
  }

  setDelay(delay: number): void {
    this.#delay = delay;
  }

  push(chunk: AudioChunk): void {
    if ((chunk.channels[0]?.length ?? 0) === 0 || !(chunk.sampleRate > 0)) return;
    const last = this.#chunks.at(-1);
    // Older than what waits already: it comes again after a change of session, or its time is over.
    if (last && chunk.timestamp < last.timestamp + durationMs(last) / 2) {
      const timelineMoved = last.timestamp - chunk.timestamp > MAX_BUFFER_MS;
      if (!timelineMoved) return;
      this.clear();
    }
    this.#chunks.push(chunk);
    while (this.bufferedMs > MAX_BUFFER_MS) this.#dropFirst();
  }

  clear(): void {
    this.#chunks.length = 0;
    this.#at = 0;
    this.#playing = false;
  }

  /**
   * Fills one block. `now` is when its first sample will come out, on the clock of `delay`.
   * Channels beyond the source's repeat its last one, so that mono reaches both ears.
   */
  render(output: readonly Float32Array[], outputRate: number, now: number): void {
    const length = output[0]?.length ?? 0;
    this.#hold(now, output.length, outputRate);
    const speed = 1 + this.#bend();
    for (let i = 0; i < length; i++) {
      if (this.#playing && !this.#settle()) {
        this.#playing = false;
        this.#faded = 0;
        this.#underruns++;
      }
      const first = this.#chunks[0];
      if (!this.#playing || !first) {
        for (const channel of output) channel[i] = 0;
        continue;
      }
      const tailLength = this.#tail[0]?.length ?? 0;
      const gain = Math.min(1, ++this.#faded / Math.max(tailLength, FADE_SAMPLES));
      this.#sample(output, i, first, gain);
      if (this.#faded <= tailLength) this.#mixTail(output, i, 1 - gain);
      this.#at += (speed * first.sampleRate) / outputRate;
    }
  }

  /** Starts when the first sound is due, and skips when playing is far from where it should be. */
  #hold(now: number, channels: number, outputRate: number): void {
    const position = this.position;
    if (this.#delay === undefined || position === undefined) return;
    const wanted = now - this.#delay;
    const error = wanted - position;
    if (!this.#playing) {
      if (error < 0) return;
      this.#seek(wanted);
      if (this.#chunks.length === 0) return;
      this.#playing = true;
      this.#smoothedError = 0;
      this.#faded = 0;
      this.#tail = [];
    } else if (error > SEEK_MS) {
      this.#tail = this.#next(channels, Math.round((outputRate * CROSSFADE_MS) / 1000), outputRate);
      this.#seek(wanted);
      this.#smoothedError = 0;
      this.#faded = 0;
    } else if (error < -SEEK_MS) {
      // Far too early: be silent until it is due.
      this.#playing = false;
    } else {
      this.#smoothedError = this.#smoothedError * 0.98 + error * 0.02;
    }
  }

  #bend(): number {
    if (Math.abs(this.#smoothedError) < TOLERANCE_MS) return 0;
    return Math.max(-MAX_BEND, Math.min(MAX_BEND, this.#smoothedError * BEND_PER_MS));
  }

  /** Takes the next samples, or silence where there are none. */
  #next(channels: number, length: number, outputRate: number): Float32Array[] {
    const output = Array.from({ length: channels }, () => new Float32Array(length));
    for (let i = 0; i < length && this.#settle(); i++) {
      const first = this.#chunks[0];
      if (!first) break;
      this.#sample(output, i, first, 1);
      this.#at += first.sampleRate / outputRate;
    }
    return output;
  }

  #mixTail(output: readonly Float32Array[], i: number, gain: number): void {
    for (const [index, channel] of output.entries()) {
      channel[i] = (channel[i] ?? 0) + (this.#tail[index]?.[this.#faded - 1] ?? 0) * gain;
    }
  }

  #seek(timestamp: number): void {
    for (let first = this.#chunks[0]; first; first = this.#chunks[0]) {
      if (timestamp < first.timestamp + durationMs(first)) {
        this.#at = Math.max(this.#at, ((timestamp - first.timestamp) * first.sampleRate) / 1000);
        return;
      }
      this.#dropFirst();
    }
  }

  /** Moves on to the chunk that holds the next sample; false when there is none, or not yet. */
  #settle(): boolean {
    for (;;) {
      const first = this.#chunks[0];
      if (!first) return false;
      const length = first.channels[0]?.length ?? 0;
      if (this.#at < length) return true;
      const next = this.#chunks[1];
      if (!next) {
        this.#dropFirst();
        return false;
      }
      const over = this.#at - length;
      const gap = next.timestamp - (first.timestamp + durationMs(first));
      this.#dropFirst();
      this.#at = (over * next.sampleRate) / first.sampleRate;
      if (gap > SEAM_MS) return false;
    }
  }

  #sample(output: readonly Float32Array[], i: number, chunk: AudioChunk, gain: number): void {
    const whole = Math.floor(this.#at);
    const part = this.#at - whole;
    for (const [index, channel] of output.entries()) {
      const source = chunk.channels[Math.min(index, chunk.channels.length - 1)];
      if (!source) continue;
      const here = source[whole] ?? 0;
      const after = whole + 1 < source.length ? (source[whole + 1] ?? here) : this.#firstOfNext(index, here);
      channel[i] = (here + (after - here) * part) * gain;
    }
  }

  /** The sample across the seam, so that interpolation doesn't click there. */
  #firstOfNext(index: number, fallback: number): number {
    const next = this.#chunks[1];
    return next?.channels[Math.min(index, next.channels.length - 1)]?.[0] ?? fallback;
  }

  #dropFirst(): void {
    this.#chunks.shift();
    this.#at = 0;
  }
}

function durationMs({ channels, sampleRate }: AudioChunk): number {
  return ((channels[0]?.length ?? 0) / sampleRate) * 1000;
}
