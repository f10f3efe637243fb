/** The player as the pages use it: this page's relay, its query, its keys. */

import type { WeirPlayer } from "../element/weir-player";
import { pathOfBroadcast } from "../source";
import { element } from "./dom";

export function makePlayer(broadcast: string): WeirPlayer {
  const query = new URLSearchParams(location.search);
  const muted = query.get("muted");
  // A relay without a page of its own is watched on this one.
  const elsewhere = ["relay", "certificate-hash"].flatMap((name) => {
    const value = query.get(name);
    return value ? [[name, value]] : [];
  });
  const player = element("weir-player", {
    src: `/${pathOfBroadcast(broadcast)}`,
    ...Object.fromEntries(elsewhere),
    ...(muted !== null && muted !== "0" && { muted: "" }),
    ...(query.get("reports") === "0" && { "no-reports": "" }),
  });
  // The page has no other use for keys, so the player hears them wherever the focus is.
  document.addEventListener("keydown", (event) => {
    if (!event.composedPath().includes(player)) player.handleKey(event);
  });
  return player;
}
