/** The element's `src`, taken apart: which relay, and which broadcast on it. */

import { namespaceOf } from "./moqt/names";

export interface ParsedSource {
  /** Where the session goes, `https://host:port/`; absent: the relay behind the page's own server. */
  readonly relay?: URL;
  /** `live/cam1`, decoded. */
  readonly broadcast: string;
}

/** Throws a RangeError that says what is wrong. */
export function parseSource(src: string, pageUrl: string): ParsedSource {
  const relative = !/^[a-z][a-z0-9+.-]*:/i.test(src);
  const url = parseUrl(src, pageUrl);
  const scheme = relative ? "https:" : url.protocol;
  if (scheme !== "https:") throw new RangeError(`it starts with ${url.protocol}// instead of https://`);
  const broadcast = decodePath(url.pathname);
  // Throws when it can't be a namespace.
  namespaceOf(broadcast);
  return relative ? { broadcast } : { relay: new URL(`https://${url.host}/`), broadcast };
}

/** The broadcast that a page path names: `/watch/live/cam1` under `/watch/` is `live/cam1`. */
export function broadcastOfPath(pathname: string, prefix: string): string {
  return pathname.startsWith(prefix) ? decodePath(pathname.slice(prefix.length)) : "";
}

/** `live/cam 1` → `live/cam%201`, for links. */
export function pathOfBroadcast(broadcast: string): string {
  return broadcast.split("/").map(encodeURIComponent).join("/");
}

function parseUrl(src: string, pageUrl: string): URL {
  try {
    // `moqt:` is no special scheme to URL, so it is read as the https it stands for.
    return new URL(src.replace(/^moqt:/i, "https:"), pageUrl);
  } catch {
    throw new RangeError("it is not a URL");
  }
}

function decodePath(path: string): string {
  try {
    return path.split("/").map(decodeURIComponent).filter(Boolean).join("/");
  } catch {
    throw new RangeError("it has a % that is not followed by two hex digits");
  }
}
