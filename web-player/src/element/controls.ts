/** What lies over the picture: notice, control bar, statistics. Knows nothing of how playing works. */

import type { PlayerState, PlayerStats, Problem } from "../bridge";
import type { AudioOutputState } from "./audio-output";
import { icons } from "./icons";
import { type Command, keymap, tooltip } from "./keymap";
import { latencyWords, noticeFor, statLines } from "./words";

export interface ControlsEvents {
  handleCommand(command: Command): void;
  handleVolume(volume: number): void;
  /** A click that may let the browser play sound. */
  handleUnlock(): void;
}

/** Everything that the controls show. */
export interface View {
  readonly state: PlayerState;
  readonly problem: Problem | null;
  readonly stats: PlayerStats;
  readonly audio: AudioOutputState;
  readonly hasAudio: boolean;
  readonly muted: boolean;
  readonly volume: number;
  readonly fullscreen: boolean;
}

/** A blip that heals by itself within this is not worth words. */
const NOTICE_DELAY_MS = 600;
const HIDE_AFTER_MS = 2600;
const HISTORY = 90;

const template = `
  <div class="notice" role="status" hidden>
    <div class="spinner" aria-hidden="true"></div>
    <p class="title"></p>
    <p class="detail"></p>
  </div>
  <button class="unlock" type="button" hidden>${icons.muted}<span>Tap for sound</span></button>
  <section class="stats" aria-label="Statistics" hidden>
    <dl></dl>
    <svg class="trace" viewBox="0 0 ${HISTORY - 1} 30" preserveAspectRatio="none" aria-hidden="true"><polyline/></svg>
    <p class="keys"></p>
  </section>
  <div class="bar">
    <button class="mute" type="button"></button>
    <input class="volume" type="range" min="0" max="1" step="0.05" aria-label="Volume">
    <span class="live"><i></i><span class="latency">Live</span></span>
    <span class="space"></span>
    <button class="toggle-stats" type="button" aria-expanded="false">${icons.stats}</button>
    <button class="fullscreen" type="button"></button>
  </div>`;

function part<E extends Element>(root: ParentNode, selector: string): E {
  const element = root.querySelector<E>(selector);
  if (!element) throw new Error(`the controls have no ${selector}`);
  return element;
}

