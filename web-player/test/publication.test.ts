import { afterEach, describe, expect, test, vi } from "vitest";
import type { Codec } from "../src/moqt/codec";
import { draft18 } from "../src/moqt/draft18";
import { draft22 } from "../src/moqt/draft22";
import { RequestErrorCode, SessionCode } from "../src/moqt/errors";
import type { Message } from "../src/moqt/model";
import { fullTrackName } from "../src/moqt/names";
import { Session } from "../src/moqt/session";
import { text } from "./support/hex";
import { Peer, settle } from "./support/pair";

const track = fullTrackName("weir/viewers/0011223344556677", "report");
const ok: Message = { kind: "request-ok", parameters: {}, trackProperties: [] };
const refusal: Message = { kind: "request-error", code: RequestErrorCode.UNAUTHORIZED, reason: "no" };

function open(codec: Codec) {
  const peer = new Peer(codec);
  const closed: Error[] = [];
  const session = new Session(peer.transport, codec, "weir-test", {
    handleBytes: () => undefined,
    handleSetup: () => undefined,
    handleGoAway: () => undefined,
    handleClosed: (reason) => closed.push(reason),
  });
  return { peer, session, closed };
}

afterEach(() => {
  vi.useRealTimers();
});

describe.each([
  { draft: 18, codec: draft18 },
  { draft: 22, codec: draft22 },
])("draft $draft: a publication", ({ codec }) => {
  async function published() {
    const opened = open(codec);
    const log: string[] = [];
    const publication = opened.session.publish(track, {
      handleEnd: (error) => log.push(error ? `refused ${error.code}` : "ended"),
    });
    await settle();
    const [request] = opened.peer.requests;
    if (!request) throw new Error("no request was sent");
    return { ...opened, log, publication, request };
  }

  /** What a stream of the session's says. */
  function groupOf(bytes: Uint8Array) {
    const parser = codec.subgroupParser();
    parser.handleBytes(bytes);
    const object = parser.pollObject();
    parser.handleFin();
    return { header: parser.header, payload: new TextDecoder().decode(object?.payload) };
  }

  test("offers the track, and sends each group as a stream of its own", async () => {
    const { peer, request, publication } = await published();
    expect(request.messages).toEqual([
      { kind: "publish", requestId: 0n, track, trackAlias: 0n, parameters: {}, trackProperties: [] },
    ]);
    expect(publication.ready).toBe(false);
    publication.send(1n, text("too early"));
    request.answer(ok);
    await settle();
    for (const [group, payload] of [
      [7n, "one"],
      [8n, ""],
    ] as const) {
      expect(publication.ready).toBe(true);
      publication.send(group, text(payload));
      await settle();
    }
    expect(peer.sentStreams.map(({ closed }) => closed)).toEqual([true, true]);
    const [first, second] = peer.sentStreams.map(({ bytes }) => groupOf(bytes));
    expect(first).toMatchObject({
      header: { trackAlias: 0n, group: 7n, subgroup: 0n, endOfGroup: true, firstObject: true },
      payload: "one",
    });
    expect(second).toMatchObject({ header: { group: 8n }, payload: "" });
  });

  test("that is refused is over, and the session is not", async () => {
    const { peer, request, publication, log, closed } = await published();
    request.answer(refusal);
    request.answers.fin();
    await settle();
    expect(log).toEqual([`refused ${RequestErrorCode.UNAUTHORIZED}`]);
    publication.send(1n, text("unheard"));
    await settle();
    expect(peer.sentStreams).toEqual([]);
    expect(closed).toEqual([]);
  });

  test("does as the subscriber says while nothing is to be forwarded", async () => {
    const { peer, request, publication } = await published();
    request.answer(ok);
    request.answer({ kind: "request-update", requestId: 1n, parameters: { forward: false } });
    await settle();
    expect(request.messages.slice(1)).toEqual([ok]);
    publication.send(1n, text("unwanted"));
    await settle();
    expect(peer.sentStreams).toEqual([]);
    request.answer({ kind: "request-update", requestId: 3n, parameters: { forward: true } });
    await settle();
    publication.send(2n, text("wanted"));
    await settle();
    expect(peer.sentStreams).toHaveLength(1);
  });

  test.each([
    ["breaks off", (request: Awaited<ReturnType<typeof published>>["request"]) => request.answers.reset()],
    ["just ends", (request: Awaited<ReturnType<typeof published>>["request"]) => request.answers.fin()],
  ])("is over when its request stream %s", async (_, end) => {
    const { request, log, closed } = await published();
    request.answer(ok);
    await settle();
    end(request);
    await settle();
    expect(log).toEqual(["ended"]);
    expect(closed).toEqual([]);
  });

  test("that is cancelled says so, and hears nothing", async () => {
    const { request, publication, log } = await published();
    publication.cancel();
    request.answer(ok);
    await settle();
    expect(log).toEqual([]);
    expect(request.sent.aborted).toBe(true);
  });

  test.each([
    ["an answer twice", [ok, ok]],
    ["an update before the answer", [{ kind: "request-update", requestId: 1n, parameters: {} }]],
    ["a SUBSCRIBE_OK", [{ kind: "subscribe-ok", trackAlias: 1n, parameters: {}, trackProperties: [] }]],
  ] as const)("%s ends the session", async (_, answers) => {
    const { peer, request } = await published();
    for (const answer of answers) request.answer(answer as Message);
    await settle();
    expect(peer.closedWith?.closeCode).toBe(SessionCode.PROTOCOL_VIOLATION);
  });
});

