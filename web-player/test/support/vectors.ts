/** The byte vectors that this player shares with the Rust codec; the README beside them says what is what. */

import draft18 from "../../../crates/moqt/tests/vectors/draft-18.json?raw";
import draft22 from "../../../crates/moqt/tests/vectors/draft-22.json?raw";

export interface Pair {
  readonly type: string;
  readonly name?: string;
  readonly value?: unknown;
  readonly raw_hex?: string;
}

interface Named {
  readonly name: string;
  readonly hex: string;
  /** False: allowed, but nobody here writes it so. */
  readonly canonical?: false;
}

export interface MessageVector extends Named {
  readonly type: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

export interface SubgroupVector extends Named {
  readonly header: Readonly<Record<string, unknown>>;
  readonly objects: readonly Readonly<Record<string, unknown>>[];
}

export interface DatagramVector extends Named {
  readonly padding?: true;
  readonly [field: string]: unknown;
}

export interface WrongVector extends Named {
  readonly kind: "message" | "subgroup" | "fetch" | "datagram" | "properties";
  /** The code to close the session with. */
  readonly error: string;
}

export interface Vectors {
  readonly draft: string;
  readonly integers: readonly (Named & { readonly value: string })[];
  readonly messages: readonly MessageVector[];
  readonly subgroups: readonly SubgroupVector[];
  readonly datagrams: readonly DatagramVector[];
  readonly properties: readonly (Named & { readonly properties: readonly Pair[] })[];
  readonly wrong: readonly WrongVector[];
}

export const vectors18: Vectors = JSON.parse(draft18);
export const vectors22: Vectors = JSON.parse(draft22);
