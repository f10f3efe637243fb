/** What this browser can do. Asked once per codec. */

import type { Problem } from "../bridge";
import type { MediaKind, PlayableTrack } from "../media/tracks";
import { problems } from "../problems";
import { audioConfig } from "./audio";

/** Why nothing can work here; undefined: all is there. */
export function missingFeature(): Problem | undefined {
  if (!globalThis.isSecureContext) return problems.insecurePage();
  if (typeof WebTransport !== "function") return problems.noWebTransport();
  if (typeof VideoDecoder !== "function" || typeof AudioDecoder !== "function") return problems.noWebCodecs();
  return undefined;
}

const answers = new Map<string, Promise<boolean>>();

export function supportsTrack(track: PlayableTrack, kind: MediaKind): Promise<boolean> {
  const key = `${kind} ${track.codec} ${track.samplerate ?? ""} ${track.channels ?? ""} ${track.width ?? ""}x${track.height ?? ""}`;
  let answer = answers.get(key);
  if (!answer) {
    answer = (kind === "video" ? supportsVideo(track) : supportsAudio(track)).catch(() => false);
    answers.set(key, answer);
  }
  return answer;
}

async function supportsVideo(track: PlayableTrack): Promise<boolean> {
  const { supported } = await VideoDecoder.isConfigSupported({
    codec: track.codec,
    ...(track.width && track.height && { codedWidth: track.width, codedHeight: track.height }),
    optimizeForLatency: true,
  });
  return supported === true;
}

async function supportsAudio(track: PlayableTrack): Promise<boolean> {
  const { supported } = await AudioDecoder.isConfigSupported(audioConfig(track, track.initData));
  return supported === true;
}
