import { describe, expect, test } from "vitest";
import { useScope } from "../harness/scope.ts";
import { latencyOf, longestGap, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { until } from "../harness/wait.ts";
import { startPublisher, startTree } from "../harness/weir.ts";

const scope = useScope();

describe("the built-in test source", () => {
  test("is seen and heard at the edge, through two relays", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:");
    await edge.offers("live/test");
    const browser = await openBrowser(scope());
    const viewer = await Viewer.open(scope(), browser, edge, "live/test");

    const first = await viewer.nextSight();
    const { stats: joined } = await viewer.player();
    report("time to first frame", {
      sincePageOpened_ms: first.at - viewer.opened,
      sinceConnect_ms: Math.round(joined.joinMs),
    });

    report("sound", await viewer.hearsSound());

    const sights = await viewer.watch(10_000);
    const latency = latencyOf(sights);
    report("glass to glass, two relays, ms", latency);
    expect(stepsBack(sights), "frame numbers that went backwards").toEqual([]);
    expect(latency.pictures, "pictures in 10 s at 30 fps").toBeGreaterThan(200);
    expect(longestGap(sights)).toBeLessThan(1000);
    // Sanity, not a mark: a test machine may be slow, but not a second behind.
    expect(latency.p95).toBeLessThan(1000);

    const player = await viewer.player();
    report("the player's own figures", player.stats);
    expect(player.state).toBe("playing");
    expect(player.error).toBeNull();
    expect(player.stats.protocol).toBe("moqt-18");
    expect(player.stats.framesRendered).toBeGreaterThan(200);
    expect(player.stats.audioBitrate).toBeGreaterThan(0);
    expect(Math.abs(player.stats.latencyMs - latency.p50), "shown against measured latency").toBeLessThan(
      250,
    );
  });

  test("appears by itself on a page that was opened before it", async () => {
    const { root, edge } = await startTree(scope());
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, "live/test");
    await until("the player to say that nothing is on", 15_000, async () => {
      const { state } = await viewer.player();
      return state !== "playing" && (await viewer.page.getByText(/not (found|live)/i).count()) > 0;
    });
    startPublisher(scope(), root, "test:");
    await viewer.nextSight(30_000);
  });
});
