/** What a draft has to provide. The session knows only this; `codecs` lists what we speak, best first. */

import { draft18 } from "./draft18";
import { draft22 } from "./draft22";
import type { Message, MoqtObject, ObjectDatagram, Setup, SubgroupHeader } from "./model";

/** What a unidirectional stream turns out to be. */
export type UniStreamKind = "control" | "subgroup" | "fetch" | "padding";

/** Parses one subgroup stream, however its bytes are cut. */
export interface SubgroupParser {
  /** Takes the next bytes in; throws `SessionError` when they break the draft's rules. */
  handleBytes(chunk: Uint8Array): void;
  /** Known once enough bytes came. */
  readonly header: SubgroupHeader | undefined;
  /** The next whole object. */
  pollObject(): MoqtObject | undefined;
  /** The stream ended with FIN: throws when that cuts an object. */
  handleFin(): void;
}

export interface Codec {
  /** The protocol's name in WT-Available-Protocols. */
  readonly protocol: string;
  /** The first bytes of our control stream: the stream's type, which is SETUP's, and SETUP. */
  encodeSetup(setup: Setup): Uint8Array<ArrayBuffer>;
  encodeMessage(message: Message): Uint8Array<ArrayBuffer>;
  /** `onControlStream`: GOAWAY reads differently there. */
  decodeMessage(type: bigint, payload: Uint8Array, onControlStream: boolean): Message;
  uniStreamKind(type: bigint): UniStreamKind;
  subgroupParser(): SubgroupParser;
  /** A whole stream: one object, which is all of its group. */
  encodeGroup(trackAlias: bigint, group: bigint, payload: Uint8Array): Uint8Array<ArrayBuffer>;
  /** Undefined: padding. */
  decodeDatagram(bytes: Uint8Array): ObjectDatagram | undefined;
}

/** Best first. */
export const codecs: readonly Codec[] = [draft18, draft22];

export const protocols: readonly string[] = codecs.map((codec) => codec.protocol);
