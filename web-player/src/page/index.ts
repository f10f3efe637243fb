/** `/`: the list of live broadcasts. */

import { pathOfBroadcast } from "../source";
import { type Broadcast, followBroadcasts, type Listing, viewersText } from "./broadcasts";
import { element, setText } from "./dom";
import { header } from "./header";

interface Card {
  readonly item: HTMLLIElement;
  readonly viewers: HTMLElement;
}

const cards = new Map<string, Card>();
const count = element("span", { class: "count", role: "status" });
const list = element("ul", { class: "broadcasts" });
const emptyTitle = element("h2");
const emptyText = element("p");
const empty = element("div", { class: "empty", hidden: "" }, emptyTitle, emptyText);

document.body.append(header(count), element("main", {}, element("h1", {}, "Live now"), list, empty));

/** A number that stays the same for a name, for its colour and its waves. */
function hash(name: string): number {
  let value = 2166136261;
  for (const character of name) value = Math.imul(value ^ (character.codePointAt(0) ?? 0), 16777619) >>> 0;
  return value;
}

/** Every broadcast has its own water: nobody has to look at thumbnails that nobody made. */
function cover(name: string): HTMLElement {
  const seed = hash(name);
  const waves = Array.from({ length: 5 }, (_, i) => {
    const level = 28 + i * 14;
    const swing = 5 + ((seed >>> (i * 3)) % 9);
    const shift = (seed >>> (i * 5)) % 40;
    return `<path d="M${-shift} ${level}q25 ${-swing} 50 0t50 0t50 0t50 0t50 0"/>`;
  });
  const tag = element("span", { class: "tag" }, "Live");
  const picture = element("span", { class: "cover", style: `--hue: ${170 + (seed % 130)}` });
  picture.innerHTML = `<svg viewBox="0 0 200 100" preserveAspectRatio="none" aria-hidden="true">${waves.join("")}</svg>`;
  picture.append(tag);
  return picture;
}

function makeCard({ name }: Broadcast): Card {
  const viewers = element("span", { class: "viewers" });
  const about = element(
    "span",
    { class: "about" },
    element("span", { class: "name", title: name }, name),
    viewers,
  );
  const link = element("a", { class: "card", href: `/watch/${pathOfBroadcast(name)}` }, cover(name), about);
  return { item: element("li", {}, link), viewers };
}

function render(listing: Listing): void {
  const broadcasts = [...(listing ?? [])].sort((a, b) => a.name.localeCompare(b.name));
  const names = new Set(broadcasts.map(({ name }) => name));
  for (const [name, { item }] of cards) {
    if (listing === undefined || names.has(name)) continue;
    item.remove();
    cards.delete(name);
  }
  for (const [i, broadcast] of broadcasts.entries()) {
    let card = cards.get(broadcast.name);
    if (!card) {
      card = makeCard(broadcast);
      cards.set(broadcast.name, card);
    }
    setText(card.viewers, viewersText(broadcast.viewers));
    if (list.children[i] !== card.item) list.insertBefore(card.item, list.children[i] ?? null);
  }
  setText(count, listing === undefined || broadcasts.length === 0 ? "" : `${broadcasts.length} live`);
  renderEmpty(listing);
}

function renderEmpty(listing: Listing): void {
  empty.hidden = cards.size > 0 && listing !== undefined;
  if (listing === undefined) {
    setText(emptyTitle, "The relay doesn't answer");
    setText(emptyText, "This list comes back by itself when the relay does.");
    return;
  }
  setText(emptyTitle, "Nothing is live yet");
  if (emptyText.querySelector("code")) return;
  const command = element("code", {}, "publisher --url test: --name live/test");
  emptyText.replaceChildren("A broadcast shows up here the moment it starts. To try it: ", command);
}

followBroadcasts(render);
