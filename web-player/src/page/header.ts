/** The line on top of every page: mark, name, and what the page has to say beside it. */

import { element } from "./dom";
import mark from "./mark.svg?inline";

export function header(...beside: readonly Node[]): HTMLElement {
  const brand = element("a", { class: "brand", href: "/" }, element("img", { src: mark, alt: "" }), "Weir");
  return element("header", { class: "top" }, brand, ...beside);
}
