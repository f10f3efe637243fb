import { describe, expect, test } from "vitest";
import type { FullTrackName } from "../src/moqt/names";
import { displayName } from "../src/moqt/names";
import type { TrackStatusAnswer } from "../src/moqt/session";
import { CaptureClock } from "../src/playout/capture-clock";
import { ClockFeed, clockTrack } from "../src/worker/clock-feed";
import { settle } from "./support/pair";
import { seeded } from "./support/random";

/** When our clock began to count, by the capture clock. */
const BEGAN = 1_700_000_000_000;

/** An answer that took `out` milliseconds to be given, and `back` to come. */
function answered(askedAt: number, out: number, back: number, clock: (now: number) => number, errorMs = 0) {
  return { askedAt, answeredAt: askedAt + out + back, theirs: clock(askedAt + out), errorMs };
}

describe("the capture clock", () => {
  test("is unknown until somebody says", () => {
    expect(new CaptureClock().read(0)).toBeUndefined();
  });

  test("is right within its bound, whatever the way there and back took", () => {
    const random = seeded(5);
    for (let round = 0; round < 200; round++) {
      const clock = new CaptureClock();
      // It drifts as much as clocks may.
      const rate = 1 + (random() * 2 - 1) * 100e-6;
      const theirs = (now: number) => BEGAN + now * rate;
      for (let now = 0; now < 60_000; now += 5000) {
        // Whoever answers is wrong by as much as it says, at most.
        const errorMs = random() * 20;
        const wrong = (random() * 2 - 1) * errorMs;
        clock.handleAnswer(answered(now, random() * 80, random() * 80, (at) => theirs(at) + wrong, errorMs));
        const later = now + 160 + random() * 4000;
        const reading = clock.read(later);
        if (!reading) throw new Error("it was told");
        expect(Math.abs(reading.ms - theirs(later))).toBeLessThanOrEqual(reading.errorMs + 1e-3);
      }
    }
  });

  test("is best known from the answer that travelled fastest, until that is old", () => {
    const clock = new CaptureClock();
    const theirs = (now: number) => BEGAN + now;
    clock.handleAnswer(answered(0, 1, 1, theirs));
    clock.handleAnswer(answered(10, 40, 0, theirs));
    expect(clock.read(100)).toEqual({ ms: BEGAN + 100, errorMs: expect.closeTo(1.0098, 3) });
    // 190 s later 1 ms has become 20: the same as the slow one.
    clock.handleAnswer(answered(200_000, 6, 6, theirs));
    expect(clock.read(200_012)?.errorMs).toBe(6);
  });

  test("that was set is believed at once, and what was known before is void", () => {
    const clock = new CaptureClock();
    clock.handleAnswer(answered(0, 1, 1, (now) => BEGAN + now));
    clock.handleAnswer(answered(1000, 20, 30, (now) => BEGAN + now + 5000));
    const reading = clock.read(1050);
    expect(reading?.errorMs).toBe(25);
    expect(Math.abs((reading?.ms ?? 0) - (BEGAN + 6050))).toBeLessThanOrEqual(25);
  });

  test.each([
    ["goes back in time", { askedAt: 10, answeredAt: 5, theirs: BEGAN, errorMs: 0 }],
    ["may be wrong by minutes", { askedAt: 0, answeredAt: 1, theirs: BEGAN, errorMs: 120_000 }],
    ["may be wrong by less than nothing", { askedAt: 0, answeredAt: 1, theirs: BEGAN, errorMs: -5 }],
    ["is no number", { askedAt: 0, answeredAt: 1, theirs: Number.NaN, errorMs: 0 }],
  ])("an answer that %s is none", (_, answer) => {
    const clock = new CaptureClock();
    clock.handleAnswer(answer);
    expect(clock.read(0)).toBeUndefined();
  });
});

describe("asking for it", () => {
  const answer = (askedAt: number, group: bigint, object: bigint): TrackStatusAnswer => ({
    ok: { kind: "request-ok", parameters: { largestObject: { group, object } }, trackProperties: [] },
    askedAt,
    answeredAt: askedAt + 10,
  });

  async function run(until: number, reply: (now: number) => TrackStatusAnswer | undefined) {
    const clock = new CaptureClock();
    const asked: number[] = [];
    const tracks = new Set<string>();
    let now = 0;
    const source = {
      trackStatus: async (track: FullTrackName) => {
        asked.push(now);
        tracks.add(displayName(track));
        return reply(now);
      },
    };
    const feed = new ClockFeed(source, "live/cam1", clock);
    for (; now < until; now += 200) {
      feed.tick(now);
      await settle();
    }
    return { clock, asked, tracks };
  }

  test("asks four times at once, then now and then, and reads microseconds", async () => {
    const wrong = 5000;
    const { clock, asked, tracks } = await run(12_000, (now) =>
      answer(now, BigInt(BEGAN + now + 5 + wrong) * 1000n, 250n),
    );
    expect([...tracks]).toEqual(["weir/clock/live/cam1/now"]);
    expect(asked).toEqual([0, 200, 400, 600, 10_600]);
    // Five seconds off, and right all the same.
    const reading = clock.read(11_000);
    expect(reading?.ms).toBe(BEGAN + 11_000 + wrong);
    expect(reading?.errorMs).toBeCloseTo(5.25, 0);
  });

  test("asks a relay that doesn't know more and more rarely", async () => {
    const { clock, asked } = await run(30_000, () => undefined);
    expect(clock.read(0)).toBeUndefined();
    expect(asked.length).toBeGreaterThan(3);
    expect(asked.length).toBeLessThan(12);
  });

  test("is left alone for a name that has no room for it", () => {
    expect(clockTrack("live/cam1")).toBeDefined();
    expect(clockTrack(Array(31).fill("a").join("/"))).toBeUndefined();
  });
});
