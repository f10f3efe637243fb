/**
 * `<weir-player src="https://host:port/broadcast">`: plays a live broadcast.
 *
 * Attributes: `src` (also `/broadcast`, at the relay that serves this page), `relay` (where sessions are
 * taken, for relays that want a path: `src` then names the broadcast alone), `certificate-hash` (hex SHA-256
 * of the relay's certificate; absent: the page's server is asked), `muted`, `nocontrols`, `no-reports` (the
 * relay isn't told how it goes).
 * Properties: `state`, `error`, `stats`, `audio`. Events, all without detail: `statechange`,
 * `statschange`, `error`. The picture is the `canvas` in the open shadow root.
 */

import {
  type AudioStatus,
  type FromWorker,
  noStats,
  type PlayerState,
  type PlayerStats,
  type Problem,
  type ToWorker,
} from "../bridge";
import { resolveEndpoint } from "../endpoint";
import PlayerWorker from "../worker/worker.ts?worker&inline";
import { AudioOutput } from "./audio-output";
import { Controls, type View } from "./controls";
import { type Command, commandOf } from "./keymap";
import css from "./player.css?inline";

const noAudio: AudioStatus = { playing: false, bufferedMs: 0, underruns: 0, level: 0 };

const VOLUME_STEP = 0.1;

export class WeirPlayer extends HTMLElement {
  static readonly observedAttributes = [
    "src",
    "relay",
    "certificate-hash",
    "muted",
    "nocontrols",
    "no-reports",
  ];

  readonly #root = this.attachShadow({ mode: "open" });
  readonly #output: AudioOutput;
  readonly #controls: Controls;
  #worker: Worker | undefined;
  #state: PlayerState = "connecting";
  #problem: Problem | null = null;
  #stats = noStats;
  #audio = noAudio;
  #hasAudio = false;
  #volume = 1;
  #connectQueued = false;

