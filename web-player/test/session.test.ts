import { afterEach, describe, expect, test, vi } from "vitest";
import type { Codec } from "../src/moqt/codec";
import { draft18 } from "../src/moqt/draft18";
import { draft22 } from "../src/moqt/draft22";
import { PublishDoneCode, RequestErrorCode, SessionCode, SessionError } from "../src/moqt/errors";
import type { GoAway, SubscribeOk } from "../src/moqt/model";
import { fullTrackName } from "../src/moqt/names";
import { Session } from "../src/moqt/session";
import type { SubgroupStream, TrackSink } from "../src/moqt/subscription";
import { hex, text } from "./support/hex";
import { Peer, settle } from "./support/pair";

const track = fullTrackName("live/cam1", "video");
const ok = (trackAlias: bigint, extra: Partial<SubscribeOk> = {}): SubscribeOk => ({
  kind: "subscribe-ok",
  trackAlias,
  parameters: {},
  trackProperties: [],
  ...extra,
});

function open(codec: Codec = draft18) {
  const peer = new Peer(codec);
  const log: string[] = [];
  const closed: Error[] = [];
  const goAways: GoAway[] = [];
  const session = new Session(peer.transport, codec, "weir-test", {
    handleBytes: () => undefined,
    handleSetup: ({ implementation }) => log.push(`setup ${implementation}`),
    handleGoAway: (goAway) => goAways.push(goAway),
    handleClosed: (reason) => closed.push(reason),
  });
  return { peer, session, log, closed, goAways };
}

/** Writes down what a subscription brings. */
function sink(log: string[], streams: SubgroupStream[] = []): TrackSink {
  return {
    handleSubscribed: ({ trackAlias }) => log.push(`ok ${trackAlias}`),
    handleRefused: ({ code }) => log.push(`refused ${code}`),
    handleDone: (done) => log.push(`done ${done?.code}`),
    handleSubgroupOpen: (stream) => {
      streams.push(stream);
      log.push(`open ${stream.header.group}`);
    },
    handleSubgroupObject: (stream, { object, payload }) =>
      log.push(`${stream.header.group}/${object} ${new TextDecoder().decode(payload)}`),
    handleSubgroupEnd: (stream, fin) => log.push(`${fin ? "fin" : "cut"} ${stream.header.group}`),
    handleDatagram: ({ group, object }) => log.push(`datagram ${group}/${object.object}`),
    handleBytes: () => undefined,
  };
}

afterEach(() => {
  vi.useRealTimers();
});

describe("a session", () => {
  test("sends SETUP first on its control stream and takes the peer's", async () => {
    const { peer, log } = open();
    peer.sendSetup();
    await settle();
    expect(peer.control.messages(true)).toEqual([{ kind: "setup", implementation: "weir-test" }]);
    expect(log).toEqual(["setup peer"]);
  });

  test("subscribes with even Request IDs, without waiting for the peer's SETUP", async () => {
    const { peer, session } = open();
    session.subscribe(track, { subscriberPriority: 1 }, sink([]));
    session.subscribe(track, {}, sink([]));
    await settle();
    expect(peer.requests.map(({ messages }) => messages)).toEqual([
      [{ kind: "subscribe", requestId: 0n, track, parameters: { subscriberPriority: 1 } }],
      [{ kind: "subscribe", requestId: 2n, track, parameters: {} }],
    ]);
  });

  test("GOAWAY is told once; a second one is a violation", async () => {
    const { peer, closed, goAways } = open();
    const control = peer.sendSetup();
    const goAway: GoAway = { kind: "goaway", newSessionUri: "moqt://b", timeout: 5000n, requestId: 2n };
    control.write(draft18.encodeMessage(goAway));
    await settle();
    expect(goAways).toEqual([goAway]);
    control.write(draft18.encodeMessage(goAway));
    await settle();
    expect(peer.closedWith?.closeCode).toBe(SessionCode.PROTOCOL_VIOLATION);
    expect(closed).toHaveLength(1);
  });

  test("the peer's reason for closing is told in words", async () => {
    const { peer, closed } = open();
    peer.close({ closeCode: SessionCode.GOAWAY_TIMEOUT, reason: "took too long" });
    await settle();
    expect(closed[0]?.message).toBe("the relay closed the session: took too long (GOAWAY_TIMEOUT)");
  });

  test.each([
    ["a stream of unknown type", (peer: Peer) => peer.openUni().write(hex("8080"))],
    ["a second control stream", (peer: Peer) => [peer.sendSetup(), peer.sendSetup()]],
    ["a control stream without SETUP", (peer: Peer) => peer.openUni().write(hex("af00 0000 af00 0000"))],
    ["a closed control stream", (peer: Peer) => peer.sendSetup().fin()],
    ["a datagram of unknown type", (peer: Peer) => peer.sendDatagram(hex("10"))],
    ["a request stream that starts with an answer", (peer: Peer) => peer.openRequest(hex("07 0001 00"))],
  ])("is ended by %s", async (_, misbehave) => {
    const { peer, closed } = open();
    misbehave(peer);
    await vi.waitFor(() => expect(closed).toHaveLength(1));
    expect(closed[0]).toBeInstanceOf(SessionError);
    expect(peer.closedWith?.closeCode).toBe(SessionCode.PROTOCOL_VIOLATION);
  });

  test("padding is read and thrown away", async () => {
    const { peer, closed } = open();
    const padding = peer.openUni();
    padding.write(hex("f0132b3e28 00000000"));
    padding.write(new Uint8Array(5000));
    padding.fin();
    peer.sendDatagram(hex("f0132b3e29 0000"));
    await settle();
    expect(closed).toEqual([]);
    expect(peer.closedWith).toBeUndefined();
  });

  test("requests of the peer are answered, not ignored", async () => {
    const { peer } = open();
    const fetch = peer.openRequest(hex("16 0003 010203"));
    const publish = peer.openRequest(hex("1d 0015 01 02 04 6c697665 04 63616d31 05 766964656f 812c 00"));
    await settle();
    expect(fetch.messages).toMatchObject([{ kind: "request-error", code: RequestErrorCode.NOT_SUPPORTED }]);
    expect(publish.messages).toMatchObject([{ kind: "request-error", code: RequestErrorCode.UNINTERESTED }]);
    expect([fetch, publish].map(({ sent }) => sent.closed)).toEqual([true, true]);
  });
});

