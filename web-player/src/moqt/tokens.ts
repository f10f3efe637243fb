/** Authorization tokens as they travel ("AUTHORIZATION TOKEN Parameter"). */

import { ByteReader, ByteWriter, EndOfBytes } from "./bytes";
import { SessionCode, SessionError } from "./errors";

/** A token, or what becomes of one that was registered under an alias. */
export type AuthToken =
  | { readonly kind: "delete"; readonly alias: bigint }
  | {
      readonly kind: "register";
      readonly alias: bigint;
      readonly type: bigint;
      readonly value: Uint8Array;
    }
  | { readonly kind: "use-alias"; readonly alias: bigint }
  | { readonly kind: "use-value"; readonly type: bigint; readonly value: Uint8Array };

const AliasType = { DELETE: 0n, REGISTER: 1n, USE_ALIAS: 2n, USE_VALUE: 3n } as const;

export function readToken(bytes: Uint8Array): AuthToken {
  const input = new ByteReader(bytes);
  try {
    const token = readFields(input);
    if (input.remaining > 0) throw malformed("has bytes after its last field");
    return token;
  } catch (error) {
    if (error instanceof EndOfBytes) throw malformed("is cut off");
    throw error;
  }
}

function readFields(input: ByteReader): AuthToken {
  const aliasType = input.u64();
  switch (aliasType) {
    case AliasType.DELETE:
      return { kind: "delete", alias: input.u64() };
    case AliasType.REGISTER:
      return { kind: "register", alias: input.u64(), type: input.u64(), value: input.rest() };
    case AliasType.USE_ALIAS:
      return { kind: "use-alias", alias: input.u64() };
    case AliasType.USE_VALUE:
      return { kind: "use-value", type: input.u64(), value: input.rest() };
    default:
      throw malformed(`has the unknown Alias Type ${aliasType}`);
  }
}

export function writeToken(token: AuthToken): Uint8Array<ArrayBuffer> {
  const out = new ByteWriter();
  switch (token.kind) {
    case "delete":
      out.vi64(AliasType.DELETE).vi64(token.alias);
      break;
    case "register":
      out.vi64(AliasType.REGISTER).vi64(token.alias).vi64(token.type).bytes(token.value);
      break;
    case "use-alias":
      out.vi64(AliasType.USE_ALIAS).vi64(token.alias);
      break;
    case "use-value":
      out.vi64(AliasType.USE_VALUE).vi64(token.type).bytes(token.value);
      break;
  }
  return out.finish();
}

function malformed(what: string): SessionError {
  return new SessionError(SessionCode.KEY_VALUE_FORMATTING_ERROR, `an authorization token ${what}`);
}
