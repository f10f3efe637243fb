/** Plays what the worker sends, on the audio thread. All thinking is in `AudioQueue`. */

import type { FromWorklet, ToWorklet } from "../bridge";
import { AudioQueue } from "../playout/audio-queue";
import { RenderClock } from "../playout/render-clock";
import { PROCESSOR_NAME } from "./name";

declare const currentTime: number;
declare const sampleRate: number;
declare class AudioWorkletProcessor {
  readonly port: MessagePort;
}
declare function registerProcessor(name: string, processor: new () => AudioWorkletProcessor): void;

const REPORT_EVERY_MS = 40;

class WeirPlayout extends AudioWorkletProcessor {
  readonly #queue = new AudioQueue();
  readonly #clock = new RenderClock();
  #worker: MessagePort | undefined;
  #reportedAt = 0;
  #level = 0;

  constructor() {
    super();
    // The page hands over one port, which leads straight to the worker.
    this.port.onmessage = ({ ports: [port] }: MessageEvent) => {
      if (!port) return;
      this.#worker = port;
      port.onmessage = ({ data }: MessageEvent<ToWorklet>) => this.#handle(data);
    };
  }

  process(_inputs: Float32Array[][], [output]: Float32Array[][]): boolean {
    if (!output?.[0]) return true;
    const now = this.#clock.timeOf(currentTime * 1000, Date.now());
    this.#queue.render(output, sampleRate, now);
    this.#measure(output[0]);
    if (now - this.#reportedAt >= REPORT_EVERY_MS) {
      this.#reportedAt = now;
      this.#report(now + (output[0].length / sampleRate) * 1000);
    }
    return true;
  }

  #handle(message: ToWorklet): void {
    switch (message.kind) {
      case "sound":
        return this.#queue.push(message);
      case "delay":
        return this.#queue.setDelay(message.delay);
      case "clear":
        return this.#queue.clear();
    }
  }

  #measure(samples: Float32Array): void {
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    this.#level = this.#level * 0.9 + Math.sqrt(sum / samples.length) * 0.1;
  }

  #report(at: number): void {
    const { playing, bufferedMs, underruns, position } = this.#queue;
    const report: FromWorklet = {
      at,
      position: playing && position !== undefined ? position : null,
      playing,
      bufferedMs,
      underruns,
      level: this.#level,
    };
    this.#worker?.postMessage(report);
  }
}

registerProcessor(PROCESSOR_NAME, WeirPlayout);
