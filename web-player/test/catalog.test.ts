import { describe, expect, test } from "vitest";
import { CatalogError, CatalogReader } from "../src/media/catalog";
import { chooseTracks, codecFamily } from "../src/media/tracks";
import { text } from "./support/hex";

const json = (value: unknown) => text(JSON.stringify(value));

const video = {
  name: "video0",
  packaging: "loc",
  isLive: true,
  role: "video",
  renderGroup: 1,
  codec: "avc1.64001f",
  width: 1280,
  height: 720,
  framerate: 30,
  bitrate: 2_500_000,
};
const audio = {
  name: "audio0",
  packaging: "loc",
  isLive: true,
  role: "audio",
  renderGroup: 1,
  codec: "opus",
  samplerate: 48_000,
  channelConfig: "2",
  bitrate: 96_000,
};
const root = (tracks: unknown, more: object = {}) => json({ version: "draft-01", tracks, ...more });

describe("the catalog", () => {
  test("lists tracks with what the player needs of them", () => {
    const { tracks, isComplete, notes } = new CatalogReader().handleObject(root([video, audio]));
    expect(tracks).toEqual([
      { ...video },
      {
        name: "audio0",
        packaging: "loc",
        isLive: true,
        role: "audio",
        renderGroup: 1,
        codec: "opus",
        samplerate: 48_000,
        channels: 2,
        bitrate: 96_000,
      },
    ]);
    expect(isComplete).toBe(false);
    expect(notes).toEqual([]);
  });

  test.each(["draft-01", "draft-00", 1, "1"])("of version %j is read", (version) => {
    expect(new CatalogReader().handleObject(json({ version, tracks: [] })).tracks).toEqual([]);
  });

  test("brings decoder configurations as base64", () => {
    const { tracks } = new CatalogReader().handleObject(
      root([{ ...video, initRef: "a" }], { initDataList: [{ id: "a", type: "inline", data: "AWQAHw==" }] }),
    );
    expect(tracks[0]?.initData).toEqual(Uint8Array.of(1, 0x64, 0, 0x1f));
  });

  test("says when the broadcast is over", () => {
    const { tracks, isComplete } = new CatalogReader().handleObject(root([], { isComplete: true }));
    expect({ tracks, isComplete }).toEqual({ tracks: [], isComplete: true });
  });

  test("leaves a broken track out, names it, and keeps the others", () => {
    const { tracks, notes } = new CatalogReader().handleObject(
      root([{ packaging: "loc" }, 7, null, { name: "x" }, { ...video, initRef: "gone" }, audio], {
        strange: true,
      }),
    );
    expect(tracks.map(({ name }) => name)).toEqual(["audio0"]);
    expect(notes).toHaveLength(3);
  });

  test("ignores values of the wrong kind", () => {
    const { tracks } = new CatalogReader().handleObject(
      root([{ ...video, width: "wide", height: -1, framerate: null, renderGroup: {}, codec: 7 }]),
    );
    expect(Object.keys(tracks[0] ?? {})).toEqual(["name", "packaging", "role", "isLive", "bitrate"]);
  });

  test.each([
    ["no JSON", text("{")],
    ["not UTF-8", Uint8Array.of(0xff, 0xfe)],
    ["a list", json([])],
    ["null", json(null)],
    ["without version", json({ tracks: [] })],
    ["from the future", json({ version: "draft-77", tracks: [] })],
    ["without tracks", json({ version: "draft-01" })],
    ["with too many tracks", root(Array.from({ length: 300 }, () => video))],
    ["too large", new Uint8Array(2 * 1024 * 1024)],
    ["a delta without a base", json({ deltaUpdate: [] })],
  ])("that is %s is refused in words", (_, payload) => {
    expect(() => new CatalogReader().handleObject(payload)).toThrow(CatalogError);
  });
});

describe("catalog deltas", () => {
  const delta = (...deltaUpdate: unknown[]) => json({ generatedAt: 1, deltaUpdate });

  function applied(...operations: unknown[]) {
    const reader = new CatalogReader();
    reader.handleObject(root([video, audio]));
    return reader.handleObject(delta(...operations)).tracks;
  }

  test("add, remove, update and clone apply in their order", () => {
    const tracks = applied(
      { op: "update", tracks: [{ name: "video0", bitrate: 4_000_000 }] },
      { op: "clone", tracks: [{ parentName: "video0", name: "small", width: 640, height: 360 }] },
      { op: "remove", tracks: [{ name: "audio0" }] },
      { op: "add", tracks: [{ ...audio, name: "audio1" }] },
    );
    expect(tracks.map(({ name }) => name)).toEqual(["video0", "small", "audio1"]);
    expect(tracks[1]).toMatchObject({ codec: "avc1.64001f", width: 640, bitrate: 4_000_000 });
  });

  test.each([
    ["an unknown operation", { op: "explode", tracks: [{}] }],
    ["no operation", 7],
    ["a clone of nothing", { op: "clone", tracks: [{ parentName: "gone", name: "x" }] }],
    ["no tracks", { op: "add" }],
  ])("with %s are refused", (_, operation) => {
    expect(() => applied(operation)).toThrow(CatalogError);
  });
});

describe("choosing tracks", () => {
  const catalog = (...tracks: object[]) => new CatalogReader().handleObject(root(tracks));
  const all = async () => true;

  test("takes the largest picture and the sound that goes with it", async () => {
    const small = { ...video, name: "small", width: 640, height: 360 };
    const other = { ...audio, name: "other", renderGroup: 2 };
    const choice = await chooseTracks(catalog(small, other, video, audio), all);
    expect(choice).toMatchObject({ selection: { video: { name: "video0" }, audio: { name: "audio0" } } });
  });

  test("falls back to what the browser decodes", async () => {
    const hevc = { ...video, name: "hevc", codec: "hvc1.1.6.L93.B0", width: 3840, height: 2160 };
    const choice = await chooseTracks(catalog(hevc, video), async ({ codec }) => codec.startsWith("avc1"));
    expect(choice).toMatchObject({ selection: { video: { name: "video0" } } });
  });

  test("plays sound alone only when there is no picture", async () => {
    expect(await chooseTracks(catalog(audio), all)).toMatchObject({
      selection: { audio: { name: "audio0" } },
    });
    const choice = await chooseTracks(
      catalog({ ...video, codec: "hvc1.1.6.L93.B0" }, audio),
      async (_, kind) => kind === "audio",
    );
    expect(choice).toEqual({ unplayable: { reason: "codec", codecs: ["HEVC (H.265)"] } });
  });

  test("says why there is nothing to play", async () => {
    expect(await chooseTracks(catalog(), all)).toEqual({ unplayable: { reason: "empty" } });
    expect(await chooseTracks(catalog({ ...video, packaging: "cmaf" }), all)).toEqual({
      unplayable: { reason: "packaging", packagings: ["cmaf"] },
    });
  });

  test.each([
    ["avc1.64001f", "H.264"],
    ["av01.0.08M.10", "AV1"],
    ["vp09.00.10.08", "VP9"],
    ["mp4a.40.2", "AAC"],
    ["opus", "Opus"],
    ["theora", "theora"],
  ])("%s is called %s", (codec, family) => {
    expect(codecFamily(codec)).toBe(family);
  });
});
