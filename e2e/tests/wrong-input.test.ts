import { randomBytes, randomInt } from "node:crypto";
import { createSocket } from "node:dgram";
import { readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { makeExpiredCertificate } from "../harness/certificate.ts";
import { freePort } from "../harness/ports.ts";
import { type Program, startBinary } from "../harness/program.ts";
import { type Scope, useScope } from "../harness/scope.ts";
import { makeFile } from "../harness/sources.ts";
import { latencyOf, longestGap, report, stepsBack } from "../harness/statistics.ts";
import { openBrowser, Viewer } from "../harness/viewer.ts";
import { pause } from "../harness/wait.ts";
import { Relay, startPublisher, startTree } from "../harness/weir.ts";

const scope = useScope();
/** Longer than anything may take to find out that it can't work. */
const END_MS = 30_000;

/** The program gives up by itself, and what it says matches. */
async function fails(program: Program, code: number, ...says: RegExp[]): Promise<void> {
  const exit = await program.exited(END_MS);
  for (const pattern of says) expect(program.output).toMatch(pattern);
  expect(program.output, "a panic is no error message").not.toMatch(/panicked|RUST_BACKTRACE/);
  expect(exit).toEqual({ code, signal: null });
}

function relay(scope: Scope, ...args: string[]): Program {
  return startBinary(scope, "relay", "relay", ["--state-dir", scope.directory(), ...args]);
}

function publisher(scope: Scope, ...args: string[]): Program {
  return startBinary(scope, "publisher", "publisher", args);
}

describe("the publisher, with an error that names it, refuses", () => {
  test("a relay that can't be reached", async () => {
    const nobody = `moqt://127.0.0.1:${await freePort()}`;
    await fails(publisher(scope(), "--url", "test:", "--relay", nobody), 1, new RegExp(nobody.slice(7)));
  });

  test("a file that isn't there", async () => {
    const root = await Relay.start(scope(), "root");
    await fails(startPublisher(scope(), root, "/no/such/film.mp4"), 1, /\/no\/such\/film\.mp4/);
  });

  test("a file that is no media", async () => {
    const root = await Relay.start(scope(), "root");
    const file = join(scope().directory(), "letter.mp4");
    writeFileSync(file, "Dear Sir or Madam,\n".repeat(1000));
    await fails(startPublisher(scope(), root, file), 1, /letter\.mp4/, /media|container|MP4/i);
  });

  test("no media on standard input", async () => {
    const root = await Relay.start(scope(), "root");
    const program = startPublisher(scope(), root, "-");
    program.stdin.end(randomBytes(200_000));
    await fails(program, 1, /media|container|MPEG-TS|MP4/i);
  });

  test("a codec that browsers don't have, with the way out", async () => {
    const root = await Relay.start(scope(), "root");
    const args = ["-c:v", "mpeg2video", "-bf", "0"];
    const file = await makeFile(scope(), { seconds: 2, name: "dvd.ts", args });
    await fails(startPublisher(scope(), root, file), 1, /MPEG-2/i, /ffmpeg/);
  });

  test("a broken box in fragmented MP4", async () => {
    const root = await Relay.start(scope(), "root");
    const args = ["-movflags", "frag_keyframe+empty_moov+default_base_moof"];
    const bytes = readFileSync(await makeFile(scope(), { seconds: 3, name: "good.mp4", args }));
    // A fragment's header that claims to be four bytes long: shorter than its own name and size.
    const box = bytes.indexOf("moof", bytes.indexOf("moof") + 4) - 4;
    bytes.writeUInt32BE(4, box);
    const program = startPublisher(scope(), root, "-");
    program.stdin.end(bytes);
    await fails(program, 1, /box|moof/i, new RegExp(`${box}|offset`));
  });

  test("an unknown option of the test source", async () => {
    await fails(publisher(scope(), "--url", "test:?colour=red"), 2, /colour/);
  });

  test("a wrong certificate fingerprint", async () => {
    const root = await Relay.start(scope(), "root");
    await fails(
      startPublisher(scope(), root, "test:", "--tls-fingerprint", "00".repeat(32)),
      1,
      /fingerprint|certificate/i,
    );
  });

  test("an expired certificate", async () => {
    const { certificate, key } = makeExpiredCertificate(scope());
    const listen = `127.0.0.1:${await freePort()}`;
    const ports = ["--http", `127.0.0.1:${await freePort()}`, "--admin", `127.0.0.1:${await freePort()}`];
    await fails(
      relay(scope(), "--listen", listen, ...ports, "--tls-cert", certificate, "--tls-key", key),
      2,
      /expired/i,
      /expired\.pem/,
    );
  });
});

describe("the relay, with an error that names it, refuses", () => {
  test("a busy port", async () => {
    const first = await Relay.start(scope(), "first");
    const [http, admin] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`];
    const listen = `[::]:${first.listen}`;
    const busy = new RegExp(`${first.listen}`);
    await fails(relay(scope(), "--listen", listen, "--http", http, "--admin", admin), 1, busy, /use/);
  });

  test("a busy port of its page", async () => {
    const first = await Relay.start(scope(), "first");
    const listen = `127.0.0.1:${await freePort()}`;
    const [http, admin] = [`127.0.0.1:${first.http}`, `127.0.0.1:${await freePort()}`];
    const busy = new RegExp(`${first.http}`);
    await fails(relay(scope(), "--listen", listen, "--http", http, "--admin", admin), 1, busy, /use/);
  });

  test("an unknown config key, and names the nearest", async () => {
    const file = join(scope().directory(), "relay.toml");
    writeFileSync(file, 'lisen = "127.0.0.1:4433"\n');
    await fails(relay(scope(), "--config", file), 2, /lisen/, /listen/);
  });

  test("a config file that isn't there", async () => {
    await fails(relay(scope(), "--config", "/no/such/relay.toml"), 2, /\/no\/such\/relay\.toml/);
  });

  test("an address that is none", async () => {
    await fails(relay(scope(), "--listen", "everywhere"), 2, /everywhere/);
  });

  test("an upstream of no known kind", async () => {
    await fails(relay(scope(), "--upstream", "ftp://example.com"), 2, /ftp/);
  });
});

describe("random bytes to every port", () => {
  test("disturb neither the relay nor a viewer", async () => {
    const { root, edge } = await startTree(scope());
    startPublisher(scope(), root, "test:?size=640x360");
    await edge.offers("live/test");
    const viewer = await Viewer.open(scope(), await openBrowser(scope()), edge, "live/test");
    await viewer.nextSight();
    await viewer.watch(2000);

    const watching = viewer.watch(8000);
    await Promise.all([
      randomDatagrams(edge.listen),
      ...[edge.listen, edge.http, edge.admin].map((port) => randomStreams(port)),
    ]);
    const sights = await watching;
    report("meanwhile, ms", latencyOf(sights));
    expect(stepsBack(sights)).toEqual([]);
    expect(sights.length, "pictures in 8 s at 30 fps").toBeGreaterThan(160);
    expect(longestGap(sights)).toBeLessThan(1000);
    expect(edge.program.exit, "the relay still runs").toBeUndefined();
    expect((await fetch(`${edge.adminUrl}/health`)).status).toBe(200);
    expect(edge.program.output).not.toMatch(/panicked/);
  });
});

/** Noise, half of it with the first byte of a QUIC long or short header. */
async function randomDatagrams(port: number): Promise<void> {
  const socket = createSocket("udp4");
  for (let sent = 0; sent < 2000; sent++) {
    const datagram = randomBytes(randomInt(1, 1400));
    if (sent % 4 === 1) datagram.writeUInt8(0xc0 | randomInt(16));
    if (sent % 4 === 3) datagram.writeUInt8(0x40 | randomInt(64));
    await new Promise((done) => socket.send(datagram, port, "127.0.0.1", done));
    if (sent % 50 === 0) await pause(10);
  }
  socket.close();
}

/** Connections that talk nonsense: noise, half a TLS or HTTP greeting, or nothing at all. */
async function randomStreams(port: number): Promise<void> {
  const greetings = [
    () => randomBytes(randomInt(1, 20_000)),
    () => Buffer.concat([Buffer.from([0x16, 0x03, 0x01, 0x40, 0x00]), randomBytes(600)]),
    () => Buffer.from(`GET /${"a".repeat(100_000)} HTTP/1.1\r\n`),
    () => Buffer.from("POST /api/v1/nodes HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n{"),
    () => Buffer.alloc(0),
  ];
  for (let sent = 0; sent < 100; sent++) {
    const socket = connect(port, "127.0.0.1");
    // The relay may well hang up in the middle of it.
    socket.on("error", () => {});
    const closed = new Promise((done) => socket.once("close", done));
    socket.write(greetings[sent % greetings.length]?.() ?? "");
    await pause(20);
    socket.destroy();
    await closed;
  }
}
