import { describe, expect, test } from "vitest";
import { noStats, type PlayerStats } from "../src/bridge";
import { commandOf, keymap, tooltip } from "../src/element/keymap";
import { latencyWords, noticeFor, statLines } from "../src/element/words";
import { parseHash } from "../src/endpoint";
import { fullTrackName, namespaceOf } from "../src/moqt/names";
import { parseBroadcasts, viewersText } from "../src/page/broadcasts";
import { problems } from "../src/problems";
import { broadcastOfPath, parseSource, pathOfBroadcast } from "../src/source";
import { text } from "./support/hex";

const page = "https://weir.example:8443/watch/live/cam1";
const parse = (src: string, relay?: string) =>
  parseSource({ src, pageUrl: page, ...(relay !== undefined && { relay }) });

describe("an address", () => {
  test("names a relay and a broadcast, one namespace field for each part", () => {
    const { relay, broadcast } = parse("https://relay.example:4433/live/cam%201");
    expect(relay?.href).toBe("https://relay.example:4433/");
    expect(broadcast).toBe("live/cam 1");
    expect(namespaceOf(broadcast)).toEqual([text("live"), text("cam 1")]);
    expect(fullTrackName(broadcast, "catalog").name).toEqual(text("catalog"));
  });

  test("with moqt: is the same as with https:", () => {
    expect(parse("moqt://[::1]:4433/a").relay?.href).toBe("https://[::1]:4433/");
  });

  test("without a host is at the relay behind the page", () => {
    expect(parse("/live/cam1")).toEqual({ broadcast: "live/cam1" });
  });

  test("of a relay apart from the broadcast keeps its path and query", () => {
    for (const src of ["live/cam1", "/live/cam1", "https://ignored.example/live/cam1"]) {
      const { relay, broadcast } = parseSource({
        src,
        relay: "moqt://relay.example:4443/moq?room=1",
        pageUrl: "https://weir.example/",
      });
      expect(relay?.href).toBe("https://relay.example:4443/moq?room=1");
      expect(broadcast).toBe("live/cam1");
    }
    for (const relay of ["", "relay.example", "http://relay.example/moq"]) {
      expect(() => parse("/live/cam1", relay)).toThrow(RangeError);
    }
  });

  test.each([
    "",
    "https://relay.example/",
    "http://relay.example/a",
    "https://",
    "/a/%zz",
    "ftp://x/y",
    "/////",
  ])("%j is refused in words", (src) => {
    expect(() => parseSource({ src, pageUrl: "https://weir.example/" })).toThrow(RangeError);
  });

  test("doubled and trailing slashes make no empty fields", () => {
    expect(parse("https://r/live//cam1/").broadcast).toBe("live/cam1");
  });

  test("longer than a namespace may be is refused", () => {
    expect(() => namespaceOf(Array.from({ length: 33 }, () => "a").join("/"))).toThrow(RangeError);
    expect(() => namespaceOf("x".repeat(5000))).toThrow(RangeError);
  });

  test("of a page and of its broadcast lead to each other", () => {
    const broadcast = "live/größe?#1";
    expect(broadcastOfPath(`/watch/${pathOfBroadcast(broadcast)}`, "/watch/")).toBe(broadcast);
    expect(broadcastOfPath("/other", "/watch/")).toBe("");
  });
});

test("a certificate hash is 32 bytes of hex, with colons or without", () => {
  const digits = "ab".repeat(32);
  expect(parseHash(`${digits}\n`)).toEqual(new Uint8Array(32).fill(0xab));
  expect(parseHash(digits.replace(/..(?!$)/g, "$&:"))).toEqual(new Uint8Array(32).fill(0xab));
  for (const wrong of ["", "ab", "zz".repeat(32), "<!doctype html>"])
    expect(parseHash(wrong)).toBeUndefined();
});

describe("words", () => {
  test.each([
    [80, "0.08 s behind live"],
    [12_340, "12.3 s behind live"],
    [null, "Live"],
    [-20, "Live"],
    [1e9, "Live"],
  ])("latency %s is %j", (latency, words) => {
    expect(latencyWords(latency)).toBe(words);
  });

  test("a picture that moves has nothing laid over it", () => {
    expect(noticeFor("playing", null)).toBeUndefined();
  });

  test.each([
    problems.badSource("x", "it is not a URL"),
    problems.insecurePage(),
    problems.noWebTransport(),
    problems.noWebCodecs(),
    problems.unreachable("r:1", true),
    problems.unreachable("r:1", false),
    problems.protocol("r:1"),
    problems.unauthorized("live/cam1", ""),
    problems.notFound("live/cam1"),
    problems.ended("live/cam1"),
    problems.decoder("H.264: broken"),
    problems.unplayable({ reason: "codec", codecs: ["HEVC (H.265)"] }),
    problems.unplayable({ reason: "packaging", packagings: ["cmaf"] }),
    problems.unplayable({ reason: "empty" }),
  ])("$code says what is wrong and what to do", (problem) => {
    expect(problem.message).toMatch(/^\S.*\.$/);
    expect(problem.hint).not.toBe("");
    expect(noticeFor("failed", problem)).toEqual({
      title: problem.message,
      detail: problem.hint,
      busy: false,
    });
  });

  test("HEVC is named, and so is what we speak", () => {
    expect(problems.unplayable({ reason: "codec", codecs: ["HEVC (H.265)"] }).message).toContain("HEVC");
    expect(problems.protocol("r").hint).toContain("moqt-18");
  });

  test("statistics that are unknown are a dash", () => {
    const latency = (stats: Partial<PlayerStats>) => statLines({ ...noStats, ...stats }, "")[0];
    expect(latency({ latencyMs: 80.4 })).toEqual(["Latency", "80 ms"]);
    expect(latency({ latencyMs: 80.4, latencyErrorMs: 1.2 })).toEqual(["Latency", "80 ms ± 2 ms"]);
    const lines = statLines(noStats, "");
    expect(Object.fromEntries(lines)).toMatchObject({ Latency: "–", Transport: "–", Video: "–", Track: "–" });
  });
});

describe("keys", () => {
  const press = (key: string, modifiers: object = {}) => ({ key, ...modifiers }) as KeyboardEvent;

  test("one each, whatever the case, and none with Ctrl", () => {
    expect(new Set(keymap.map(({ key }) => key)).size).toBe(keymap.length);
    expect(commandOf(press("I"))).toBe("stats");
    expect(commandOf(press("i"))).toBe("stats");
    expect(commandOf(press("f", { ctrlKey: true }))).toBeUndefined();
    expect(commandOf(press("q"))).toBeUndefined();
  });

  test("are told in tooltips", () => {
    expect(tooltip("mute")).toBe("Mute (M)");
  });
});

test("the list of broadcasts leaves out what is none", () => {
  expect(
    parseBroadcasts([
      { name: "a", viewers: 1, more: 2 },
      { name: "" },
      { viewers: 3 },
      null,
      "x",
      { name: "b" },
    ]),
  ).toEqual([{ name: "a", viewers: 1 }, { name: "b" }]);
  expect(() => parseBroadcasts({})).toThrow(TypeError);
  expect([viewersText(0), viewersText(1), viewersText(undefined)]).toEqual(["0 viewers", "1 viewer", ""]);
});