  constructor() {
    super();
    const style = new CSSStyleSheet();
    style.replaceSync(css);
    this.#root.adoptedStyleSheets = [style];
    this.#output = new AudioOutput({
      handlePort: (port) => this.#tell({ kind: "audio-port", port }, [port]),
      handleOutput: (running, latencyMs) => this.#tell({ kind: "audio-output", running, latencyMs }),
      handleState: () => this.#render(),
    });
    this.#controls = new Controls({
      handleCommand: (command) => this.#run(command),
      handleVolume: (volume) => this.#setVolume(volume),
      handleUnlock: () => this.#output.unlock(),
    });
    for (const type of ["pointermove", "pointerdown", "keydown", "focusin"] as const) {
      this.addEventListener(type, () => this.#controls.wake());
    }
    this.addEventListener("keydown", (event) => this.handleKey(event));
    this.addEventListener("dblclick", ({ target }) => target === this && this.#run("fullscreen"));
    // Any click is as good as the button for the browser's rule about sound.
    this.addEventListener("click", () => this.#output.state === "blocked" && this.#output.unlock());
    this.addEventListener("fullscreenchange", () => this.#render());
  }

  get src(): string {
    return this.getAttribute("src") ?? "";
  }

  set src(src: string) {
    this.setAttribute("src", src);
  }

  get muted(): boolean {
    return this.hasAttribute("muted");
  }

  set muted(muted: boolean) {
    this.toggleAttribute("muted", muted);
  }

  /** 0 to 1. */
  get volume(): number {
    return this.#volume;
  }

  set volume(volume: number) {
    this.#setVolume(volume);
  }

  get state(): PlayerState {
    return this.#state;
  }

  /** What is wrong, in words; null while all is well. */
  get error(): Problem | null {
    return this.#problem;
  }

  get stats(): PlayerStats {
    return this.#stats;
  }

  /** What the sound does. */
  get audio(): AudioStatus {
    return this.#audio;
  }

  readonly #tellVisibility = () => {
    this.#tell({ kind: "visibility", visible: document.visibilityState === "visible" });
  };

  connectedCallback(): void {
    if (!this.hasAttribute("tabindex")) this.tabIndex = 0;
    document.addEventListener("visibilitychange", this.#tellVisibility);
    this.#start();
  }

  disconnectedCallback(): void {
    document.removeEventListener("visibilitychange", this.#tellVisibility);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#output.close();
  }

  attributeChangedCallback(name: string, before: string | null, after: string | null): void {
    if (before === after) return;
    if (name === "muted") this.#output.setWanted(!this.muted);
    else if (name !== "nocontrols") this.#connectSoon();
    this.#render();
  }

  /** Runs the command of a key; pages that show nothing but a player pass theirs on. */
  handleKey(event: KeyboardEvent): void {
    const command = commandOf(event);
    const onSlider = event.composedPath()[0] instanceof HTMLInputElement;
    const taken = event.defaultPrevented || !command || (onSlider && command.startsWith("volume"));
    if (taken || (command === "close" && !this.#controls.statsOpen)) return;
    event.preventDefault();
    this.#run(command);
  }

  #start(): void {
    // A canvas can be handed to a worker only once, so every start has its own.
    const canvas = document.createElement("canvas");
    this.#root.replaceChildren(canvas, this.#controls.element);
    const worker = new PlayerWorker({ name: "weir-player" });
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#handle(data);
    this.#worker = worker;
    const offscreen = canvas.transferControlToOffscreen();
    this.#tell({ kind: "canvas", canvas: offscreen }, [offscreen]);
    this.#tellVisibility();
    this.#output.setWanted(!this.muted);
    this.#connectSoon();
  }

  /** Several attributes set in a row make one connection. */
  #connectSoon(): void {
    if (!this.#worker || this.#connectQueued) return;
    this.#connectQueued = true;
    const requestedAt = Date.now();
    queueMicrotask(() => {
      this.#connectQueued = false;
      void this.#connect(requestedAt);
    });
  }

  async #connect(requestedAt: number): Promise<void> {
    if (!this.hasAttribute("src")) return this.#tell({ kind: "disconnect" });
    const relay = this.getAttribute("relay");
    const certificateHash = this.getAttribute("certificate-hash");
    const source = {
      src: this.src,
      pageUrl: location.href,
      ...(relay && { relay }),
      ...(certificateHash && { certificateHash }),
      ...(this.hasAttribute("no-reports") && { noReports: true }),
    };
    this.#hasAudio = false;
    this.#stats = noStats;
    this.#render();
    // Asked here and now, while the worker still starts. What can't be told is asked again there.
    const worker = this.#worker;
    const endpoint = await resolveEndpoint(source).catch(() => undefined);
    // Another src or another worker since: that connects by itself.
    if (worker !== this.#worker || source.src !== this.src) return;
    this.#tell({ kind: "connect", source, requestedAt, ...(endpoint && { endpoint }) });
  }

  #handle(message: FromWorker): void {
    switch (message.kind) {
      case "state":
        return this.#handleState(message.state, message.problem);
      case "stats":
        this.#stats = message.stats;
        this.#audio = message.audio;
        this.#controls.renderStats(this.#view());
        this.dispatchEvent(new Event("statschange"));
        return;
      case "audio-format":
        this.#hasAudio = true;
        this.#output.setFormat(message);
        this.#render();
        return;
      case "picture":
        this.style.setProperty("--weir-ratio", `${message.width} / ${message.height}`);
        return;
    }
  }

  #handleState(state: PlayerState, problem: Problem | null): void {
    const newProblem = problem !== null && problem.message !== this.#problem?.message;
    const newState = state !== this.#state;
    this.#state = state;
    this.#problem = problem;
    this.#render();
    if (newState) this.dispatchEvent(new Event("statechange"));
    if (newProblem) this.dispatchEvent(new Event("error"));
  }

  #run(command: Command): void {
    switch (command) {
      case "mute":
        // Held back by the browser: what the viewer wants is sound.
        if (this.#output.state === "blocked" && !this.muted) return this.#output.unlock();
        this.muted = !this.muted;
        return this.#output.unlock();
      case "volume-up":
        return this.#setVolume(this.#volume + VOLUME_STEP);
      case "volume-down":
        return this.#setVolume(this.#volume - VOLUME_STEP);
      case "fullscreen":
        return this.#toggleFullscreen();
      case "stats":
        this.#controls.statsOpen = !this.#controls.statsOpen;
        return;
      case "close":
        this.#controls.statsOpen = false;
    }
  }

  #setVolume(volume: number): void {
    this.#volume = Math.min(1, Math.max(0, volume));
    this.#output.setVolume(this.#volume);
    if (this.#volume > 0 && this.muted) this.muted = false;
    this.#output.unlock();
    this.#render();
  }

  #toggleFullscreen(): void {
    const done = document.fullscreenElement ? document.exitFullscreen() : this.requestFullscreen();
    // Refused where an iframe is not allowed to: then it stays as it is.
    done.catch(() => undefined);
  }

  #view(): View {
    return {
      state: this.#state,
      problem: this.#problem,
      stats: this.#stats,
      audio: this.#output.state,
      hasAudio: this.#hasAudio,
      muted: this.muted,
      volume: this.#volume,
      fullscreen: document.fullscreenElement === this,
    };
  }

  #render(): void {
    this.#controls.element.toggleAttribute("hidden", this.hasAttribute("nocontrols"));
    this.#controls.render(this.#view());
  }

  #tell(message: ToWorker, transfer: Transferable[] = []): void {
    this.#worker?.postMessage(message, transfer);
  }
}
