/**
 * Everything that outlives a session: the pipelines, the clock they share, the figures about them.
 * Sessions come and go and feed it; the last picture stays.
 */

import type { AudioStatus, PlayerStats } from "../bridge";
import type { AssembledObject } from "../media/assembler";
import type { MediaKind, Selection } from "../media/tracks";
import { CaptureClock } from "../playout/capture-clock";
import { askedDelay, PlayoutClock, type TrackNeed, targetDelay } from "../playout/clock";
import { AudioPipeline } from "./audio";
import { BitrateMeter } from "./meter";
import type { Screen } from "./screen";
import { VideoPipeline } from "./video";

export interface StageEvents {
  handlePainted(): void;
  handleDecoderFault(reason: string): void;
}

/** Identifies who delivers: a change of it means another subscription. */
export type Feeder = object;

/** A picture older than this is no frame waiting for the next one. */
const STANDING_STILL_MS = 500;

type Figures = Omit<PlayerStats, "transport" | "protocol" | "stalls" | "stalledMs" | "joinMs">;

/** Age of a picture, and how wrong that may be if anybody knows. */
interface Latency {
  readonly ms: number;
  readonly errorMs: number | null;
}

export class Stage {
  /** The clock that stamps the pictures. */
  readonly captureClock = new CaptureClock();
  readonly #clock = new PlayoutClock();
  readonly #video: VideoPipeline;
  readonly audio: AudioPipeline;
  readonly #meters = { video: new BitrateMeter(), audio: new BitrateMeter() };
  readonly #feeders = new Map<MediaKind, Feeder>();
  #paintedAt: number | undefined;
  #latency: Latency | undefined;

  constructor(screen: Screen, events: StageEvents) {
    this.#video = new VideoPipeline(this.#clock, screen, {
      handlePainted: (now, captured) => {
        this.#paintedAt = now;
        this.#latency = captured === undefined ? undefined : this.#since(captured);
        events.handlePainted();
      },
      handleTimelineReset: () => this.resetTimeline(),
      handleDecoderFault: events.handleDecoderFault,
    });
    this.audio = new AudioPipeline(this.#clock);
  }

  /** When the last picture was painted. */
  get paintedAt(): number | undefined {
    return this.#paintedAt;
  }

  get selection(): Selection {
    const { track: video } = this.#video;
    const { track: audio } = this.audio;
    return { ...(video && { video }), ...(audio && { audio }) };
  }

  /** How long a newer group may be held up by an older one: no longer than its frames can wait. */
  get patienceMs(): number {
    const offset = this.#video.arrivals.offset;
    const delay = this.#clock.delay;
    return offset === undefined || delay === undefined ? 100 : Math.max(40, delay - offset);
  }

  setSelection({ video, audio }: Selection): void {
    this.#video.setTrack(video);
    this.audio.setTrack(audio);
  }

  handleObject(kind: MediaKind, from: Feeder, object: AssembledObject, timescale: bigint | undefined): void {
    const pipeline = kind === "video" ? this.#video : this.audio;
    if (this.#feeders.get(kind) !== from) {
      this.#feeders.set(kind, from);
      pipeline.resync();
    }
    pipeline.handleObject(object, timescale);
  }

  handleBytes(kind: MediaKind, count: number, now: number): void {
    this.#meters[kind].add(count, now);
  }

  /** Retunes the clock; a few times a second. */
  tick(now: number): void {
    const needs = [this.#video.need(now), this.audio.need(now)].filter((need) => need !== undefined);
    const least = targetDelay(needs);
    if (least !== undefined) this.#clock.setTarget(Math.max(least, this.#askedDelay(now, needs) ?? least));
    this.#clock.update(now);
    this.audio.tellDelay(now);
  }

  figures(now: number): { readonly stats: Figures; readonly audio: AudioStatus } {
    return {
      stats: {
        framesDecoded: this.#video.framesDecoded,
        framesRendered: this.#video.framesRendered,
        framesDropped: this.#video.framesDropped,
        latencyMs: this.#latencyOnScreen(now),
        latencyErrorMs: this.#latency?.errorMs ?? null,
        bufferMs: this.#bufferMs(),
        videoBitrate: this.#meters.video.bitrate(now),
        audioBitrate: this.#meters.audio.bitrate(now),
        track: this.#video.track?.name ?? this.audio.track?.name ?? null,
      },
      audio: this.audio.status,
    };
  }

  resetTimeline(): void {
    this.#clock.reset();
    this.#video.resetTimeline();
    this.audio.resetTimeline();
  }

  /** Another broadcast: only the last picture stays. */
  restart(): void {
    this.close();
    this.resetTimeline();
    this.#video.resetCounters();
    this.#feeders.clear();
    this.captureClock.reset();
    this.#paintedAt = undefined;
    this.#latency = undefined;
  }

  close(): void {
    this.#video.close();
    this.audio.close();
  }

  /** What the publisher wishes. */
  #askedDelay(now: number, needs: readonly TrackNeed[]): number | undefined {
    const { targetLatency } = this.#video.track ?? this.audio.track ?? {};
    if (targetLatency === undefined) return undefined;
    return askedDelay(targetLatency, now, this.captureClock.read(now)?.ms, needs[0]?.offset);
  }

  #since(captured: number): Latency {
    const reading = this.captureClock.read(performance.now());
    // Where nobody knows the capture clock, ours is taken for it.
    if (!reading) return { ms: Date.now() - captured, errorMs: null };
    return { ms: Math.max(0, reading.ms - captured), errorMs: reading.errorMs };
  }

  /** As painted; a picture that stands still ages. */
  #latencyOnScreen(now: number): number | null {
    if (this.#latency === undefined || this.#paintedAt === undefined) return null;
    const age = now - this.#paintedAt;
    return this.#latency.ms + (age > STANDING_STILL_MS ? age : 0);
  }

  #bufferMs(): number | null {
    const { newest, shown } = this.#video;
    if (newest !== undefined && shown !== undefined) return Math.max(0, newest - shown);
    return this.audio.track ? this.audio.status.bufferedMs : null;
  }
}
