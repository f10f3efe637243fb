/** The library: importing it defines `<weir-player>`. */

import { WeirPlayer } from "./element/weir-player";

if (!customElements.get("weir-player")) customElements.define("weir-player", WeirPlayer);

export type { AudioStatus, ErrorCode, PlayerState, PlayerStats, Problem } from "./bridge";
export { WeirPlayer };

declare global {
  interface HTMLElementTagNameMap {
    "weir-player": WeirPlayer;
  }
}
