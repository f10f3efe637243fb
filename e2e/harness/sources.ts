/** Sources that none of the project's code made: ffmpeg's, with the test picture laid over. */

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { CELLS, drawMarks, LINES } from "./picture.ts";
import { Program } from "./program.ts";
import type { Scope } from "./scope.ts";

export const FPS = 30;
const SIZE = { width: 640, height: 360 };
/** The pitch of every ffmpeg source's tone, in hertz. */
export const TONE = 1000;

/** The strip of marks comes in on standard input, one grey pixel a cell; ffmpeg lays it over its picture. */
const INPUTS = [
  ...["-f", "rawvideo", "-pix_fmt", "gray", "-s", `${CELLS}x${LINES}`, "-r", `${FPS}`],
  ...["-probesize", "32", "-analyzeduration", "0", "-i", "pipe:0"],
  ...["-f", "lavfi", "-i", `testsrc2=s=${SIZE.width}x${SIZE.height}:r=${FPS}`],
];
const OVERLAY = [
  "-filter_complex",
  `[0:v]scale=${SIZE.width}:${(LINES * SIZE.width) / 40}:flags=neighbor[marks];[1:v][marks]overlay=shortest=1[v]`,
  ...["-map", "[v]", "-map", "2:a", "-shortest"],
];
const AUDIO = ["-c:a", "aac", "-ar", "48000", "-b:a", "96k"];

function ffmpeg(scope: Scope, args: readonly string[]): Program {
  const all = ["-hide_banner", "-loglevel", "warning", "-y", ...args];
  return new Program(scope, "ffmpeg", "ffmpeg", all, { stdoutIsData: true });
}

export interface FileOptions {
  seconds: number;
  /** The file's name; its ending chooses the container. */
  name: string;
  /** More of ffmpeg's output options. */
  args?: readonly string[];
}

/** A file with B-frames, as a camera or an editor leaves it. */
export async function makeFile(scope: Scope, { seconds, name, args = [] }: FileOptions): Promise<string> {
  const file = join(scope.directory(), name);
  const program = ffmpeg(scope, [
    ...INPUTS,
    ...["-f", "lavfi", "-i", `sine=frequency=${TONE}:sample_rate=48000`],
    ...OVERLAY,
    ...["-c:v", "libx264", "-preset", "veryfast", "-bf", "2", "-g", `${FPS}`, "-pix_fmt", "yuv420p"],
    ...[...AUDIO, ...args, file],
  ]);
  for (let frame = 0; frame < seconds * FPS; frame++) {
    program.stdin.write(drawMarks({ captured: Date.now() * 1000, frame }));
  }
  program.stdin.end();
  const { code } = await program.exited(60_000);
  if (code !== 0) throw new Error(`ffmpeg failed:\n${program.output}`);
  return file;
}

/** A camera: ffmpeg encodes live into its standard output; stops at the end of the test. */
export function startCamera(scope: Scope, format: readonly string[]): Program {
  const program = ffmpeg(scope, [
    ...INPUTS,
    ...["-re", "-f", "lavfi", "-i", `sine=frequency=${TONE}:sample_rate=48000`],
    ...OVERLAY,
    ...["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", `${FPS}`],
    ...["-pix_fmt", "yuv420p", ...AUDIO, "-flush_packets", "1", ...format, "pipe:1"],
  ]);
  const start = Date.now();
  let frame = 0;
  const timer = setInterval(() => {
    while (start + (frame * 1000) / FPS <= Date.now()) {
      program.stdin.write(drawMarks({ captured: Date.now() * 1000, frame }));
      frame += 1;
    }
  }, 5);
  scope.onEnd(() => {
    clearInterval(timer);
    // Asked politely it would first write out what nobody reads any more.
    return program.kill();
  });
  return program;
}

export const MPEG_TS = ["-f", "mpegts", "-muxdelay", "0", "-muxpreload", "0"];
export const FRAGMENTED_MP4 = ["-f", "mp4", "-movflags", "empty_moov+default_base_moof+frag_every_frame"];
/** As it comes when nobody thought of it: what an encoder made since the last key frame, at once. */
export const FRAGMENT_A_SECOND = ["-f", "mp4", "-movflags", "empty_moov+default_base_moof+frag_keyframe"];

export interface Channel {
  url: string;
  /** Breaks every connection, as a bad network does. */
  cut(): void;
}

/** IPTV: an HTTP address whose MPEG-TS never ends. Each request starts a camera of its own. */
export async function serveEndlessTs(scope: Scope): Promise<Channel> {
  const server = createServer((request, response) => {
    response.writeHead(200, { "content-type": "video/mp2t" });
    const camera = startCamera(scope, MPEG_TS);
    camera.stdout.pipe(response);
    request.once("close", () => void camera.kill());
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  scope.onEnd(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/channel1.ts`, cut: () => server.closeAllConnections() };
}
