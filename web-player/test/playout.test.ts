import { describe, expect, test } from "vitest";
import { ArrivalEstimator } from "../src/playout/arrival";
import { askedDelay, PlayoutClock, targetDelay } from "../src/playout/clock";
import { FrameQueue } from "../src/playout/frames";
import { RenderClock } from "../src/playout/render-clock";
import { seeded } from "./support/random";

const FRAME = 1000 / 30;

describe("how late media comes", () => {
  test("the smallest delay is the offset, the rest jitter", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 100; i++) arrivals.observe(i * FRAME, i * FRAME + 40 + (i % 10));
    expect(arrivals.offset).toBeCloseTo(40);
    expect(arrivals.jitter(0.5)).toBeCloseTo(5);
    expect(arrivals.jitter(0.99)).toBeCloseTo(9);
  });

  test("clocks that disagree by years change nothing but the offset", () => {
    const arrivals = new ArrivalEstimator();
    const epoch = 1_767_225_600_000;
    for (let i = 0; i < 100; i++) arrivals.observe(epoch + i * FRAME, 5000 + i * FRAME + (i % 3));
    expect(arrivals.offset).toBeCloseTo(5000 - epoch, 2);
    expect(arrivals.jitter(0.95)).toBeCloseTo(2, 2);
  });

  test("the backlog at joining is no jitter", () => {
    const arrivals = new ArrivalEstimator();
    // A whole group of two seconds in a burst, then live frames.
    for (let i = 0; i < 60; i++) arrivals.observe(i * FRAME, 2000 + i * 0.3);
    expect(arrivals.offset).toBeUndefined();
    for (let i = 60; i < 90; i++) arrivals.observe(i * FRAME, i * FRAME + 20);
    expect(arrivals.offset).toBeCloseTo(20);
    expect(arrivals.jitter(0.95)).toBeLessThan(1);
  });

  test("an outage is no jitter either, and leaves no trace", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 100; i++) {
      const arrival = i * FRAME + 20;
      arrivals.observe(i * FRAME, i >= 40 && i < 75 ? Math.max(arrival, 75 * FRAME + 20) : arrival);
    }
    expect(arrivals.jitter(0.5)).toBeLessThan(1);
    expect(arrivals.jitter(0.9)).toBeLessThanOrEqual(300);
  });

  test("a line that is late again and again is jittery, however late", () => {
    const arrivals = new ArrivalEstimator();
    const random = seeded(9);
    for (let i = 0; i < 200; i++)
      arrivals.observe(i * 20, i * 20 + 20 + (i % 4 === 0 ? 350 + random() * 50 : 0));
    expect(arrivals.jitter(0.98)).toBeGreaterThan(350);
  });

  test("a backlog after a pause is none either, even when it comes in slowly", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 100; i++) arrivals.observe(i * 20, i * 20 + 20);
    // Six seconds of nothing, then the last second of it, each chunk taking a while to decode.
    for (let i = 0; i < 50; i++) arrivals.observe(7000 + i * 20, 8000 + i * 8);
    for (let i = 0; i < 100; i++) arrivals.observe(8400 + i * 20, 8420 + i * 20);
    expect(arrivals.offset).toBe(20);
    expect(arrivals.jitter(1)).toBeLessThan(1);
    expect(arrivals.isFresh(10_500)).toBe(true);
    expect(arrivals.isFresh(13_000)).toBe(false);
  });

  describe("of a publisher that sends in bursts", () => {
    /** Frames for so long that come every so often, all that were made since. */
    function listen(arrivals: ArrivalEstimator, every: number, until: number): void {
      for (let i = 0; i * FRAME < until; i++)
        arrivals.observe(i * FRAME, Math.floor((i * FRAME) / every + 1) * every + (i % 30) * 0.3);
    }

    test.each([200, 500, 1000, 2000])("all that is in one is waited for: %i ms", (every) => {
      const arrivals = new ArrivalEstimator();
      listen(arrivals, every, 10_000);
      const { offset = Number.NaN, jitter = Number.NaN } = arrivals.expect(0.95, 250, 10_000) ?? {};
      // The first frame of a burst was made when the one before came.
      expect(offset + jitter).toBeGreaterThan(every - FRAME);
      expect(offset + jitter).toBeLessThan(every + 15);
    });

    test("what would be no live picture any more is not", () => {
      const arrivals = new ArrivalEstimator();
      listen(arrivals, 3000, 20_000);
      expect(arrivals.expect(0.95, 250, 20_000)?.jitter).toBe(2500);
    });

    test("a line too thin for key frames is none, however regular", () => {
      const arrivals = new ArrivalEstimator();
      for (let group = 0; group < 12; group++) {
        let free = group * 1000;
        for (let i = 0; i < 30; i++) {
          const at = group * 1000 + i * FRAME;
          // The key frame takes 700 ms of the line, each other one 15.
          free = Math.max(free, at) + (i === 0 ? 700 : 15);
          arrivals.observe(at, free);
        }
      }
      expect(arrivals.expect(0.95, 250, 12_000)?.jitter).toBe(250);
    });

    test("nor are the heads of groups that a relay gets through such a line", () => {
      const arrivals = new ArrivalEstimator();
      for (let i = 0; i < 90; i++) arrivals.observe(i * FRAME, i * FRAME + 20);
      for (let group = 3; group < 20; group++) {
        const from = group * 1000;
        // Nothing comes for half a second, then ten frames, and the rest is cut.
        for (let i = 0; i < 10; i++) arrivals.observe(from + i * FRAME, from + 1500 + i * 50);
      }
      expect(arrivals.expect(0.95, 250, 21_000)?.jitter).toBeLessThanOrEqual(250);
    });

    test("two hiccups are none", () => {
      const arrivals = new ArrivalEstimator();
      for (let i = 0; i < 300; i++) {
        const at = i * FRAME;
        const held = [5000, 5600].find((from) => at >= from && at < from + 400);
        arrivals.observe(at, held === undefined ? at : held + 400);
      }
      expect(arrivals.expect(0.5, 250, 10_000)?.jitter).toBeLessThan(1);
    });
  });

  describe("once a line is good again", () => {
    /** A chunk each 20 ms, late by what `lateness` says of the time. */
    function listen(arrivals: ArrivalEstimator, from: number, to: number, lateness: (at: number) => number) {
      for (let at = from; at < to; at += 20) arrivals.observe(at, at + 20 + lateness(at));
    }
    const bad = (at: number) => (at % 160 === 0 ? 400 : 200);

    test("its past is forgotten as soon as it has been at rest for a moment", () => {
      const arrivals = new ArrivalEstimator();
      listen(arrivals, 0, 10_000, bad);
      expect(arrivals.jitter(0.98)).toBeCloseTo(200);
      listen(arrivals, 10_000, 11_000, () => 0);
      expect(arrivals.jitter(0.98)).toBeGreaterThan(300);
      listen(arrivals, 11_000, 12_000, () => 0);
      expect(arrivals.jitter(1)).toBe(0);
      expect(arrivals.offset).toBe(20);
    });

    test("one that only rests between its troubles is believed less each time", () => {
      const arrivals = new ArrivalEstimator();
      let believed = 0;
      // Two seconds of peace, half a second of trouble, for two minutes.
      for (let at = 0; at < 120_000; at += 2500) {
        listen(arrivals, at, at + 2000, () => 0);
        if (arrivals.jitter(0.98) < 100) believed++;
        listen(arrivals, at + 2000, at + 2500, () => 350);
      }
      // The first time there was no trouble yet.
      expect(believed).toBeLessThanOrEqual(3);
      listen(arrivals, 120_000, 140_000, () => 0);
      expect(arrivals.jitter(1)).toBe(0);
    });
  });

  test("frames that come in decoding order are no backlog; waiting for the order is jitter", () => {
    const arrivals = new ArrivalEstimator();
    // I P B B B P B B B …: each P is shown three frames after the last B before it.
    const shown = [0, ...Array.from({ length: 60 }, (_, i) => [4, 2, 1, 3].map((b) => 4 * i + b)).flat()];
    for (const [i, at] of shown.entries()) arrivals.observe(at * FRAME, i * FRAME + 20);
    expect(arrivals.offset).toBeDefined();
    expect(arrivals.jitter(0.95)).toBeCloseTo(5 * FRAME, 0);
  });

  test("what the page's own start delays is soon forgotten", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 60; i++) arrivals.observe(i * FRAME, i * FRAME + 20 + (i < 15 ? 150 + i : 0));
    expect(arrivals.jitter(1)).toBeLessThan(1);
  });

  test("a publisher's clock that is set forward starts a new measurement", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 50; i++) arrivals.observe(i * FRAME, i * FRAME + 20);
    for (let i = 50; i < 60; i++) arrivals.observe(i * FRAME + 60_000, i * FRAME + 20);
    expect(arrivals.offset).toBeCloseTo(20 - 60_000);
    expect(arrivals.jitter(1)).toBeLessThan(1);
  });

  test("a path that got longer is believed once the window has passed", () => {
    const arrivals = new ArrivalEstimator();
    for (let i = 0; i < 300; i++) arrivals.observe(i * FRAME, i * FRAME + 20);
    for (let i = 300; i < 600; i++) arrivals.observe(i * FRAME, i * FRAME + 90);
    expect(arrivals.offset).toBeCloseTo(90);
  });
});

