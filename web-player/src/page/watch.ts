/** `/watch/BROADCAST`: the player with what belongs around it. */

import "../index";
import { broadcastOfPath, pathOfBroadcast } from "../source";
import { followBroadcasts, viewersText } from "./broadcasts";
import { element, setText } from "./dom";
import { header } from "./header";
import { makePlayer } from "./player";

const COPIED_MS = 1800;

const broadcast = broadcastOfPath(location.pathname, "/watch/");
const player = makePlayer(broadcast);
const viewers = element("span", { class: "viewers" });
const embed = element("button", { class: "plain", type: "button" }, "Copy embed code");
const back = element("a", { class: "count", href: "/" }, "All live streams");

document.title = `${broadcast} · Weir`;
document.body.append(
  header(back),
  element(
    "main",
    { class: "watching" },
    player,
    element("div", { class: "below" }, element("h1", {}, broadcast), viewers, embed),
  ),
);

embed.onclick = async () => {
  const address = new URL(`/embed/${pathOfBroadcast(broadcast)}`, location.href);
  const code = `<iframe src="${address}" width="640" height="360" allow="autoplay; fullscreen" style="border:0"></iframe>`;
  const copied = await navigator.clipboard.writeText(code).then(
    () => true,
    () => false,
  );
  setText(embed, copied ? "Copied" : "The browser won't copy here");
  setTimeout(() => setText(embed, "Copy embed code"), COPIED_MS);
};

followBroadcasts((listing) => {
  setText(viewers, viewersText(listing?.find(({ name }) => name === broadcast)?.viewers));
});