function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export class Controls {
  readonly element: HTMLDivElement;
  readonly #notice: HTMLElement;
  readonly #unlock: HTMLButtonElement;
  readonly #stats: HTMLElement;
  readonly #mute: HTMLButtonElement;
  readonly #volume: HTMLInputElement;
  readonly #live: HTMLElement;
  readonly #toggleStats: HTMLButtonElement;
  readonly #fullscreen: HTMLButtonElement;
  #noticeTimer: ReturnType<typeof setTimeout> | undefined;
  #hideTimer: ReturnType<typeof setTimeout> | undefined;
  #latencies: number[] = [];
  #view: View | undefined;

  constructor(events: ControlsEvents) {
    this.element = document.createElement("div");
    this.element.className = "controls awake";
    this.element.innerHTML = template;
    this.#notice = part(this.element, ".notice");
    this.#unlock = part(this.element, ".unlock");
    this.#stats = part(this.element, ".stats");
    this.#mute = part(this.element, ".mute");
    this.#volume = part(this.element, ".volume");
    this.#live = part(this.element, ".live");
    this.#toggleStats = part(this.element, ".toggle-stats");
    this.#fullscreen = part(this.element, ".fullscreen");

    this.#mute.onclick = () => events.handleCommand("mute");
    this.#toggleStats.onclick = () => events.handleCommand("stats");
    this.#fullscreen.onclick = () => events.handleCommand("fullscreen");
    this.#unlock.onclick = () => events.handleUnlock();
    this.#volume.oninput = () => events.handleVolume(this.#volume.valueAsNumber);
    this.#toggleStats.title = tooltip("stats");
    this.#toggleStats.setAttribute("aria-label", "Statistics");
    const keys = keymap.map(({ shown, label }) => `${shown} ${label.toLowerCase()}`);
    setText(part(this.#stats, ".keys"), keys.join(" · "));
    this.wake();
  }

  get statsOpen(): boolean {
    return !this.#stats.hidden;
  }

  set statsOpen(open: boolean) {
    this.#stats.hidden = !open;
    this.#toggleStats.setAttribute("aria-expanded", String(open));
    if (open && this.#view) this.#renderStats(this.#view);
  }

  /** Somebody is there: show the bar for a while. */
  wake(): void {
    this.element.classList.add("awake");
    clearTimeout(this.#hideTimer);
    this.#hideTimer = setTimeout(() => this.#sleep(), HIDE_AFTER_MS);
  }

  render(view: View): void {
    this.#view = view;
    this.#renderNotice(view);
    const muted = view.muted || view.audio !== "running";
    this.#mute.innerHTML = muted ? icons.muted : icons.sound;
    this.#mute.setAttribute("aria-label", muted ? "Unmute" : "Mute");
    this.#mute.title = tooltip("mute");
    this.#mute.hidden = !view.hasAudio;
    this.#volume.hidden = !view.hasAudio;
    this.#volume.value = String(muted ? 0 : view.volume);
    this.#unlock.hidden = !(
      view.hasAudio &&
      view.audio === "blocked" &&
      !view.muted &&
      view.state === "playing"
    );
    this.#fullscreen.innerHTML = view.fullscreen ? icons.shrink : icons.enlarge;
    this.#fullscreen.setAttribute("aria-label", view.fullscreen ? "Leave full screen" : "Full screen");
    this.#fullscreen.title = tooltip("fullscreen");
    this.#renderLatency(view);
    if (this.statsOpen) this.#renderStats(view);
  }

  /** New figures came: they also make the trace longer. */
  renderStats(view: View): void {
    if (view.stats.latencyMs !== null) {
      this.#latencies.push(view.stats.latencyMs);
      this.#latencies = this.#latencies.slice(-HISTORY);
    }
    this.render(view);
  }

  #renderLatency({ state, stats, problem }: View): void {
    const playing = state === "playing";
    this.#live.classList.toggle("on", playing);
    const words: Record<PlayerState, string> = {
      playing: latencyWords(stats.latencyMs),
      connecting: problem ? "Waiting" : "Connecting",
      stalled: "Paused",
      reconnecting: "Reconnecting",
      failed: "Offline",
    };
    setText(part(this.#live, ".latency"), words[state]);
  }

  #renderNotice({ state, problem }: View): void {
    const notice = noticeFor(state, problem);
    if (!notice) {
      clearTimeout(this.#noticeTimer);
      this.#noticeTimer = undefined;
      this.#notice.hidden = true;
      return;
    }
    setText(part(this.#notice, ".title"), notice.title);
    setText(part(this.#notice, ".detail"), notice.detail);
    this.#notice.classList.toggle("busy", notice.busy);
    if (!this.#notice.hidden || this.#noticeTimer !== undefined) return;
    this.#noticeTimer = setTimeout(
      () => {
        this.#notice.hidden = false;
        this.#noticeTimer = undefined;
      },
      state === "failed" ? 0 : NOTICE_DELAY_MS,
    );
  }

  #renderStats(view: View): void {
    const list = part(this.#stats, "dl");
    const sound = view.hasAudio
      ? { off: "muted", blocked: "held back by the browser", running: "" }[view.audio]
      : "none";
    const lines = statLines(view.stats, sound);
    if (list.childElementCount !== lines.length * 2) {
      list.replaceChildren(
        ...lines.flatMap(() => [document.createElement("dt"), document.createElement("dd")]),
      );
    }
    for (const [i, [name, value]] of lines.entries()) {
      const [term, description] = [list.children[2 * i], list.children[2 * i + 1]];
      if (term) setText(term, name);
      if (description) setText(description, value);
    }
    const most = Math.max(150, ...this.#latencies);
    const points = this.#latencies.map((latency, i) => `${i},${(29 - (latency / most) * 28).toFixed(1)}`);
    part(this.#stats, "polyline").setAttribute("points", points.join(" "));
  }

  #sleep(): void {
    // Somebody who works with the keyboard needs to see where they are.
    const focused = this.element.querySelector(":focus-visible") !== null;
    if (focused || this.#view?.state !== "playing") return this.wake();
    this.element.classList.remove("awake");
  }
}