describe("the delay that is aimed at", () => {
  test("serves the track that needs most", () => {
    const video = { offset: 20, jitter: 10, handling: 9 };
    const audio = { offset: 30, jitter: 5, handling: 20 };
    expect(targetDelay([video, audio])).toBe(30 + 8 + 20);
    expect(targetDelay([video])).toBe(39);
    expect(targetDelay([])).toBeUndefined();
  });

  test("waits for no track that is hopelessly late", () => {
    const video = { offset: 20, jitter: 10, handling: 10 };
    const lost = { offset: 59_000, jitter: 10, handling: 10 };
    expect(targetDelay([video, lost])).toBe(40);
    expect(targetDelay([lost])).toBe(59_020);
  });
});

test("a latency that is asked for is from capture to display, and bounded", () => {
  // The capture clock is 7000 ms ahead of ours.
  expect(askedDelay(800, 500, 7500, 40)).toBe(800 - 7000);
  expect(askedDelay(800, 500, undefined, 40)).toBe(840);
  expect(askedDelay(60_000, 500, undefined, 40)).toBe(2540);
  expect(askedDelay(800, 500, undefined, undefined)).toBeUndefined();
});

describe("the playout clock", () => {
  /** Runs `clock` for `ms`, in display frames. */
  function run(clock: PlayoutClock, from: number, ms: number): number {
    let now = from;
    for (; now <= from + ms; now += 16) clock.update(now);
    return now;
  }

  test("takes its first target at once and later ones slowly, down more slowly than up", () => {
    const clock = new PlayoutClock();
    clock.update(0);
    expect(clock.dueAt(1000)).toBeUndefined();
    clock.setTarget(50);
    expect(clock.dueAt(1000)).toBe(1050);
    clock.setTarget(150);
    run(clock, 0, 250);
    const rising = clock.delay ?? 0;
    expect(rising).toBeGreaterThan(80);
    expect(rising).toBeLessThan(110);
    const later = run(clock, 256, 1000);
    expect(clock.delay).toBe(150);
    clock.setTarget(50);
    run(clock, later, 1000);
    expect(clock.delay).toBeGreaterThan(90);
    expect(clock.delay).toBeLessThan(110);
  });

  test("is down by a quarter of a second within three, without a jump", () => {
    const clock = new PlayoutClock();
    clock.setTarget(310);
    clock.update(0);
    clock.setTarget(60);
    let before = 310;
    for (let now = 16; now <= 3000; now += 16) {
      clock.update(now);
      const delay = clock.delay ?? 0;
      // A picture shown at most half as fast again.
      expect(before - delay).toBeLessThan(8);
      before = delay;
    }
    expect(clock.delay).toBe(60);
  });

  test("makes up for a large difference at once", () => {
    const clock = new PlayoutClock();
    clock.setTarget(50);
    clock.setTarget(900);
    clock.update(16);
    expect(clock.delay).toBe(900);
  });

  test("follows the sound while there is sound, and the wall clock again without a step", () => {
    const clock = new PlayoutClock();
    clock.setTarget(60);
    let now = 0;
    for (; now < 2000; now += 40) {
      clock.handleAudio(75, now);
      clock.update(now);
    }
    expect(clock.audioLeads).toBe(true);
    expect(clock.delay).toBeCloseTo(75, 0);
    clock.handleAudioStopped();
    clock.update(now);
    expect(clock.audioLeads).toBe(false);
    expect(clock.delay).toBeGreaterThan(70);
    run(clock, now, 2000);
    expect(clock.delay).toBe(60);
  });

  test("sound that falls silent without a word loses the lead", () => {
    const clock = new PlayoutClock();
    clock.setTarget(60);
    clock.handleAudio(75, 0);
    clock.update(200);
    expect(clock.audioLeads).toBe(true);
    clock.update(400);
    expect(clock.audioLeads).toBe(false);
  });
});

