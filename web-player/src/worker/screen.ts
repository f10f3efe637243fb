/** The canvas. Keeps the last picture until there is another. */

export class Screen {
  readonly #canvas: OffscreenCanvas;
  readonly #context: OffscreenCanvasRenderingContext2D;
  readonly #handleSize: (width: number, height: number) => void;

  constructor(canvas: OffscreenCanvas, handleSize: (width: number, height: number) => void) {
    const context = canvas.getContext("2d", { alpha: false });
    if (!context) throw new Error("the browser gives no 2D context for a canvas in a worker");
    this.#canvas = canvas;
    this.#context = context;
    this.#handleSize = handleSize;
  }

  paint(frame: VideoFrame): void {
    const { displayWidth: width, displayHeight: height } = frame;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      this.#canvas.width = width;
      this.#canvas.height = height;
      this.#handleSize(width, height);
    }
    this.#context.drawImage(frame, 0, 0, width, height);
  }
}
