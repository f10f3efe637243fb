/** Everything that can go wrong, in words for the person in front of the screen. */

import type { Problem } from "./bridge";
import type { Unplayable } from "./media/tracks";
import { protocols } from "./moqt/codec";

const browsers =
  "Chrome, Edge and other Chromium browsers 114 or later, Firefox 130 or later, Safari 26.4 or later";

export const problems = {
  badSource: (src: string, why: string): Problem => ({
    code: "bad-source",
    message: src === "" ? "No broadcast was named." : `"${src}" is no address of a broadcast: ${why}.`,
    hint: "Expected something like https://relay.example:4433/live/cam1.",
  }),
  insecurePage: (): Problem => ({
    code: "insecure-page",
    message: "This page was not loaded securely, so the browser allows no live video on it.",
    hint: "Open it with https://, or as http://localhost on the relay's own machine.",
  }),
  noWebTransport: (): Problem => ({
    code: "no-webtransport",
    message: "This browser doesn't speak WebTransport, which the live picture comes over.",
    hint: `These do: ${browsers}.`,
  }),
  noWebCodecs: (): Problem => ({
    code: "no-webcodecs",
    message: "This browser can't decode live video by itself (it lacks WebCodecs).",
    hint: `These can: ${browsers}.`,
  }),
  unreachable: (host: string, quick: boolean): Problem => ({
    code: "unreachable",
    message: quick ? `The relay at ${host} refused the connection.` : `The relay at ${host} doesn't answer.`,
    hint: quick
      ? "It may be restarting, or the browser doesn't trust its certificate. Trying again."
      : "The network may block UDP, or the relay is down. Trying again.",
  }),
  noServer: (host: string): Problem => ({
    code: "unreachable",
    message: `The server of this page, ${host}, doesn't answer.`,
    hint: "It may be restarting. Trying again.",
  }),
  protocol: (host: string): Problem => ({
    code: "protocol",
    message: `The relay at ${host} has no protocol version in common with this player.`,
    hint: `This player speaks ${protocols.join(", ")}.`,
  }),
  unauthorized: (broadcast: string, reason: string): Problem => ({
    code: "unauthorized",
    message: `You are not allowed to watch ${broadcast}.`,
    hint: reason === "" ? "Ask whoever runs the stream." : reason,
  }),
  notFound: (broadcast: string): Problem => ({
    code: "not-found",
    message: `Stream not found: ${broadcast} is not live yet.`,
    hint: "The picture starts here by itself when the stream does.",
  }),
  ended: (broadcast: string): Problem => ({
    code: "ended",
    message: `${broadcast} has ended.`,
    hint: "If it starts again, so does the picture.",
  }),
  refused: (broadcast: string, reason: string): Problem => ({
    code: "refused",
    message: `The relay can't deliver ${broadcast} right now.`,
    hint: `It says: ${reason}. Trying again.`,
  }),
  brokenCatalog: (reason: string): Problem => ({
    code: "nothing-playable",
    message: "The stream describes itself in a way that this player can't read.",
    hint: `In detail: ${reason}.`,
  }),
  decoder: (reason: string): Problem => ({
    code: "decoder",
    message: "The browser fails to decode the stream.",
    hint: reason,
  }),
  internal: (reason: string): Problem => ({
    code: "internal",
    message: "The player hit a fault of its own.",
    hint: reason,
  }),
  unplayable: (unplayable: Unplayable): Problem => {
    switch (unplayable.reason) {
      case "codec": {
        const names = unplayable.codecs.join(" and ");
        return {
          code: "codec-unsupported",
          message: `This browser can't decode ${names}, which the stream is coded in.`,
          hint: "Another browser or device may; H.264 plays nearly everywhere.",
        };
      }
      case "packaging":
        return {
          code: "nothing-playable",
          message: `The stream is packaged as ${unplayable.packagings.join(", ")}, which this player doesn't read.`,
          hint: "It plays tracks packaged as LOC.",
        };
      case "empty":
        return {
          code: "nothing-playable",
          message: "The stream has neither picture nor sound at the moment.",
          hint: "If that changes, it starts by itself.",
        };
    }
  },
} as const;
