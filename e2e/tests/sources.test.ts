import { describe, expect, test } from "vitest";
import { type Scope, useScope } from "../harness/scope.ts";
import {
  FRAGMENT_A_SECOND,
  FRAGMENTED_MP4,
  MPEG_TS,
  makeFile,
  serveEndlessTs,
  startCamera,
  TONE,
} from "../harness/sources.ts";
import { latencyOf, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, type Sight, Viewer } from "../harness/viewer.ts";
import { startPublisher, startTree, type Tree } from "../harness/weir.ts";

const scope = useScope();
const BROADCAST = "live/source";
const WATCH_MS = 5_000;

/** Starts a tree, lets `publish` send something to its root, and watches at its edge. */
async function watchAtEdge(scope: Scope, publish: (tree: Tree) => void): Promise<Viewer> {
  const tree = await startTree(scope);
  publish(tree);
  await tree.edge.offers(BROADCAST);
  const viewer = await Viewer.open(scope, await openBrowser(scope), tree.edge, BROADCAST);
  await viewer.nextSight();
  return viewer;
}

function expectMotion(sights: readonly Sight[]): void {
  expect(stepsBack(sights), "frame numbers that went backwards").toEqual([]);
  expect(sights.length, `pictures in ${WATCH_MS} ms at 30 fps`).toBeGreaterThan(100);
}

describe("a file that ffmpeg made", () => {
  test.each([
    { name: "camera.ts", args: [] },
    { name: "camera.mp4", args: [] },
    { name: "index-first.mp4", args: ["-movflags", "+faststart"] },
    { name: "fragmented.mp4", args: ["-movflags", "frag_keyframe+empty_moov+default_base_moof"] },
  ])("$name moves forward and sounds", async ({ name, args }) => {
    const file = await makeFile(scope(), { seconds: 30, name, args });
    const viewer = await watchAtEdge(scope(), ({ root }) =>
      startPublisher(scope(), root, file, "--name", BROADCAST, "--loop"),
    );
    report(`${name}, sound`, await viewer.hears(TONE));
    expectMotion(await viewer.watch(WATCH_MS));
    expect((await viewer.player()).error).toBeNull();
  });

  test.each(["short.ts", "short.mp4"])("%s goes round without a stop when it is looped", async (name) => {
    const seconds = 3;
    const frames = seconds * 30;
    const file = await makeFile(scope(), { seconds, name });
    const viewer = await watchAtEdge(scope(), ({ root }) =>
      startPublisher(scope(), root, file, "--name", BROADCAST, "--loop"),
    );
    const sights = await viewer.watch(3 * seconds * 1000);
    const turns = sights.filter((sight, index) => sight.frame < (sights[index - 1]?.frame ?? 0));
    expect(turns.length, "times the loop began anew").toBeGreaterThanOrEqual(2);
    for (const turn of turns) expect(turn.frame, "where a round begins").toBeLessThan(frames / 3);
    expect(sights.length).toBeGreaterThan(2 * frames);
    await viewer.hears(TONE);
  });
});

describe("ffmpeg piped into the publisher", () => {
  test.each([
    { container: "MPEG-TS", format: MPEG_TS },
    { container: "fragmented MP4", format: FRAGMENTED_MP4 },
  ])("as $container moves forward and sounds, live", async ({ container, format }) => {
    const viewer = await watchAtEdge(scope(), ({ root }) => {
      const publisher = startPublisher(scope(), root, "-", "--name", BROADCAST);
      startCamera(scope(), format).stdout.pipe(publisher.stdin);
    });
    report(`${container} by pipe, sound`, await viewer.hears(TONE));
    const sights = await viewer.watch(WATCH_MS);
    const latency = latencyOf(sights);
    report(`${container} by pipe, ffmpeg's capture to canvas, ms`, latency);
    expectMotion(sights);
    expect(latency.p95).toBeLessThan(3000);
  });
});

test("a fragment for each key frame, which is a second of frames in a moment, plays evenly", async () => {
  const viewer = await watchAtEdge(scope(), ({ root }) => {
    const publisher = startPublisher(scope(), root, "-", "--name", BROADCAST);
    startCamera(scope(), FRAGMENT_A_SECOND).stdout.pipe(publisher.stdin);
  });
  // That it is bursts shows after some.
  await viewer.page.waitForTimeout(6000);
  await viewer.sights();
  const sights = await viewer.watch(WATCH_MS);
  report("bursts of a second, ffmpeg's capture to canvas, ms", latencyOf(sights));
  expectMotion(sights);
});

describe("MPEG-TS over HTTP that never ends", () => {
  test("moves forward and sounds, and is taken up again when it breaks", async () => {
    const channel = await serveEndlessTs(scope());
    const viewer = await watchAtEdge(scope(), ({ root }) =>
      startPublisher(scope(), root, channel.url, "--name", BROADCAST),
    );
    report("HTTP, sound", await viewer.hears(TONE));
    expectMotion(await viewer.watch(WATCH_MS));

    const broken = Date.now();
    channel.cut();
    // The new request is answered by a new camera, which counts from zero again.
    await viewer.sights();
    const again = await viewer.nextSight(30_000);
    report("HTTP source back after a cut, ms", `${again.at - broken}`);
    await viewer.page.waitForTimeout(2000);
    expectMotion(await viewer.watch(WATCH_MS));
  });
});
