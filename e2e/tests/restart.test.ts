import { describe, expect, test } from "vitest";
import { type Scope, useScope } from "../harness/scope.ts";
import { report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { pause } from "../harness/wait.ts";
import { startPublisher, startTree, type Tree } from "../harness/weir.ts";

const scope = useScope();
const BROADCAST = "live/test";
/** How long something stays away. */
const AWAY_MS = 1_000;
const BACK_MS = 40_000;

interface Watched {
  tree: Tree;
  viewer: Viewer;
}

async function watchedTree(scope: Scope): Promise<Watched> {
  const tree = await startTree(scope);
  const viewer = await Viewer.open(scope, await openBrowser(scope), tree.edge, BROADCAST);
  return { tree, viewer };
}

/** Breaks what is watched and mends it again; the same page must show what is captured afterwards. */
async function survives(what: string, { viewer }: Watched, damage: () => Promise<void>, mend: () => unknown) {
  await viewer.nextSight();
  // A reload would lose this.
  await viewer.page.evaluate("window.weirSamePage = true");
  await viewer.watch(1000);

  await damage();
  const broken = Date.now();
  await pause(AWAY_MS);
  await mend();
  const mended = Date.now();
  const picture = await viewer.nextSight(BACK_MS, broken);
  report(`picture back after ${what}`, {
    sinceBroken_ms: picture.at - broken,
    sinceMended_ms: picture.at - mended,
  });

  await viewer.watch(2000);
  const sights = await viewer.watch(4000);
  expect(sights.length, "pictures in 4 s at 30 fps").toBeGreaterThan(80);
  expect(stepsBack(sights)).toEqual([]);
  expect(await viewer.page.evaluate("window.weirSamePage"), "the page was reloaded").toBe(true);
  expect((await viewer.player()).state).toBe("playing");
  await viewer.hearsSound();
}

describe("the picture comes back without a reload", () => {
  test("when the publisher is killed and restarted", async () => {
    const watched = await watchedTree(scope());
    const { root } = watched.tree;
    const publisher = startPublisher(scope(), root, "test:");
    await survives(
      "the publisher's restart",
      watched,
      () => publisher.kill(),
      () => startPublisher(scope(), root, "test:"),
    );
  });

  test("when the edge's upstream is killed and restarted", async () => {
    const watched = await watchedTree(scope());
    const { root } = watched.tree;
    startPublisher(scope(), root, "test:");
    await survives(
      "the upstream relay's restart",
      watched,
      () => root.kill(),
      () => root.restart(),
    );
  });

  test("when the edge itself is killed and restarted", async () => {
    const watched = await watchedTree(scope());
    const { root, edge } = watched.tree;
    startPublisher(scope(), root, "test:");
    await survives(
      "the edge relay's restart",
      watched,
      () => edge.kill(),
      () => edge.restart(),
    );
  });
});