describe("TRACK_STATUS", () => {
  const clock = fullTrackName("weir/clock/live/cam1", "now");

  test("is answered with what a SUBSCRIBE_OK would say, and when", async () => {
    const { peer, session } = open(draft18);
    const asked = session.trackStatus(clock);
    await settle();
    const [request] = peer.requests;
    expect(request?.messages).toEqual([
      { kind: "track-status", requestId: 0n, track: clock, parameters: {} },
    ]);
    const largestObject = { group: 1_700_000_000_000_000n, object: 250n };
    request?.answer({ kind: "request-ok", parameters: { largestObject }, trackProperties: [] });
    const answer = await asked;
    expect(answer?.ok.parameters.largestObject).toEqual(largestObject);
    expect(answer?.answeredAt).toBeGreaterThanOrEqual(answer?.askedAt ?? Number.POSITIVE_INFINITY);
  });

  test("that is refused, broken off or not answered is unknown, and the session goes on", async () => {
    const { peer, session, closed } = open(draft18);
    vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
    const asked = [session.trackStatus(clock), session.trackStatus(clock), session.trackStatus(clock)];
    await vi.waitFor(() => expect(peer.requests).toHaveLength(3));
    peer.requests[0]?.answer({ kind: "request-error", code: RequestErrorCode.DOES_NOT_EXIST, reason: "" });
    peer.requests[1]?.answers.reset();
    await vi.advanceTimersByTimeAsync(5000);
    expect(await Promise.all(asked)).toEqual([undefined, undefined, undefined]);
    expect(peer.requests[2]?.answers.cancelled).toBe(true);
    expect(closed).toEqual([]);
  });

  test("a session that was lost meanwhile has no answer", async () => {
    const { peer, session } = open(draft18);
    peer.transport.createBidirectionalStream = () => Promise.reject(new Error("gone"));
    expect(await session.trackStatus(clock)).toBeUndefined();
  });

  test("an answer that is none ends the session", async () => {
    const { peer, session, closed } = open(draft18);
    const asked = session.trackStatus(clock);
    await settle();
    peer.requests[0]?.answer({
      kind: "subscribe-ok",
      trackAlias: 1n,
      parameters: {},
      trackProperties: [],
    });
    expect(await asked).toBeUndefined();
    await settle();
    expect(closed).toEqual([expect.objectContaining({ code: SessionCode.PROTOCOL_VIOLATION })]);
  });
});
