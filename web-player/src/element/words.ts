/** What the player says on screen: its state and figures, in words. */

import type { PlayerState, PlayerStats, Problem } from "../bridge";

export interface Notice {
  readonly title: string;
  readonly detail: string;
  /** Something goes on by itself: show that it does. */
  readonly busy: boolean;
}

/** What to lay over the picture; undefined: nothing. */
export function noticeFor(state: PlayerState, problem: Problem | null): Notice | undefined {
  if (problem) {
    return { title: problem.message, detail: problem.hint, busy: state !== "failed" };
  }
  switch (state) {
    case "playing":
      return undefined;
    case "connecting":
      return { title: "Connecting", detail: "", busy: true };
    case "stalled":
      return {
        title: "The stream has paused",
        detail: "It goes on here as soon as the source does.",
        busy: true,
      };
    case "reconnecting":
      return {
        title: "Reconnecting",
        detail: "The connection was lost. The picture comes back by itself.",
        busy: true,
      };
    case "failed":
      return { title: "This stream can't be played", detail: "", busy: false };
  }
}

/** Beyond this the two clocks disagree; a figure would mislead. */
const BELIEVABLE_MS = 60_000;

export function latencyWords(latencyMs: number | null): string {
  if (latencyMs === null || latencyMs < 0 || latencyMs > BELIEVABLE_MS) return "Live";
  const seconds = latencyMs / 1000;
  return `${seconds.toFixed(seconds < 10 ? 2 : 1)} s behind live`;
}

function milliseconds(value: number | null): string {
  return value === null ? "–" : `${Math.round(value)} ms`;
}

/** Nothing where the capture clock isn't known: then nothing bounds the error. */
function bound({ latencyMs, latencyErrorMs }: PlayerStats): string {
  return latencyMs === null || latencyErrorMs === null ? "" : ` ± ${Math.ceil(latencyErrorMs)} ms`;
}

function bitrate(bits: number): string {
  if (bits === 0) return "–";
  return bits >= 1_000_000 ? `${(bits / 1_000_000).toFixed(2)} Mbit/s` : `${Math.round(bits / 1000)} kbit/s`;
}

/** The statistics panel, line by line. */
export function statLines(stats: PlayerStats, sound: string): readonly (readonly [string, string])[] {
  return [
    ["Latency", milliseconds(stats.latencyMs) + bound(stats)],
    ["Buffer", milliseconds(stats.bufferMs)],
    ["First picture after", milliseconds(stats.joinMs)],
    ["Frames", `${stats.framesRendered} shown of ${stats.framesDecoded} decoded`],
    [
      "Stalls",
      stats.stalls === 0 ? "none" : `${stats.stalls}, ${(stats.stalledMs / 1000).toFixed(1)} s in all`,
    ],
    ["Video", bitrate(stats.videoBitrate)],
    ["Sound", `${bitrate(stats.audioBitrate)}${sound === "" ? "" : `, ${sound}`}`],
    ["Track", stats.track ?? "–"],
    ["Transport", [stats.transport, stats.protocol].filter(Boolean).join(", ") || "–"],
  ];
}
