/**
 * From objects to the worklet: decodes, and sends the samples over with their time. While there is no
 * running output (autoplay policy, muted from the start) nothing is decoded.
 */

import type { AudioStatus, FromWorklet, ToWorklet } from "../bridge";
import type { AssembledObject } from "../media/assembler";
import { ChunkTimes } from "../media/chunk-times";
import { readLocHeader } from "../media/loc";
import type { PlayableTrack } from "../media/tracks";
import { ArrivalEstimator } from "../playout/arrival";
import type { PlayoutClock, TrackNeed } from "../playout/clock";

/** The worklet computes its blocks in bursts of about a device buffer, and its speed control has play. */
const RENDER_BURST_MS = 16;
/** Late sound is no sound, so it is waited for far longer than pictures are. */
const MAX_JITTER_MS = 1000;
/** More chunks than this in the decoder: it can't keep up, so leave some out. */
const MAX_DECODE_QUEUE = 32;

const silent: AudioStatus = { playing: false, bufferedMs: 0, underruns: 0, level: 0 };

export class AudioPipeline {
  /** Of decoded sound: decoding is part of how late it comes. */
  readonly arrivals = new ArrivalEstimator();
  readonly #clock: PlayoutClock;
  readonly #times = new ChunkTimes();
  #track: PlayableTrack | undefined;
  #config: Uint8Array | undefined;
  #decoder: AudioDecoder | undefined;
  #port: MessagePort | undefined;
  #running = false;
  #outputLatencyMs = 0;
  #status: AudioStatus = silent;
  #newest: number | undefined;

  constructor(clock: PlayoutClock) {
    this.#clock = clock;
  }

  get status(): AudioStatus {
    return this.#status;
  }

  get track(): PlayableTrack | undefined {
    return this.#track;
  }

  /** Timestamp of the newest sound that came, milliseconds. */
  get newest(): number | undefined {
    return this.#newest;
  }

  need(now: number): TrackNeed | undefined {
    const arrivals = this.#running ? this.arrivals.expect(0.98, MAX_JITTER_MS, now) : undefined;
    return arrivals && { ...arrivals, handling: RENDER_BURST_MS + this.#outputLatencyMs };
  }

  setTrack(track: PlayableTrack | undefined): void {
    const same =
      this.#track?.codec === track?.codec &&
      this.#track?.samplerate === track?.samplerate &&
      this.#track?.channels === track?.channels;
    this.#track = track;
    if (same) return;
    this.#config = track?.initData;
    this.#closeDecoder();
  }

  /** The worklet's end of a channel. */
  setPort(port: MessagePort): void {
    this.#port?.close();
    this.#port = port;
    port.onmessage = ({ data }: MessageEvent<FromWorklet>) => this.#handleReport(data);
  }

  /** `latencyMs`: from the worklet to the ear. */
  setOutput(running: boolean, latencyMs: number): void {
    if (running !== this.#running) this.arrivals.reset();
    this.#running = running;
    this.#outputLatencyMs = latencyMs;
    if (running) return;
    this.#clock.handleAudioStopped();
    this.#status = silent;
  }

  /** Another subscription delivers from here on. */
  resync(): void {
    this.arrivals.resync();
  }

  resetTimeline(): void {
    this.arrivals.reset();
    this.#send({ kind: "clear" });
  }

  /** Tells the worklet when sound is due; called every now and then. */
  tellDelay(now: number): void {
    const { target } = this.#clock;
    // A target that doesn't know the sound's needs yet would have it play before it comes.
    if (target === undefined || this.need(now) === undefined) return;
    // The worklet has only the wall clock, and its sound has a way to go to the ear.
    this.#send({ kind: "delay", delay: target - this.#outputLatencyMs + (Date.now() - now) });
  }

  handleObject({ object }: AssembledObject, timescale: bigint | undefined): void {
    const { timestamp, config } = readLocHeader(object.properties, timescale);
    if (timestamp === undefined) return;
    this.#newest = timestamp / 1000;
    if (!this.#running || !this.#track) return;
    if (config && config !== this.#config) this.#setConfig(config);
    const decoder = this.#readyDecoder(this.#track);
    if (!decoder || decoder.decodeQueueSize > MAX_DECODE_QUEUE) return;
    try {
      this.#times.handleInput(timestamp / 1000);
      decoder.decode(new EncodedAudioChunk({ type: "key", timestamp, data: object.payload as BufferSource }));
    } catch {
      // Closed by an error in between: the next object makes a new one.
    }
  }

  close(): void {
    this.#closeDecoder();
    this.#track = undefined;
    this.#send({ kind: "clear" });
  }

  #setConfig(config: Uint8Array): void {
    const before = this.#config;
    this.#config = config;
    const same = before?.byteLength === config.byteLength && config.every((byte, i) => byte === before[i]);
    if (!same) this.#closeDecoder();
  }

  #readyDecoder(track: PlayableTrack): AudioDecoder | undefined {
    if (this.#decoder?.state === "configured") return this.#decoder;
    const decoder: AudioDecoder = new AudioDecoder({
      output: (data) => (decoder === this.#decoder ? this.#handleSound(data) : data.close()),
      error: () => {
        // Sound that fails to decode is sound that is missing: the next object starts a new decoder.
        if (this.#decoder === decoder) this.#decoder = undefined;
      },
    });
    try {
      decoder.configure(audioConfig(track, this.#config));
    } catch {
      return undefined;
    }
    this.#decoder = decoder;
    this.#times.reset();
    return decoder;
  }

  #handleSound(data: AudioData): void {
    const duration = (data.numberOfFrames / data.sampleRate) * 1000;
    const timestamp = this.#times.timeOf(data.timestamp / 1000, duration);
    this.arrivals.observe(timestamp, performance.now());
    const channels = Array.from({ length: data.numberOfChannels }, (_, planeIndex) => {
      const samples = new Float32Array(data.numberOfFrames);
      data.copyTo(samples, { planeIndex, format: "f32-planar" });
      return samples;
    });
    const { sampleRate } = data;
    data.close();
    this.#send(
      { kind: "sound", timestamp, sampleRate, channels },
      channels.map(({ buffer }) => buffer),
    );
  }

  #handleReport({ at, position, ...status }: FromWorklet): void {
    this.#status = status;
    if (!this.#running) return;
    if (position === null) return this.#clock.handleAudioStopped();
    const now = performance.now();
    const heardAt = now - (Date.now() - at) + this.#outputLatencyMs;
    this.#clock.handleAudio(heardAt - position, now);
  }

  #send(message: ToWorklet, transfer: Transferable[] = []): void {
    this.#port?.postMessage(message, transfer);
  }

  #closeDecoder(): void {
    const decoder = this.#decoder;
    this.#decoder = undefined;
    if (decoder && decoder.state !== "closed") decoder.close();
  }
}

export function audioConfig(track: PlayableTrack, description: Uint8Array | undefined): AudioDecoderConfig {
  return {
    codec: track.codec,
    sampleRate: track.samplerate ?? 48_000,
    numberOfChannels: track.channels ?? 2,
    ...(description && { description: description as BufferSource }),
  };
}
