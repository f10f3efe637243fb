import { describe, expect, type TestContext, test } from "vitest";
import { ForeignRelay, NotHere } from "../harness/foreign.ts";
import { type Scope, useScope } from "../harness/scope.ts";
import { latencyOf, longestGap, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { pause } from "../harness/wait.ts";
import { Relay, startPublisher } from "../harness/weir.ts";

const scope = useScope();
const BROADCAST = "live/test";
const BACK_MS = 40_000;
/** Installing the other relay may be part of the test. */
const TEST_MS = 400_000;

const relays = [
  {
    name: "aiomoqt's moq-interop-relay",
    protocol: "moqt-18",
    start: (scope: Scope) => ForeignRelay.aiomoqt(scope, 18),
  },
  {
    name: "aiomoqt's moq-interop-relay",
    protocol: "moqt-22",
    start: (scope: Scope) => ForeignRelay.aiomoqt(scope, 22),
  },
  {
    name: "Cloudflare's moq-relay-ietf",
    protocol: "moqt-18",
    start: (scope: Scope) => ForeignRelay.moqRelayIetf(scope),
  },
];

/** The relay, or the test is skipped and says why. */
async function startOrSkip(context: TestContext, start: () => Promise<ForeignRelay>): Promise<ForeignRelay> {
  try {
    return await start();
  } catch (error) {
    if (!(error instanceof NotHere)) throw error;
    console.warn(`skipped: ${error.message}`);
    return context.skip(error.message);
  }
}

describe.each(relays)("our publisher and our player, through $name, $protocol", ({ protocol, start }) => {
  test("picture and sound come, to a late viewer too, and come back", {
    timeout: TEST_MS,
  }, async (context) => {
    const foreign = await startOrSkip(context, () => start(scope()));
    // Only the page comes from ours.
    const page = await Relay.start(scope(), "page");
    const publish = () => startPublisher(scope(), foreign, "test:", "--tls-disable-verify");
    const publisher = publish();
    const browser = await openBrowser(scope());
    const watch = () => Viewer.open(scope(), browser, page, BROADCAST, { elsewhere: foreign.session });

    const viewer = await watch();
    await viewer.nextSight();
    report("sound", await viewer.hearsSound());
    await viewer.watch(1000);
    const sights = await viewer.watch(5000);
    const latency = latencyOf(sights);
    report("glass to glass, ms", latency);
    expect(stepsBack(sights), "frame numbers that went backwards").toEqual([]);
    expect(latency.pictures, "pictures in 5 s at 30 fps").toBeGreaterThan(100);
    expect(longestGap(sights)).toBeLessThan(1000);
    expect(latency.p95).toBeLessThan(1000);
    const { state, stats } = await viewer.player();
    expect(state).toBe("playing");
    expect(stats.protocol).toBe(protocol);
    expect((await page.snapshot()).viewers, "viewers of the relay that serves the page").toBe(0);

    const late = await watch();
    await late.nextSight();
    const { joinMs } = (await late.player()).stats;
    report("a late viewer's first picture", { sinceConnect_ms: Math.round(joinMs) });

    await publisher.kill();
    await pause(1000);
    const again = Date.now();
    publish();
    const picture = await viewer.nextSight(BACK_MS, again);
    report("picture back after the publisher's restart", { sinceStarted_ms: picture.at - again });

    await foreign.kill();
    await pause(1000);
    await foreign.restart();
    const restarted = Date.now();
    const back = await viewer.nextSight(BACK_MS, restarted);
    report("picture back after the relay's restart", { sinceListening_ms: back.at - restarted });
    expect((await viewer.player()).state).toBe("playing");
  });
});
