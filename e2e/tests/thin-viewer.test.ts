import { describe, expect, test } from "vitest";
import { BadLine } from "../harness/netsim.ts";
import { useScope } from "../harness/scope.ts";
import { latencyOf, longestGap, percentile, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, SILENCE, Viewer } from "../harness/viewer.ts";
import { type Drops, startPublisher, startTree } from "../harness/weir.ts";

const scope = useScope();
const BROADCAST = "live/test";
/** A third of what the source sends. */
const THIN = "rate=800k queue=32k delay=20";
const WATCH_MS = 15_000;
/** The longest that a player takes to believe that a line is good again, and to catch up. */
const WARY_MS = 14_000;

function dropped(drops: Drops): number {
  return Object.values(drops).reduce((sum, { groups, objects }) => sum + groups + objects, 0);
}

/** Of what a source sends: too little for all of it, enough for every second frame and the sound. */
const SOMEWHAT_THIN = 0.85;
/** Frames a second of the test source. */
const FRAME_RATE = 30;

describe("a viewer on a line somewhat thinner than the stream", () => {
  test("loses frame rate, and neither the picture nor the sound", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:?size=640x360&bitrate=1200k");
    await edge.offers(BROADCAST);
    const line = await BadLine.start(scope(), edge.listen);
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, BROADCAST, {
      through: line.port,
    });
    await viewer.nextSight();
    await viewer.hearsSound();
    const whole = await viewer.watch(4000);
    const { videoBitrate, audioBitrate } = (await viewer.player()).stats;
    const rate = Math.round((SOMEWHAT_THIN * (videoBitrate + audioBitrate)) / 1000);
    await line.change(`rate=${rate}k queue=16k delay=20`);
    // The player settles on what the line can do.
    await viewer.watch(8000);
    const levels: number[] = [];
    const listening = setInterval(async () => {
      const audio = await viewer.audio().catch(() => undefined);
      levels.push(audio?.level ?? 0);
    }, 250);
    const watched = 10_000;
    const sights = await viewer.watch(watched);
    clearInterval(listening);

    const { stats, error } = await viewer.player();
    const latency = latencyOf(sights);
    const stills = sights.slice(1).map(({ at }, index) => at - (sights[index]?.at ?? at));
    const frameRate = sights.length / (watched / 1000);
    const sounding = levels.filter((level) => level > SILENCE).length / levels.length;
    const { drops } = await edge.snapshot();
    report("line, and stream before, kbit/s", { rate, videoBitrate, audioBitrate });
    report("pictures before, ms", latencyOf(whole));
    report("pictures on the thin line, ms", latency);
    report("frames a second", `${frameRate}`);
    const still = { p50: percentile(stills, 50), p90: percentile(stills, 90), longest: longestGap(sights) };
    report("stills, ms", still);
    report("time with sound", `${Math.round(sounding * 100)} %`);
    report("the edge's drops", drops);
    report("the player's figures", stats);

    expect(error).toBeNull();
    expect(stepsBack(sights)).toEqual([]);
    // Every second frame at the least, and the line has no room for all.
    expect(frameRate, "frames a second").toBeGreaterThan(0.45 * FRAME_RATE);
    expect(frameRate, "frames a second").toBeLessThan(0.95 * FRAME_RATE);
    expect(sights.filter(({ frame }) => frame % 2 === 0).length).toBeGreaterThan(0);
    // Half the frame rate is 67 ms. A key frame takes the line a while, and so does what the player
    // tries the line with now and then, a group in 16: that holds a few pictures up.
    expect(still.p50, "stills, ms").toBeLessThan(100);
    expect(still.p90, "stills, ms").toBeLessThan(150);
    expect(still.longest, "longest still, ms").toBeLessThan(500);
    expect(stats.stalls, "times the player calls it frozen").toBe(0);
    expect(latency.max, "bounded latency, ms").toBeLessThan(1000);
    expect(sounding, "share of the time with sound").toBeGreaterThan(0.95);
    expect(dropped(drops), "drops that the edge reports").toBeGreaterThan(0);
  });
});

