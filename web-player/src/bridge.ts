/**
 * What the page's thread, the worker and the audio worklet say to each other. The worker connects,
 * decodes and paints; the page's thread owns the element and the AudioContext; the worklet plays.
 */

import type { Endpoint } from "./endpoint";

/** `connecting` until the first picture, `failed` when waiting won't help. */
export type PlayerState = "connecting" | "playing" | "stalled" | "reconnecting" | "failed";

export type ErrorCode =
  | "bad-source"
  | "insecure-page"
  | "no-webtransport"
  | "no-webcodecs"
  | "unreachable"
  | "protocol"
  | "unauthorized"
  | "refused"
  | "not-found"
  | "ended"
  | "codec-unsupported"
  | "nothing-playable"
  | "decoder"
  | "internal";

/** What is wrong, for people: one sentence that says what, and one that says what to do. */
export interface Problem {
  readonly code: ErrorCode;
  readonly message: string;
  readonly hint: string;
}

/** Counters are since `connect()`; unknown is null. */
export interface PlayerStats {
  readonly transport: string | null;
  readonly protocol: string | null;
  readonly framesDecoded: number;
  readonly framesRendered: number;
  /** Came and were not shown, since the picture first was live. */
  readonly framesDropped: number;
  /** Age of the picture on screen: now minus its capture time. */
  readonly latencyMs: number | null;
  /** How wrong that may be; null: nobody knows the capture clock, so that ours is taken for it. */
  readonly latencyErrorMs: number | null;
  /** Media that is here and not yet shown. */
  readonly bufferMs: number | null;
  readonly stalls: number;
  readonly stalledMs: number;
  /** From `connect()` to the first picture. */
  readonly joinMs: number | null;
  /** Bits per second that arrive. */
  readonly videoBitrate: number;
  readonly audioBitrate: number;
  /** Name of the track on screen. */
  readonly track: string | null;
}

/** What is known before anything is. */
export const noStats: PlayerStats = {
  transport: null,
  protocol: null,
  framesDecoded: 0,
  framesRendered: 0,
  framesDropped: 0,
  latencyMs: null,
  latencyErrorMs: null,
  bufferMs: null,
  stalls: 0,
  stalledMs: 0,
  joinMs: null,
  videoBitrate: 0,
  audioBitrate: 0,
  track: null,
};

/** What the sound does. */
export interface AudioStatus {
  readonly playing: boolean;
  readonly bufferedMs: number;
  readonly underruns: number;
  /** Loudness of what was played last, root mean square, 0 to 1. */
  readonly level: number;
}

export interface Source {
  /** As given: `https://host:port/broadcast`, or `/broadcast` at the relay that serves this page. */
  readonly src: string;
  /** Where the relay takes sessions, `https://host:port/path`; `src` then names the broadcast alone. */
  readonly relay?: string;
  /** SHA-256 of the relay's certificate, hex; absent: ask the page's own server. */
  readonly certificateHash?: string;
  /** The page's address, which the worker doesn't know. */
  readonly pageUrl: string;
  /** The relay isn't told how it goes. */
  readonly noReports?: boolean;
}

export type ToWorker =
  | { readonly kind: "canvas"; readonly canvas: OffscreenCanvas }
  /** `requestedAt`: wall-clock milliseconds of the call, from which joinMs counts. */
  | {
      readonly kind: "connect";
      readonly source: Source;
      readonly requestedAt: number;
      /** Where that is, when the page found out already; for the first connection only. */
      readonly endpoint?: Endpoint;
    }
  | { readonly kind: "disconnect" }
  /** Whether the page is in the foreground, where somebody may see the picture. */
  | { readonly kind: "visibility"; readonly visible: boolean }
  /** A worklet is there and listens on the other end of `port`. */
  | { readonly kind: "audio-port"; readonly port: MessagePort }
  | { readonly kind: "audio-output"; readonly running: boolean; readonly latencyMs: number };

export type FromWorker =
  | { readonly kind: "state"; readonly state: PlayerState; readonly problem: Problem | null }
  | { readonly kind: "stats"; readonly stats: PlayerStats; readonly audio: AudioStatus }
  /** The broadcast has sound: an output with these is wanted. */
  | { readonly kind: "audio-format"; readonly sampleRate: number; readonly channels: number }
  | { readonly kind: "picture"; readonly width: number; readonly height: number };

export type ToWorklet =
  /** `timestamp`: of the first sample, milliseconds on the publisher's clock. */
  | {
      readonly kind: "sound";
      readonly timestamp: number;
      readonly sampleRate: number;
      readonly channels: readonly Float32Array[];
    }
  /** Sound stamped `t` leaves the worklet when `Date.now()` is `t + delay`. */
  | { readonly kind: "delay"; readonly delay: number }
  | { readonly kind: "clear" };

export interface FromWorklet extends AudioStatus {
  /** `Date.now()` when `position` (publisher's clock, milliseconds) left the worklet; null: silence. */
  readonly at: number;
  readonly position: number | null;
}