describe("a subscription", () => {
  async function subscribed() {
    const opened = open();
    const streams: SubgroupStream[] = [];
    const log: string[] = [];
    const subscription = opened.session.subscribe(track, {}, sink(log, streams));
    await settle();
    const [request] = opened.peer.requests;
    if (!request) throw new Error("no request was sent");
    return { ...opened, request, log, streams, subscription };
  }

  test("gets its subgroups' objects and their ends", async () => {
    const { peer, request, log } = await subscribed();
    request.answer(ok(2n));
    const stream = peer.openUni();
    stream.write(hex("14 02 05 00 00  00 04 616263"));
    await settle();
    stream.write(hex("64  00 01 78"));
    stream.fin();
    await settle();
    expect(log).toEqual(["ok 2", "open 5", "5/0 abcd", "5/1 x", "fin 5"]);
  });

  test("a stream that comes before SUBSCRIBE_OK waits for it", async () => {
    const { peer, request, log } = await subscribed();
    peer.openUni().write(hex("14 02 05 00 00  00 01 61"));
    await settle();
    expect(log).toEqual([]);
    request.answer(ok(2n));
    await settle();
    expect(log).toEqual(["ok 2", "open 5", "5/0 a"]);
  });

  test("a reset subgroup is told as cut", async () => {
    const { peer, request, log } = await subscribed();
    request.answer(ok(2n));
    const stream = peer.openUni();
    stream.write(hex("14 02 05 00 00  00 01 61"));
    await settle();
    stream.reset();
    await settle();
    expect(log.at(-1)).toBe("cut 5");
  });

  test("cancelling one subgroup stops that stream alone", async () => {
    const { peer, request, log, streams } = await subscribed();
    request.answer(ok(2n));
    const first = peer.openUni();
    first.write(hex("14 02 05 00 00"));
    const second = peer.openUni();
    second.write(hex("14 02 06 00 00"));
    await settle();
    streams[0]?.cancel();
    second.write(hex("00 01 61"));
    await settle();
    expect(first.cancelled).toBe(true);
    expect(log).toContain("6/0 a");
  });

  test("datagrams reach it by its alias, and unknown ones nobody", async () => {
    const { peer, request, log, closed } = await subscribed();
    request.answer(ok(2n));
    await settle();
    peer.sendDatagram(hex("00 02 03 04 80 6869"));
    peer.sendDatagram(hex("00 09 03 04 80 6869"));
    await settle();
    expect(log).toEqual(["ok 2", "datagram 3/4"]);
    expect(closed).toEqual([]);
  });

  test("a refusal is final, and so is PUBLISH_DONE", async () => {
    const refused = await subscribed();
    refused.request.answer({ kind: "request-error", code: RequestErrorCode.DOES_NOT_EXIST, reason: "" });
    const done = await subscribed();
    done.request.answer(ok(2n));
    done.request.answer({
      kind: "publish-done",
      code: PublishDoneCode.TRACK_ENDED,
      streamCount: 0n,
      reason: "",
    });
    await settle();
    expect(refused.log).toEqual([`refused ${RequestErrorCode.DOES_NOT_EXIST}`]);
    expect(done.log).toEqual(["ok 2", `done ${PublishDoneCode.TRACK_ENDED}`]);
  });

  test("a request stream that just ends is told as done", async () => {
    const { request, log } = await subscribed();
    request.answer(ok(2n));
    request.answers.fin();
    await settle();
    expect(log).toEqual(["ok 2", "done undefined"]);
  });

  test("after cancelling, nothing comes, and late streams are stopped", async () => {
    const { peer, request, subscription, log } = await subscribed();
    request.answer(ok(2n));
    await settle();
    subscription.cancel();
    const late = peer.openUni();
    late.write(hex("14 02 05 00 00  00 01 61"));
    await settle();
    expect(log).toEqual(["ok 2"]);
    expect(late.cancelled).toBe(true);
    expect(request.answers.cancelled).toBe(true);
    expect(request.sent.aborted).toBe(true);
  });

  test("an update resolves with any answer", async () => {
    const { request, subscription } = await subscribed();
    request.answer(ok(2n));
    await settle();
    const update = subscription.update({ subscriberPriority: 9 });
    await settle();
    expect(request.messages.at(-1)).toEqual({
      kind: "request-update",
      requestId: 2n,
      parameters: { subscriberPriority: 9 },
    });
    request.answer({ kind: "request-ok", parameters: {}, trackProperties: [] });
    await expect(update).resolves.toBeUndefined();
  });

  test("a track that needs an unknown extension is left alone", async () => {
    const { request, log } = await subscribed();
    request.answer(ok(2n, { trackProperties: [{ type: 0x4000n, value: 1n }] }));
    await settle();
    expect(log).toEqual([`refused ${RequestErrorCode.UNSUPPORTED_EXTENSION}`]);
    expect(request.answers.cancelled).toBe(true);
  });

  test("two tracks under one alias end the session", async () => {
    const { peer, session, request } = await subscribed();
    session.subscribe(fullTrackName("live/cam1", "audio"), {}, sink([]));
    await settle();
    request.answer(ok(2n));
    peer.requests[1]?.answer(ok(2n));
    await settle();
    expect(peer.closedWith?.closeCode).toBe(SessionCode.DUPLICATE_TRACK_ALIAS);
  });

  test.each([
    ["SUBSCRIBE_OK twice", [ok(2n), ok(2n)]],
    ["an answer to no update", [ok(2n), { kind: "request-ok", parameters: {}, trackProperties: [] }]],
    ["PUBLISH_DONE before SUBSCRIBE_OK", [{ kind: "publish-done", code: 0, streamCount: 0n, reason: "" }]],
  ] as const)("%s ends the session", async (_, answers) => {
    const { peer, request } = await subscribed();
    for (const answer of answers) request.answer(answer);
    await settle();
    expect(peer.closedWith?.closeCode).toBe(SessionCode.PROTOCOL_VIOLATION);
  });

  test("an object cut by FIN ends the session", async () => {
    const { peer, request } = await subscribed();
    request.answer(ok(2n));
    const stream = peer.openUni();
    stream.write(new Uint8Array([...hex("14 02 05 00 00 00 09"), ...text("abc")]));
    stream.fin();
    await settle();
    expect(peer.closedWith?.closeCode).toBe(SessionCode.PROTOCOL_VIOLATION);
  });
});

test("in draft 22 a publisher may change a subscription by itself, and nothing is asked of the player", async () => {
  const { peer, session, closed } = open(draft22);
  const log: string[] = [];
  session.subscribe(track, { rendezvousTimeout: 10_000n }, sink(log));
  await settle();
  const [request] = peer.requests;
  expect(request?.messages).toEqual([
    { kind: "subscribe", requestId: 0n, track, parameters: { rendezvousTimeout: 10_000n } },
  ]);
  request?.answer(ok(7n));
  request?.answer({ kind: "publish-state-notify", parameters: { forward: false } });
  await settle();
  peer.openUni().write(hex("50 07 05 80 00 02 6869"));
  await settle();
  expect(log).toEqual(["ok 7", "open 5", "5/0 hi"]);
  expect(closed).toEqual([]);
});

test("in draft 18 there is no such message", async () => {
  const { peer, session, closed } = open();
  session.subscribe(track, {}, sink([]));
  await settle();
  peer.requests[0]?.answer(ok(7n));
  peer.requests[0]?.answer({ kind: "publish-state-notify", parameters: {} });
  await settle();
  expect(closed).toEqual([expect.objectContaining({ code: SessionCode.PROTOCOL_VIOLATION })]);
});
