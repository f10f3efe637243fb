/**
 * Is the session dead, or is there just nothing to send? A browser takes up to half a minute to notice a
 * server that vanished; media that comes thirty times a second tells far sooner. Sans-IO: `tick` says
 * what to do.
 */

/** Silence after which the relay is asked for a sign of life. */
const SILENT_MS = 1000;
/** How long the answer may take. */
const ANSWER_MS = 1000;
/** A relay that answers has just nothing to send: leave it in peace for this long. */
const ASK_AGAIN_MS = 5000;
/** Bytes this long after an answer are more than the answer. */
const MORE_THAN_ANSWER_MS = 200;
/** Where nothing can be asked: a held request is answered within its rendezvous timeout of 10 s. */
const UNANSWERED_MS = 13_000;

/** `revived`: it was taken for dead and is not. */
export type LivenessAction = "ping" | "replace" | "revived" | undefined;

export class Liveness {
  #askedAt: number | undefined;
  #answeredAt = Number.NEGATIVE_INFINITY;
  #notBefore = Number.NEGATIVE_INFINITY;
  #suspectSince: number | undefined;

  /** The session is taken for dead. */
  get suspect(): boolean {
    return this.#suspectSince !== undefined;
  }

  /** `lastBytesAt`: when anything came on this session. */
  tick(lastBytesAt: number, now: number): LivenessAction {
    if (this.#suspectSince !== undefined) {
      if (lastBytesAt <= this.#suspectSince) return undefined;
      this.#suspectSince = undefined;
      this.#askedAt = undefined;
      return "revived";
    }
    if (this.#askedAt !== undefined) {
      if (lastBytesAt > this.#askedAt) {
        this.#askedAt = undefined;
        this.#answeredAt = lastBytesAt;
        this.#notBefore = now + ASK_AGAIN_MS;
        return undefined;
      }
      return now - this.#askedAt < ANSWER_MS ? undefined : this.#suspectFrom(now);
    }
    if (lastBytesAt > this.#answeredAt + MORE_THAN_ANSWER_MS) this.#notBefore = Number.NEGATIVE_INFINITY;
    if (now - lastBytesAt > UNANSWERED_MS) return this.#suspectFrom(now);
    if (now - lastBytesAt < SILENT_MS || now < this.#notBefore) return undefined;
    this.#askedAt = now;
    return "ping";
  }

  /** The ping could not be sent: nothing is subscribed yet, so nothing has to come. */
  handleNothingToAsk(now: number): void {
    this.#askedAt = undefined;
    this.#answeredAt = now;
    this.#notBefore = now + ASK_AGAIN_MS;
  }

  #suspectFrom(now: number): "replace" {
    this.#suspectSince = now;
    return "replace";
  }
}
