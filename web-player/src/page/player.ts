/** The player as the pages use it: this page's relay, its query, its keys. */

import type { WeirPlayer } from "../element/weir-player";
import { pathOfBroadcast } from "../source";
import { element } from "./dom";

export function makePlayer(broadcast: string): WeirPlayer {
  const muted = new URLSearchParams(location.search).get("muted");
  const player = element("weir-player", {
    src: `/${pathOfBroadcast(broadcast)}`,
    ...(muted !== null && muted !== "0" && { muted: "" }),
  });
  // The page has no other use for keys, so the player hears them wherever the focus is.
  document.addEventListener("keydown", (event) => {
    if (!event.composedPath().includes(player)) player.handleKey(event);
  });
  return player;
}
