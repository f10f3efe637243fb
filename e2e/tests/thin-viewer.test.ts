import { describe, expect, test } from "vitest";
import { BadLine } from "../harness/netsim.ts";
import { useScope } from "../harness/scope.ts";
import { latencyOf, longestGap, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, SILENCE, Viewer } from "../harness/viewer.ts";
import { type Drops, startPublisher, startTree } from "../harness/weir.ts";

const scope = useScope();
const BROADCAST = "live/test";
/** A third of what the source sends. */
const THIN = "rate=800k queue=32k delay=20";
const WATCH_MS = 15_000;

function dropped(drops: Drops): number {
  return Object.values(drops).reduce((sum, { groups, objects }) => sum + groups + objects, 0);
}

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
    expect(latencyOf(sights).p50).toBeLessThan(300);
    expect(latencyOf(sights).p95).toBeLessThan(1000);
  });
});
