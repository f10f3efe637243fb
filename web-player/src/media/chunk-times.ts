/**
 * Which chunk a decoder's output came from, told by timestamps that can't be trusted: Chromium's audio
 * decoder counts samples from the first chunk on, so a hole in the input, or a source clock that drifts,
 * leaves all that follows with the wrong time. Other decoders pass timestamps through. Both are matched.
 *
 * All times in milliseconds.
 */

interface Fed {
  /** The chunk's own time. */
  readonly actual: number;
  /** The time that a decoder which only counts will give it. */
  readonly counted: number;
}

/** More than any decoder holds back. */
const MAX_FED = 128;
/** A chunk's length until the decoder shows it. */
const USUAL_MS = 20;

export class ChunkTimes {
  readonly #fed: Fed[] = [];
  #counted: number | undefined;
  #duration: number | undefined;
  #shift = 0;

  /** A chunk goes in. */
  handleInput(actual: number): void {
    const counted = this.#counted ?? actual;
    this.#counted = counted + (this.#duration ?? USUAL_MS);
    this.#fed.push({ actual, counted });
    if (this.#fed.length > MAX_FED) this.#fed.shift();
  }

  /** Sound comes out, stamped `output` by the decoder: when is it really? */
  timeOf(output: number, duration: number): number {
    this.#learn(duration);
    const near = (time: number) => Math.abs(time - output) < duration / 2;
    const at = this.#fed.findIndex(({ actual, counted }) => near(counted) || near(actual));
    const fed = this.#fed[at];
    // More comes out than went in, such as a decoder's tail: it follows what was last.
    if (!fed) return output + this.#shift;
    this.#fed.splice(0, at + 1);
    this.#shift = fed.actual - output;
    return fed.actual;
  }

  /** Another decoder: it counts from its own first chunk. */
  reset(): void {
    this.#fed.length = 0;
    this.#counted = undefined;
    this.#shift = 0;
  }

  /** The first output tells how long chunks are; what was fed until then is counted anew. */
  #learn(duration: number): void {
    const [first] = this.#fed;
    if (this.#duration === duration || !first) return;
    this.#duration = duration;
    const recounted = this.#fed.map(({ actual }, i) => ({ actual, counted: first.counted + i * duration }));
    this.#fed.splice(0, this.#fed.length, ...recounted);
    this.#counted = first.counted + recounted.length * duration;
  }
}
