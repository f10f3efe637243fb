/**
 * The page's side of the sound: the AudioContext, its worklet, volume, and the browser's policy that may
 * hold it back until somebody clicks. Samples never pass through here: worker and worklet share a channel.
 */

import workletUrl from "../worklet/audio-worklet.ts?worker&url";
import { PROCESSOR_NAME } from "../worklet/name";

/** `blocked`: the browser wants a click first. */
export type AudioOutputState = "off" | "blocked" | "running";

export interface AudioOutputEvents {
  handlePort(port: MessagePort): void;
  handleOutput(running: boolean, latencyMs: number): void;
  handleState(state: AudioOutputState): void;
}

interface Format {
  readonly sampleRate: number;
  readonly channels: number;
}

const LATENCY_POLL_MS = 1000;
/** So fast that it feels immediate, so slow that it doesn't click. */
const GAIN_SECONDS = 0.015;

export class AudioOutput {
  readonly #events: AudioOutputEvents;
  #format: Format | undefined;
  #context: AudioContext | undefined;
  #gain: GainNode | undefined;
  #poll: ReturnType<typeof setInterval> | undefined;
  #wanted = false;
  #volume = 1;

  constructor(events: AudioOutputEvents) {
    this.#events = events;
  }

  get state(): AudioOutputState {
    if (!this.#context || !this.#wanted) return "off";
    return this.#context.state === "running" ? "running" : "blocked";
  }

  /** The broadcast has sound of this shape. */
  setFormat(format: Format): void {
    const same = this.#format?.sampleRate === format.sampleRate && this.#format.channels === format.channels;
    this.#format = format;
    if (same) return;
    this.#closeContext();
    if (this.#wanted) this.#open();
  }

  /** Whether anybody wants to hear it. A context, once open, goes on: it keeps the time. */
  setWanted(wanted: boolean): void {
    this.#wanted = wanted;
    if (wanted && !this.#context) this.#open();
    this.#applyGain();
    this.#report();
  }

  setVolume(volume: number): void {
    this.#volume = volume;
    this.#applyGain();
  }

  /** From within a click or key press: the browser then allows sound. */
  unlock(): void {
    this.#context?.resume().catch(() => undefined);
  }

  close(): void {
    this.#closeContext();
    this.#format = undefined;
  }

  #open(): void {
    const format = this.#format;
    if (!format || typeof AudioContext !== "function" || typeof AudioWorkletNode !== "function") return;
    const context = new AudioContext({ sampleRate: format.sampleRate, latencyHint: "interactive" });
    this.#context = context;
    context.onstatechange = () => this.#report();
    // The library may run on another site's page: its own address is what the worklet lies beside.
    context.audioWorklet
      .addModule(new URL(workletUrl, import.meta.url))
      .then(() => this.#connect(context, format))
      .catch(() => {
        // Without a worklet there is no sound; the picture goes by the wall clock.
        if (this.#context === context) this.#closeContext();
      });
    this.#report();
  }

  #connect(context: AudioContext, { channels }: Format): void {
    if (this.#context !== context) return;
    const node = new AudioWorkletNode(context, PROCESSOR_NAME, {
      numberOfInputs: 0,
      outputChannelCount: [channels],
    });
    const { port1, port2 } = new MessageChannel();
    node.port.postMessage(null, [port2]);
    this.#events.handlePort(port1);
    this.#gain = new GainNode(context, { gain: 0 });
    node.connect(this.#gain).connect(context.destination);
    this.#applyGain();
    this.#poll = setInterval(() => this.#report(), LATENCY_POLL_MS);
    this.#report();
  }

  #applyGain(): void {
    if (!this.#gain || !this.#context) return;
    // Loudness is felt logarithmically: the square makes the slider feel even.
    const gain = this.#wanted ? this.#volume ** 2 : 0;
    this.#gain.gain.setTargetAtTime(gain, this.#context.currentTime, GAIN_SECONDS);
  }

  #report(): void {
    const context = this.#context;
    const running = context?.state === "running" && this.#gain !== undefined;
    const seconds = context ? context.baseLatency + (context.outputLatency || 0) : 0;
    this.#events.handleOutput(running, seconds * 1000);
    this.#events.handleState(this.state);
  }

  #closeContext(): void {
    clearInterval(this.#poll);
    const context = this.#context;
    this.#context = undefined;
    this.#gain = undefined;
    if (!context) return;
    context.onstatechange = null;
    context.close().catch(() => undefined);
    this.#report();
  }
}
