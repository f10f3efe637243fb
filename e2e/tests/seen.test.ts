import { describe, expect, test } from "vitest";
import { startBinary } from "../harness/program.ts";
import { useScope } from "../harness/scope.ts";
import { latencyOf, report } from "../harness/statistics.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { pause, until } from "../harness/wait.ts";
import { Relay, startPublisher } from "../harness/weir.ts";

const scope = useScope();

/** Longer than a player takes from its first picture to its first report. */
const REPORTED_MS = 15_000;
/** The publisher's clock is ahead of everybody else's. */
const AHEAD_MS = 5000;
/** A busy machine's latency moves by so much from one look to the next: little beside the clocks' lead. */
const MOVES_MS = 400;

describe("what a viewer saw", () => {
  test("comes back to the relay, right though the clocks are five seconds apart", async () => {
    const root = await Relay.start(scope(), "root");
    const edge = await Relay.start(scope(), "edge", { upstream: root });
    startBinary(scope(), "publisher", "publisher", ["--url", "test:", "--relay", root.moqt], {
      WEIR_CLOCK_OFFSET_MS: String(AHEAD_MS),
    });
    await edge.offers("live/test");
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, "live/test");
    await viewer.nextSight();

    const seen = await until("the player's report at the edge", REPORTED_MS, async () => {
      const { seen } = await edge.snapshot();
      return seen?.latency_ms && seen;
    });
    report("reported", seen);
    // By the clock of the machine that both run on, without the publisher's lead.
    const measured = latencyOf(await viewer.watch(3000)).p50 + AHEAD_MS;
    const { stats } = await viewer.player();
    report("measured, ms", { measured, shown: stats.latencyMs, bound: stats.latencyErrorMs });
    expect(stats.latencyErrorMs).not.toBeNull();
    expect(Math.abs(stats.latencyMs - measured)).toBeLessThan((stats.latencyErrorMs ?? 0) + MOVES_MS);

    expect(seen.viewers).toBe(1);
    expect(seen.latency_error_ms).toBeGreaterThan(0);
    expect(seen.latency_error_ms).toBeLessThan(1000);
    expect(Math.abs((seen.latency_ms?.p50 ?? 0) - measured)).toBeLessThan(
      (seen.latency_error_ms ?? 0) + MOVES_MS,
    );
    expect(seen.join_ms).toBe(stats.joinMs);
    expect(seen.stalled_ms).toBeLessThanOrEqual(stats.stalledMs);

    await until("the root to tell what was seen at the edge", REPORTED_MS, async () => {
      const nodes = await root.nodes();
      return nodes.get("edge")?.seen?.viewers === 1 && nodes.get("root")?.seen === undefined;
    });
    const metrics = await (await fetch(`${edge.adminUrl}/metrics`)).text();
    expect(metrics).toContain('weir_viewers_reporting{transport="webtransport"} 1\n');

    await viewer.page.close();
    await until("nobody to be watching", REPORTED_MS, async () => {
      const { seen } = await edge.snapshot();
      return seen?.viewers === 0 && seen.latency_ms === undefined;
    });
  });

  test("of a relay that went away is told when it is back, once", async () => {
    const relay = await Relay.start(scope(), "relay");
    startPublisher(scope(), relay, "test:");
    await relay.offers("live/test");
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), relay, "live/test");
    const reported = () =>
      until("a report", REPORTED_MS, async () => {
        const { seen } = await relay.snapshot();
        return seen?.viewers === 1 && seen;
      });
    expect((await reported()).join_ms).toBeGreaterThan(0);
    const before = (await viewer.player()).stats;

    await relay.kill();
    await pause(3000);
    await relay.restart();
    await viewer.nextSight(30_000, Date.now());
    const seen = await reported();
    const after = (await viewer.player()).stats;
    report("the gap", { seen, shown_ms: after.stalledMs - before.stalledMs });
    expect(seen.stalls).toBe(after.stalls - before.stalls);
    expect(seen.stalled_ms).toBeGreaterThan(2000);
    expect(seen.stalled_ms).toBeLessThanOrEqual(after.stalledMs - before.stalledMs);
    // It had joined before.
    expect(seen.join_ms).toBeUndefined();
  });

  test("stays with who does not want to tell", async () => {
    const relay = await Relay.start(scope(), "relay");
    startPublisher(scope(), relay, "test:");
    await relay.offers("live/test");
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), relay, "live/test", {
      silent: true,
    });
    await viewer.nextSight();
    await pause(8000);
    expect((await viewer.player()).state).toBe("playing");
    expect(await relay.snapshot()).toMatchObject({ viewers: 1 });
    expect((await relay.snapshot()).seen).toBeUndefined();
  });
});
