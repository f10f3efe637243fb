import { describe, expect, test } from "vitest";
import { displayName, type FullTrackName } from "../src/moqt/names";
import type { PublicationEvents } from "../src/moqt/publication";
import { type Experience, Reporter, type ReportSession } from "../src/worker/reports";

const fine: Experience = {
  stalls: 0,
  stalledMs: 0,
  framesDropped: 0,
  latencyMs: 120.04,
  latencyErrorMs: 3,
  joinMs: 400,
  visible: true,
};

/** A relay that takes a PUBLISH and keeps what comes. */
class Relay implements ReportSession {
  readonly transport = "webtransport";
  readonly tracks: string[] = [];
  readonly reports: {
    readonly group: bigint;
    readonly at: number;
    readonly report: Record<string, unknown>;
  }[] = [];
  ready = true;
  now = 0;
  events: PublicationEvents | undefined;

  constructor(readonly isWeir = true) {}

  publish(track: FullTrackName, events: PublicationEvents) {
    this.tracks.push(displayName(track));
    this.events = events;
    const isReady = () => this.ready;
    return {
      get ready() {
        return isReady();
      },
      send: (group: bigint, payload: Uint8Array) => {
        const report = JSON.parse(new TextDecoder().decode(payload));
        this.reports.push({ group, at: this.now, report });
      },
    };
  }

  get last() {
    return this.reports.at(-1)?.report;
  }
}

/** A player that looks five times a second. */
class Viewer {
  now = 0;
  readonly reporter = new Reporter(() => "0123456789abcdef");

  watch(
    relay: Relay | undefined,
    until: number,
    experience: (now: number) => Partial<Experience> = () => ({}),
  ) {
    for (; this.now <= until; this.now += 200) {
      if (relay) relay.now = this.now;
      this.reporter.tick(relay, { ...fine, ...experience(this.now) }, this.now);
    }
  }
}

describe("reports", () => {
  test("begin two seconds after the first picture and come every five", () => {
    const relay = new Relay();
    new Viewer().watch(relay, 20_000, (now) => ({ joinMs: now < 1000 ? null : 400 }));
    expect(relay.tracks).toEqual(["weir/viewers/0123456789abcdef/report"]);
    expect(relay.reports.map(({ group, at }) => [group, at])).toEqual([
      [0n, 3000],
      [1n, 8000],
      [2n, 13_000],
      [3n, 18_000],
    ]);
    expect(relay.last).toEqual({
      latency_ms: 120,
      latency_error_ms: 3,
      stalls: 0,
      stalled_ms: 0,
      frames_dropped: 0,
      join_ms: 400,
      transport: "webtransport",
    });
  });

  test("count from the start", () => {
    const relay = new Relay();
    new Viewer().watch(relay, 12_000, (now) => ({
      stalls: Math.floor(now / 4000),
      stalledMs: now / 8,
      framesDropped: now / 200,
    }));
    expect(
      relay.reports.map(({ report }) => [report.stalls, report.stalled_ms, report.frames_dropped]),
    ).toEqual([
      [0, 250, 10],
      [1, 875, 35],
      [3, 1500, 60],
    ]);
  });

  test("leave out what is unknown", () => {
    const relay = new Relay();
    new Viewer().watch(relay, 2000, () => ({ latencyErrorMs: null }));
    expect(relay.last).toHaveProperty("latency_ms");
    expect(relay.last).not.toHaveProperty("latency_error_ms");
    const audio = new Relay();
    new Viewer().watch(audio, 2000, () => ({ latencyMs: null }));
    expect(audio.last).not.toHaveProperty("latency_ms");
    expect(audio.last).not.toHaveProperty("latency_error_ms");
  });

  test("of a page in the background say nothing of what nobody saw", () => {
    const relay = new Relay();
    const viewer = new Viewer();
    // A second of misery before, three while hidden, one after.
    const misery = (now: number) => ({ stalls: now / 200, stalledMs: now, framesDropped: now / 200 });
    viewer.watch(relay, 1000, misery);
    viewer.watch(relay, 4000, (now) => ({ ...misery(now), visible: false }));
    expect(relay.last).toMatchObject({ stalls: 5, stalled_ms: 1000, frames_dropped: 5 });
    expect(relay.last).not.toHaveProperty("latency_ms");
    viewer.watch(relay, 5200, misery);
    viewer.watch(relay, 7000, () => misery(5200));
    expect(relay.last).toMatchObject({ stalls: 10, stalled_ms: 2000, latency_ms: 120 });
  });

  test("leave out the time in which the machine slept", () => {
    const relay = new Relay();
    const viewer = new Viewer();
    viewer.watch(relay, 1800);
    viewer.now = 3_600_000;
    viewer.watch(relay, 3_600_200, () => ({ stalls: 1, stalledMs: 3_598_000 }));
    expect(relay.last).toMatchObject({ stalls: 0, stalled_ms: 0 });
  });

  test("go on over another session with what no session was told", () => {
    const viewer = new Viewer();
    const [first, second] = [new Relay(), new Relay()];
    viewer.watch(first, 3000, () => ({ framesDropped: 4 }));
    viewer.watch(first, 5000, () => ({ stalls: 1, stalledMs: 500, framesDropped: 4 }));
    // It is lost: the picture stands still until there is another.
    viewer.watch(undefined, 8000, (now) => ({ stalls: 1, stalledMs: now - 4500, framesDropped: 4 }));
    viewer.watch(second, 20_000, () => ({ stalls: 1, stalledMs: 3500, framesDropped: 9 }));
    expect(first.last).toMatchObject({ stalls: 0, frames_dropped: 0, join_ms: 400 });
    expect(second.reports.map(({ group }) => group)).toEqual([0n, 1n, 2n]);
    expect(second.last).toMatchObject({ stalls: 1, stalled_ms: 3500, frames_dropped: 5 });
    expect(second.last).not.toHaveProperty("join_ms");
  });

  test("blame no session for an outage of hours before it", () => {
    const viewer = new Viewer();
    const [first, second] = [new Relay(), new Relay()];
    viewer.watch(first, 2000);
    viewer.watch(undefined, 1_000_000, (now) => ({ stalls: 1, stalledMs: now - 2000 }));
    viewer.watch(second, 1_003_000, () => ({ stalls: 1, stalledMs: 998_000 }));
    expect(second.last).toMatchObject({ stalls: 1, stalled_ms: 300_000 });
  });

  test("stop where they are refused, and nobody is asked twice", () => {
    const relay = new Relay();
    const viewer = new Viewer();
    relay.ready = false;
    viewer.watch(relay, 5000);
    relay.events?.handleEnd({ kind: "request-error", code: 1, reason: "" });
    viewer.watch(relay, 30_000);
    expect(relay.tracks).toHaveLength(1);
    expect(relay.reports).toEqual([]);
    // Another relay may think otherwise.
    const other = new Relay();
    viewer.watch(other, 33_000);
    expect(other.reports).toHaveLength(1);
  });

  test("are for relays of ours only", () => {
    const relay = new Relay(false);
    new Viewer().watch(relay, 10_000);
    expect(relay.tracks).toEqual([]);
  });

  test("wait for a stream that is still being sent", () => {
    const relay = new Relay();
    const viewer = new Viewer();
    relay.ready = false;
    viewer.watch(relay, 3000);
    relay.ready = true;
    viewer.watch(relay, 9000);
    expect(relay.reports.map(({ at }) => at)).toEqual([3200, 8200]);
  });
});
