/**
 * What a test adds to the page before the page's own scripts run. These functions are sent to the browser
 * as text, so each stands alone: nothing outside of them exists there.
 */

/** One painted picture that differs from the one before: its cells, and when it was on the canvas. */
export interface Paint {
  /** Brightness at each cell's centre, `CELLS × LINES` of them. */
  cells: number[];
  /** Unix milliseconds. */
  at: number;
}

export interface AudioLevel {
  /** Root mean square of the last moments, 1 is full scale. */
  level: number;
  /** The strongest frequency, in hertz. */
  frequency: number;
}

export interface WatchWindow extends Window {
  weirPaints?: Paint[];
  weirAudio?: () => AudioLevel | undefined;
}

/** Reads the top of the player's canvas at each animation frame into `weirPaints`. */
export function readPictures(shape: { cells: number; lines: number; divisor: number }): void {
  const paints: Paint[] = [];
  (window as WatchWindow).weirPaints = paints;
  const probe = new OffscreenCanvas(shape.cells, shape.lines);
  const context = probe.getContext("2d", { willReadFrequently: true });
  let last = "";
  const read = () => {
    requestAnimationFrame(read);
    const player = document.querySelector("weir-player");
    const canvas = player?.shadowRoot?.querySelector("canvas");
    if (!context || !canvas?.width || !canvas.height) return;
    // One pixel a cell; without smoothing that pixel is the one at the cell's centre.
    context.imageSmoothingEnabled = false;
    const height = (shape.lines * canvas.width) / shape.divisor;
    context.drawImage(canvas, 0, 0, canvas.width, height, 0, 0, shape.cells, shape.lines);
    const at = Date.now();
    const { data } = context.getImageData(0, 0, shape.cells, shape.lines);
    const cells = Array.from({ length: shape.cells * shape.lines }, (_, cell) => data[cell * 4 + 1] ?? 0);
    const key = cells.map((cell) => (cell < 128 ? "0" : "1")).join("");
    if (key === last) return;
    last = key;
    paints.push({ cells, at });
  };
  requestAnimationFrame(read);
}

/** Listens in on whatever reaches the page's loudspeaker; `weirAudio` tells its level and pitch. */
export function listenToAudio(): void {
  let analyser: AnalyserNode | undefined;
  const connect = AudioNode.prototype.connect as (this: AudioNode, ...args: unknown[]) => unknown;
  AudioNode.prototype.connect = function (this: AudioNode, ...args: unknown[]) {
    if (args[0] instanceof AudioDestinationNode) {
      analyser = new AnalyserNode(this.context, { fftSize: 4096, smoothingTimeConstant: 0 });
      connect.call(this, analyser);
    }
    return connect.apply(this, args);
  } as typeof AudioNode.prototype.connect;
  (window as WatchWindow).weirAudio = () => {
    if (!analyser) return undefined;
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    const level = Math.sqrt(samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length);
    const spectrum = new Float32Array(analyser.frequencyBinCount);
    analyser.getFloatFrequencyData(spectrum);
    const loudest = spectrum.reduce((best, value, bin) => (value > (spectrum[best] ?? 0) ? bin : best), 0);
    return { level, frequency: (loudest * analyser.context.sampleRate) / analyser.fftSize };
  };
}
