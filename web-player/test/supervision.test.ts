import { describe, expect, test } from "vitest";
import { Backoff } from "../src/worker/backoff";
import { Liveness } from "../src/worker/liveness";
import { BitrateMeter, RecentDurations } from "../src/worker/meter";
import { Watch } from "../src/worker/watch";

describe("whether the session lives", () => {
  /** Ticks every 200 ms; `bytesAt` says when bytes came last. Returns [time, action] pairs. */
  function run(liveness: Liveness, from: number, to: number, bytesAt: (now: number) => number) {
    const actions: [number, string][] = [];
    for (let now = from; now <= to; now += 200) {
      const action = liveness.tick(bytesAt(now), now);
      if (action) actions.push([now, action]);
    }
    return actions;
  }

  test("media that flows is proof enough", () => {
    expect(run(new Liveness(), 0, 60_000, (now) => now - 33)).toEqual([]);
  });

  test("a relay that vanished is replaced within about two seconds", () => {
    const liveness = new Liveness();
    expect(run(liveness, 0, 5000, () => 0)).toEqual([
      [1000, "ping"],
      [2000, "replace"],
    ]);
    expect(liveness.suspect).toBe(true);
  });

  test("a relay that answers has nothing to send, and is not asked all the time", () => {
    let answered = 0;
    const liveness = new Liveness();
    const actions: number[] = [];
    for (let now = 0; now <= 20_000; now += 200) {
      const action = liveness.tick(answered, now);
      if (action) actions.push(now);
      if (action === "ping") answered = now + 20;
    }
    expect(liveness.suspect).toBe(false);
    expect(actions.length).toBeGreaterThanOrEqual(3);
    expect(actions.length).toBeLessThanOrEqual(4);
  });

  test("a relay that vanishes after media came back is noticed as fast as before", () => {
    const liveness = new Liveness();
    let bytes = 0;
    for (let now = 0; now < 1600; now += 200) if (liveness.tick(bytes, now) === "ping") bytes = now + 20;
    // Media again, then nothing.
    expect(run(liveness, 1600, 3000, (now) => now - 10)).toEqual([]);
    expect(run(liveness, 3000, 6000, () => 3000).map(([now]) => now)).toEqual([4000, 5000]);
  });

  test("one that was only slow is kept", () => {
    const liveness = new Liveness();
    run(liveness, 0, 2000, () => 0);
    expect(liveness.tick(2100, 2200)).toBe("revived");
    expect(liveness.suspect).toBe(false);
  });

  test("while nothing is subscribed, silence means nothing for a good while", () => {
    const liveness = new Liveness();
    const actions: [number, string][] = [];
    for (let now = 0; now <= 15_000; now += 200) {
      const action = liveness.tick(0, now);
      if (action) actions.push([now, action]);
      if (action === "ping") liveness.handleNothingToAsk(now);
    }
    expect(actions.filter(([, action]) => action === "replace")).toEqual([[13_200, "replace"]]);
  });
});

describe("whether the picture moves", () => {
  test("a second without a new picture is a stall, as long as it lasted", () => {
    const watch = new Watch();
    expect(watch.started).toBe(false);
    watch.handleProgress(0);
    watch.tick(900);
    expect(watch.frozen).toBe(false);
    watch.tick(1100);
    expect(watch.frozen).toBe(true);
    watch.tick(1300);
    expect([watch.stalls, watch.stalledMs(1500)]).toEqual([1, 1500]);
    watch.handleProgress(2000);
    expect([watch.frozen, watch.stalls, watch.stalledMs(9000)]).toEqual([false, 1, 2000]);
  });

  test("before the first picture nothing can stall", () => {
    const watch = new Watch();
    watch.tick(60_000);
    expect(watch.frozen).toBe(false);
  });
});

describe("waits between tries", () => {
  test("double up to their limit, start small again, and differ between viewers", () => {
    const longest = new Backoff({ firstMs: 100, mostMs: 1000 }, () => 1);
    expect(Array.from({ length: 6 }, () => longest.next())).toEqual([100, 200, 400, 800, 1000, 1000]);
    longest.reset();
    expect(longest.next()).toBe(100);
    const shortest = new Backoff({ firstMs: 100, mostMs: 1000 }, () => 0);
    expect(shortest.next()).toBe(50);
  });

  test("don't overflow after days", () => {
    const backoff = new Backoff({ firstMs: 100, mostMs: 1000 }, () => 1);
    for (let i = 0; i < 5000; i++) backoff.next();
    expect(backoff.next()).toBe(1000);
  });
});

test("bitrates are those of the last two seconds", () => {
  const meter = new BitrateMeter();
  expect(meter.bitrate(0)).toBe(0);
  for (let now = 0; now < 10_000; now += 20) meter.add(5000, now);
  expect(meter.bitrate(10_000) / 2_000_000).toBeCloseTo(1, 1);
  expect(meter.bitrate(20_000)).toBe(0);
});

test("quantiles are of recent durations", () => {
  const durations = new RecentDurations();
  expect(durations.quantile(0.9)).toBe(0);
  for (let i = 0; i < 1000; i++) durations.add(500);
  for (let i = 1; i <= 64; i++) durations.add(i);
  expect(durations.quantile(1)).toBe(64);
  expect(durations.quantile(0.5)).toBe(32);
});