describe("a viewer on a line far thinner than the stream", () => {
  test("stays near live and keeps its sound, and costs the other viewer nothing", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:?size=640x360&bitrate=2500k");
    await edge.offers(BROADCAST);
    const browser = await openBrowser(scope());
    const line = await BadLine.start(scope(), edge.listen);
    // Each in a browser of its own: one browser would let them disturb each other there.
    const thin = await Viewer.open(scope(), await openBrowser(scope()), edge, BROADCAST, {
      through: line.port,
    });
    const free = await Viewer.open(scope(), browser, edge, BROADCAST);
    await thin.nextSight();
    await free.nextSight();
    await free.watch(2000);
    const undisturbed = latencyOf(await free.watch(4000));

    await line.change(THIN);
    // The queue on the line fills once; from then on nothing may get later.
    await Promise.all([thin.watch(5000), free.watch(5000)]);
    const before = await thin.player();
    const levels: number[] = [];
    const listening = setInterval(async () => {
      const audio = await thin.audio().catch(() => undefined);
      levels.push(audio?.level ?? 0);
    }, 250);
    const [thinSights, freeSights] = await Promise.all([thin.watch(WATCH_MS), free.watch(WATCH_MS)]);
    clearInterval(listening);
    const after = await thin.player();

    const thinLatency = latencyOf(thinSights);
    const freeLatency = latencyOf(freeSights);
    const sounding = levels.filter((level) => level > SILENCE).length / levels.length;
    const { drops, sessions } = await edge.snapshot();
    report("thin viewer's pictures, ms", thinLatency);
    report("thin viewer's longest still, ms", `${longestGap(thinSights)}`);
    report("thin viewer's time with sound", `${Math.round(sounding * 100)} %`);
    report("other viewer's pictures, ms, before and meanwhile", { undisturbed, meanwhile: freeLatency });
    report("the edge's drops", drops);
    report("the players' figures", { thin: after.stats, free: (await free.player()).stats });

    expect(thinSights.length, "pictures on the thin line").toBeGreaterThan(0);
    expect(stepsBack(thinSights)).toEqual([]);
    expect(thinLatency.max, "bounded latency, ms").toBeLessThan(4000);
    expect(sounding, "share of the time with sound").toBeGreaterThan(0.9);
    expect(after.stats.audioBitrate).toBeGreaterThan(0);
    expect(before.error).toBeNull();

    expect(dropped(drops), "drops that the edge reports").toBeGreaterThan(0);
    const suffering = sessions.filter((session) => dropped(session.drops) > 0);
    expect(suffering.length, "sessions with drops").toBe(1);

    expect(stepsBack(freeSights)).toEqual([]);
    expect(freeSights.length, "the other viewer's pictures").toBeGreaterThan((WATCH_MS / 1000) * 20);
    // A slow viewer that held the others up would cost them seconds.
    expect(freeLatency.p95).toBeLessThan(undisturbed.p95 + 200);
    expect(longestGap(freeSights)).toBeLessThan(1000);
  });

  test("is back at full quality once the line is good again", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:?size=640x360&bitrate=2500k");
    await edge.offers(BROADCAST);
    const line = await BadLine.start(scope(), edge.listen);
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, BROADCAST, {
      through: line.port,
    });
    await viewer.nextSight();
    await line.change(THIN);
    await viewer.watch(8000);
    await line.change("rate=none delay=0");
    await viewer.watch(3000);
    const sights = await viewer.watch(5000);
    report("three seconds after the line got good again, ms", latencyOf(sights));
    expect(sights.length, "pictures in 5 s at 30 fps").toBeGreaterThan(120);
    expect(latencyOf(sights).p95).toBeLessThan(1000);
    // A player that took this line for a good one too soon is warier the second time.
    let settled = latencyOf(sights);
    for (let waited = 0; settled.p95 >= 300 && waited < WARY_MS; waited += 2000) {
      settled = latencyOf(await viewer.watch(2000));
    }
    report("once the player trusts the line, ms", settled);
    expect(settled.p95).toBeLessThan(300);
  });
});
