import { describe, expect, test } from "vitest";
import { type AudioChunk, AudioQueue } from "../src/playout/audio-queue";

const RATE = 48_000;
const BLOCK = 128;
const BLOCK_MS = (BLOCK / RATE) * 1000;
const CHUNK_MS = 20;

/** Every sample holds its own time in milliseconds, so that what is played can be read off. */
function ramp(timestamp: number, ms = CHUNK_MS, sampleRate = RATE): AudioChunk {
  const samples = Float32Array.from(
    { length: (ms * sampleRate) / 1000 },
    (_, i) => timestamp + (i / sampleRate) * 1000,
  );
  return { timestamp, sampleRate, channels: [samples] };
}

/** Plays blocks from `from` for `ms`; `each` runs before every block. Returns [time, sample] of block starts. */
function play(queue: AudioQueue, from: number, ms: number, each: (now: number) => void = () => undefined) {
  const heard: [number, number][] = [];
  const output = [new Float32Array(BLOCK), new Float32Array(BLOCK)];
  for (let now = from; now < from + ms; now += BLOCK_MS) {
    each(now);
    queue.render(output, RATE, now);
    heard.push([now, output[0]?.[BLOCK - 1] ?? 0]);
    if (output[1]?.some((sample, i) => sample !== output[0]?.[i])) throw new Error("the channels differ");
  }
  return heard;
}

/** Delivers a chunk every 20 ms, each 5 ms after its last sample was captured. */
function deliver(queue: AudioQueue, from = 0) {
  let next = from;
  return (now: number) => {
    while (next + CHUNK_MS + 5 <= now) {
      queue.push(ramp(next));
      next += CHUNK_MS;
    }
  };
}

describe("sound", () => {
  test("comes out at its time plus the delay, and not before", () => {
    const queue = new AudioQueue();
    queue.setDelay(60);
    const heard = play(queue, 0, 1000, deliver(queue));
    for (const [now, sample] of heard) {
      const end = now + BLOCK_MS;
      if (end < 60) expect(sample).toBe(0);
      if (now > 70) expect(end - sample).toBeCloseTo(60, 0);
    }
    expect(queue.underruns).toBe(0);
    expect(queue.playing).toBe(true);
  });

  test("bends its speed, unheard, until it is where it belongs", () => {
    const queue = new AudioQueue();
    queue.setDelay(60);
    const feed = deliver(queue);
    play(queue, 0, 500, feed);
    queue.setDelay(90);
    const heard = play(queue, 500 - (500 % BLOCK_MS) + BLOCK_MS, 6000, feed);
    const [now = 0, sample = 0] = heard.at(-1) ?? [];
    expect(now + BLOCK_MS - sample).toBeGreaterThan(84);
    for (const [i, [, value]] of heard.entries()) {
      const before = heard[i - 1]?.[1];
      // Two percent, never a jump.
      if (before !== undefined && i > 1) expect(Math.abs(value - before - BLOCK_MS)).toBeLessThan(0.08);
    }
    expect(queue.underruns).toBe(0);
  });

  test("skips when it is far behind", () => {
    const queue = new AudioQueue();
    queue.setDelay(500);
    const feed = deliver(queue);
    play(queue, 0, 1000, feed);
    queue.setDelay(60);
    const heard = play(queue, 1000, 200, feed);
    const [now = 0, sample = 0] = heard.at(-1) ?? [];
    expect(now + BLOCK_MS - sample).toBeCloseTo(60, -1);
  });

  test("skips without a click: the old sound fades out while the new one fades in", () => {
    const queue = new AudioQueue();
    queue.setDelay(500);
    const feed = deliver(queue);
    play(queue, 0, 1000, feed);
    queue.setDelay(60);
    const output = [new Float32Array(BLOCK)];
    let before: number | undefined;
    let steepest = 0;
    for (let now = 1000; now < 1100; now += BLOCK_MS) {
      feed(now);
      queue.render(output, RATE, now);
      for (const sample of output[0] ?? []) {
        if (before !== undefined) steepest = Math.max(steepest, Math.abs(sample - before));
        before = sample;
      }
    }
    // 440 ms are skipped; over ten milliseconds that is less than one per sample.
    expect(steepest).toBeGreaterThan(0.5);
    expect(steepest).toBeLessThan(1.1);
    expect(queue.underruns).toBe(0);
  });

  test("waits in silence when it is far ahead", () => {
    const queue = new AudioQueue();
    queue.setDelay(60);
    const feed = deliver(queue);
    play(queue, 0, 500, feed);
    queue.setDelay(400);
    const heard = play(queue, 500, 800, feed);
    expect(heard.slice(2, 40).every(([, sample]) => sample === 0)).toBe(true);
    const [now = 0, sample = 0] = heard.at(-1) ?? [];
    expect(now + BLOCK_MS - sample).toBeCloseTo(400, -1);
  });

  test("that runs dry is silence, counted, and comes back at the right time", () => {
    const queue = new AudioQueue();
    queue.setDelay(60);
    play(queue, 0, 500, deliver(queue));
    play(queue, 500, 300);
    expect(queue.playing).toBe(false);
    expect(queue.underruns).toBe(1);
    const heard = play(queue, 800, 400, deliver(queue, 800));
    const [now = 0, sample = 0] = heard.at(-1) ?? [];
    expect(now + BLOCK_MS - sample).toBeCloseTo(60, 0);
  });

  test("with a hole in it keeps its time across the hole", () => {
    const queue = new AudioQueue();
    queue.setDelay(60);
    const feed = deliver(queue);
    const heard = play(queue, 0, 1000, (now) => {
      if (now < 300) feed(now);
      else if (now > 500) feed(now);
    });
    const [now = 0, sample = 0] = heard.at(-1) ?? [];
    expect(now + BLOCK_MS - sample).toBeCloseTo(60, 0);
  });

  test("of another rate is resampled", () => {
    const queue = new AudioQueue();
    queue.setDelay(0);
    for (let at = 0; at < 1000; at += CHUNK_MS) queue.push(ramp(at, CHUNK_MS, 24_000));
    const heard = play(queue, 0, 800);
    for (const [now, sample] of heard.slice(5)) expect(now + BLOCK_MS - sample).toBeLessThan(1.5);
    expect(queue.underruns).toBe(0);
  });

  test("that came before is not played twice; a new timeline is followed", () => {
    const queue = new AudioQueue();
    queue.push(ramp(1000));
    queue.push(ramp(1020));
    queue.push(ramp(1000));
    expect(queue.bufferedMs).toBeCloseTo(40);
    queue.push(ramp(10_000_000));
    queue.push(ramp(500));
    expect(queue.position).toBe(500);
    expect(queue.bufferedMs).toBeCloseTo(20);
  });

  test("never piles up, whatever the delay", () => {
    const queue = new AudioQueue();
    for (let at = 0; at < 60_000; at += CHUNK_MS) queue.push(ramp(at));
    expect(queue.bufferedMs).toBeLessThanOrEqual(3000);
  });

  test("that makes no sense is left out", () => {
    const queue = new AudioQueue();
    queue.push({ timestamp: 0, sampleRate: 0, channels: [new Float32Array(5)] });
    queue.push({ timestamp: 0, sampleRate: RATE, channels: [] });
    queue.push({ timestamp: 0, sampleRate: RATE, channels: [new Float32Array(0)] });
    expect(queue.position).toBeUndefined();
    queue.render([new Float32Array(BLOCK)], RATE, 0);
  });
});