describe("frames waiting for their time", () => {
  class Frame {
    closed = false;
    close() {
      this.closed = true;
    }
  }

  const entry = (timestamp: number) => ({ frame: new Frame(), timestamp });

  test("the newest due frame is given out, those it overtakes are closed", () => {
    const queue = new FrameQueue<Frame>();
    const [a, b, c] = [entry(0), entry(33), entry(66)];
    for (const each of [a, c, b]) queue.push(each);
    expect(queue.takeDue(40)).toBe(b);
    expect([a.frame.closed, b.frame.closed, c.frame.closed]).toEqual([true, false, false]);
    expect(queue.takeDue(40)).toBeUndefined();
    expect(queue.next).toBe(66);
  });

  test("time never goes back on screen", () => {
    const random = seeded(5);
    const queue = new FrameQueue<Frame>();
    const all: Frame[] = [];
    let shown = Number.NEGATIVE_INFINITY;
    let open = 0;
    for (let i = 0; i < 500; i++) {
      const next = entry(Math.floor(i + random() * 6) * 33);
      all.push(next.frame);
      queue.push(next);
      const due = queue.takeDue(i * 33 - random() * 100);
      if (!due) continue;
      expect(due.timestamp).toBeGreaterThan(shown);
      shown = due.timestamp;
      due.frame.close();
    }
    queue.clear();
    open = all.filter(({ closed }) => !closed).length;
    expect(open).toBe(0);
  });

  test("a new timeline may start anywhere", () => {
    const queue = new FrameQueue<Frame>();
    queue.push(entry(1000));
    queue.takeDue(2000);
    expect(queue.push(entry(5))).toBe(false);
    queue.reset();
    expect(queue.push(entry(5))).toBe(true);
  });
});

test("the render clock runs as evenly as the samples, though blocks are computed in bursts", () => {
  const clock = new RenderClock();
  const block = (128 / 48_000) * 1000;
  let worst = 0;
  let previous: number | undefined;
  for (let i = 0; i < 4000; i++) {
    // Four blocks at a time, whenever the device asks.
    const wall = Math.floor(i / 4) * 4 * block + 7_000_000;
    const time = clock.timeOf(i * block, wall);
    if (previous !== undefined && i > 1000) worst = Math.max(worst, Math.abs(time - previous - block));
    previous = time;
  }
  expect(worst).toBeLessThan(0.1);
  expect(clock.timeOf(4000 * block, 9_000_000)).toBe(9_000_000);
});
