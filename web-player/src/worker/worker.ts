/** The worker's entry: wires the page's messages to a player. */

import type { FromWorker, ToWorker } from "../bridge";
import { problems } from "../problems";
import { Player } from "./player";
import { Screen } from "./screen";
import { Stage } from "./stage";

let player: Player | undefined;
let stage: Stage | undefined;

function post(message: FromWorker): void {
  self.postMessage(message);
}

function start(canvas: OffscreenCanvas): void {
  const screen = new Screen(canvas, (width, height) => post({ kind: "picture", width, height }));
  player = new Player((owner) => {
    stage = new Stage(screen, {
      handlePainted: () => owner.handleProgress(),
      handleDecoderFault: (reason) => owner.handleDecoderFault(reason),
    });
    return stage;
  }, post);
}

function handle(message: ToWorker): void {
  switch (message.kind) {
    case "canvas":
      return start(message.canvas);
    case "connect":
      return player?.connect(message.source, message.requestedAt, message.endpoint);
    case "disconnect":
      return player?.disconnect();
    case "visibility":
      return player?.handleVisibility(message.visible);
    case "audio-port":
      return stage?.audio.setPort(message.port);
    case "audio-output":
      return stage?.audio.setOutput(message.running, message.latencyMs);
  }
}

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  try {
    handle(data);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    post({ kind: "state", state: "failed", problem: problems.internal(reason) });
  }
};
