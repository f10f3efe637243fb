/** A person before a browser. */

import { type Browser, type BrowserContext, chromium, type Page } from "playwright-core";
import { type AudioLevel, listenToAudio, type Paint, readPictures, type WatchWindow } from "./in-page.ts";
import { CELL_HEIGHT_DIVISOR, CELLS, LINES, type Marks, readMarks } from "./picture.ts";
import type { Scope } from "./scope.ts";
import { until } from "./wait.ts";
import type { Relay } from "./weir.ts";

const FIRST_PICTURE_MS = 20_000;
/** A level below this is none. */
export const SILENCE = 0.001;

/** The properties that `<weir-player>` offers as `stats`. */
export interface PlayerStats {
  transport: string;
  protocol: string;
  framesDecoded: number;
  framesRendered: number;
  framesDropped: number;
  latencyMs: number;
  latencyErrorMs: number | null;
  bufferMs: number;
  stalls: number;
  stalledMs: number;
  joinMs: number;
  videoBitrate: number;
  audioBitrate: number;
  track: string;
}

export interface Player {
  state: string;
  error: unknown;
  stats: PlayerStats;
}

/** A test picture seen on the canvas. */
export interface Sight extends Marks {
  /** Unix milliseconds when it was on the canvas. */
  at: number;
  /** From capture to canvas, in milliseconds. */
  latency: number;
}

export async function openBrowser(scope: Scope): Promise<Browser> {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    headless: true,
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--autoplay-policy=no-user-gesture-required",
    ],
  });
  scope.onEnd(() => browser.close());
  return browser;
}

export interface WatchOptions {
  /** A UDP port that the media comes through instead of the relay's own. */
  through?: number;
  /** A relay that has no page: the other one's is used to watch it. */
  elsewhere?: { url: string; hash: string };
  /** Keeps to itself how it goes. */
  silent?: boolean;
}

export class Viewer {
  readonly #messages: string[] = [];

  private constructor(
    readonly page: Page,
    readonly opened: number,
  ) {}

  /** Opens the relay's page of a broadcast. */
  static async open(
    scope: Scope,
    browser: Browser,
    relay: Relay,
    broadcast: string,
    options: WatchOptions = {},
  ): Promise<Viewer> {
    const context: BrowserContext = await browser.newContext();
    const page = await context.newPage();
    await page.addInitScript(readPictures, { cells: CELLS, lines: LINES, divisor: CELL_HEIGHT_DIVISOR });
    await page.addInitScript(listenToAudio);
    if (options.through) {
      const port = options.through;
      await page.route("**/api/relay", async (route) => {
        const answer = await route.fetch();
        await route.fulfill({ response: answer, json: { ...(await answer.json()), port } });
      });
    }
    const viewer = new Viewer(page, Date.now());
    page.on("console", (message) => viewer.#messages.push(`${message.type()}: ${message.text()}`));
    page.on("pageerror", (error) => viewer.#messages.push(`page error: ${error.stack ?? error.message}`));
    scope.onFailure(() => viewer.#show(scope, `${relay.node}.png`));
    scope.onEnd(() => context.close());
    const address = new URL(relay.page(broadcast));
    if (options.elsewhere) {
      address.searchParams.set("relay", options.elsewhere.url);
      address.searchParams.set("certificate-hash", options.elsewhere.hash);
    }
    if (options.silent) address.searchParams.set("reports", "0");
    await page.goto(address.href);
    return viewer;
  }

  /** What was painted since the last call. */
  async #paints(): Promise<Paint[]> {
    return this.page.evaluate(() => (window as WatchWindow).weirPaints?.splice(0) ?? []);
  }

  /** The test pictures seen since the last call; half-covered or foreign pictures are left out. */
  async sights(): Promise<Sight[]> {
    return (await this.#paints()).flatMap(({ cells, at }) => {
      const marks = readMarks(cells);
      return marks ? [{ ...marks, at, latency: at - marks.captured / 1000 }] : [];
    });
  }

  /** The next test picture that nobody has asked for yet, captured at `since` (Unix milliseconds) or later. */
  async nextSight(milliseconds = FIRST_PICTURE_MS, since = 0): Promise<Sight> {
    return until("a picture", milliseconds, async () =>
      (await this.sights()).find(({ captured }) => captured / 1000 >= since),
    );
  }

  /** Watches for some time and tells what was seen. */
  async watch(milliseconds: number): Promise<Sight[]> {
    await this.sights();
    await this.page.waitForTimeout(milliseconds);
    return this.sights();
  }

  /** The player's own account of itself. */
  async player(): Promise<Player> {
    return this.page.evaluate(() => {
      const player = document.querySelector("weir-player") as unknown as Player | null;
      if (!player) throw new Error("the page has no <weir-player>");
      const { state, error, stats } = player;
      return { state, error: error ? String(error) : null, stats: { ...stats } };
    });
  }

  /** What comes out of the loudspeaker now; undefined when nothing is connected to it. */
  async audio(): Promise<AudioLevel | undefined> {
    return this.page.evaluate(() => (window as WatchWindow).weirAudio?.());
  }

  /** Waits until anything is heard. */
  async hearsSound(milliseconds = 10_000): Promise<AudioLevel> {
    return until("sound", milliseconds, async () => {
      const heard = await this.audio();
      if (heard && heard.level > SILENCE) return heard;
      throw new Error(`heard ${JSON.stringify(heard)}`);
    });
  }

  /** Waits until a tone near `frequency` is heard. */
  async hears(frequency: number, milliseconds = 10_000): Promise<AudioLevel> {
    return until(`a tone of ${frequency} Hz`, milliseconds, async () => {
      const heard = await this.audio();
      const near = heard && Math.abs(heard.frequency - frequency) < 30;
      if (heard && near && heard.level > SILENCE) return heard;
      throw new Error(`heard ${JSON.stringify(heard)}`);
    });
  }

  async #show(scope: Scope, name: string): Promise<void> {
    console.error(`--- page (${JSON.stringify(await this.player().catch(String))})`);
    console.error(this.#messages.slice(-40).join("\n"));
    const path = scope.evidenceFile(name);
    await this.page.screenshot({ path });
    console.error(`screenshot: ${path}`);
  }
}
