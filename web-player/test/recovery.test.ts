/** Arrival statistics, playout clock and sound queue together, in virtual time, on a line that gets better. */

import { expect, test } from "vitest";
import { ArrivalEstimator } from "../src/playout/arrival";
import { AudioQueue } from "../src/playout/audio-queue";
import { PlayoutClock, targetDelay } from "../src/playout/clock";
import { seeded } from "./support/random";

const RATE = 48_000;
const BLOCK = 128;
const BLOCK_MS = (BLOCK / RATE) * 1000;
const CHUNK_MS = 20;
const FRAME_MS = 1000 / 30;
const TICK_MS = 200;
const REPORT_MS = 40;
const DECODE_MS = 5;

interface Media {
  readonly kind: "audio" | "video";
  readonly timestamp: number;
  readonly arrival: number;
}

/** What is captured until `end`, in order of arrival. */
function media(end: number, lateness: (timestamp: number) => number): Media[] {
  const all: Media[] = [];
  for (const [kind, step] of [
    ["audio", CHUNK_MS],
    ["video", FRAME_MS],
  ] as const) {
    let last = 0;
    for (let timestamp = 0; timestamp < end; timestamp += step) {
      // One stream: nothing overtakes.
      last = Math.max(last, timestamp + step + lateness(timestamp));
      all.push({ kind, timestamp, arrival: last });
    }
  }
  return all.sort((a, b) => a.arrival - b.arrival);
}

interface Heard {
  readonly now: number;
  readonly pictureDelay: number;
  readonly soundDelay: number | undefined;
}

function play(end: number, lateness: (timestamp: number) => number) {
  const arrivals = { audio: new ArrivalEstimator(), video: new ArrivalEstimator() };
  const clock = new PlayoutClock();
  const queue = new AudioQueue();
  const coming = media(end, lateness);
  const output = [new Float32Array(BLOCK)];
  const heard: Heard[] = [];
  let next = 0;
  let ticked = 0;
  let reported = 0;
  for (let now = 0; now < end; now += BLOCK_MS) {
    for (let item = coming[next]; item && item.arrival <= now; item = coming[++next]) {
      arrivals[item.kind].observe(item.timestamp, item.arrival);
      if (item.kind !== "audio") continue;
      const channels = [new Float32Array((CHUNK_MS * RATE) / 1000).fill(1)];
      queue.push({ timestamp: item.timestamp, sampleRate: RATE, channels });
    }
    if (now - ticked >= TICK_MS) {
      ticked = now;
      const needs = [arrivals.audio, arrivals.video].flatMap((track) =>
        track.offset === undefined
          ? []
          : [{ offset: track.offset, jitter: track.jitter(0.98), handling: DECODE_MS }],
      );
      const target = targetDelay(needs);
      if (target !== undefined) {
        clock.setTarget(target);
        queue.setDelay(target);
      }
    }
    queue.render(output, RATE, now);
    if (now - reported >= REPORT_MS) {
      reported = now;
      if (queue.playing && queue.position !== undefined) clock.handleAudio(now - queue.position, now);
      else clock.handleAudioStopped();
    }
    clock.update(now);
    const { position, playing } = queue;
    const soundDelay = playing && position !== undefined ? now - position : undefined;
    heard.push({ now, pictureDelay: clock.delay ?? Number.NaN, soundDelay });
  }
  return { heard, queue };
}

test("three seconds after a thin line gets good, picture and sound are near live again", () => {
  const random = seeded(800);
  const GOOD_AT = 12_000;
  const { heard, queue } = play(24_000, (timestamp) => (timestamp < GOOD_AT ? 150 + random() * 300 : 5));
  const at = (time: number) => heard.find(({ now }) => now >= time);

  expect(at(GOOD_AT)?.pictureDelay).toBeGreaterThan(400);
  const soon = at(GOOD_AT + 3000);
  expect(soon?.pictureDelay).toBeLessThan(120);
  expect(soon?.soundDelay).toBeLessThan(90);
  const later = heard.filter(({ now }) => now > GOOD_AT + 4000);
  expect(Math.max(...later.map(({ pictureDelay }) => pictureDelay))).toBeLessThan(80);

  // Without a gap in the sound, and with one skip at most.
  const after = heard.filter(({ now }) => now > GOOD_AT);
  expect(after.every(({ soundDelay }) => soundDelay !== undefined)).toBe(true);
  const skips = after.filter(({ soundDelay }, i) => {
    const before = after[i - 1]?.soundDelay;
    return before !== undefined && soundDelay !== undefined && before - soundDelay > 20;
  });
  expect(skips.length).toBeLessThanOrEqual(1);
  expect(queue.playing).toBe(true);
});

test("a line with a hiccup now and then costs gaps only until it is known", () => {
  const random = seeded(7);
  const { heard } = play(60_000, (timestamp) => 5 + random() * 10 + (timestamp % 5000 < 400 ? 150 : 0));
  const silent = (from: number) =>
    heard.filter(({ now, soundDelay }) => now > from && soundDelay === undefined).length * BLOCK_MS;
  expect(silent(2000), "milliseconds of silence in a minute").toBeLessThan(800);
  expect(silent(16_000), "milliseconds of silence after three hiccups").toBe(0);
});
