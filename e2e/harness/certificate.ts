/** Certificates: for relays that make none themselves, and expired ones, which no tool likes to make. */

import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Scope } from "./scope.ts";

const DAY_MS = 86_400_000;

/** A DER element: tag, length, contents. */
function der(tag: number, ...contents: Uint8Array[]): Buffer {
  const body = Buffer.concat(contents);
  const { length: all } = body;
  // In no more bytes than it needs, or it is no DER.
  const length = all < 128 ? [all] : all < 256 ? [0x81, all] : [0x82, all >> 8, all & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
}

const sequence = (...contents: Uint8Array[]) => der(0x30, ...contents);
const oid = (hex: string) => der(0x06, Buffer.from(hex, "hex"));
const utcTime = (date: Date) =>
  der(0x17, Buffer.from(`${date.toISOString().slice(2, 19).replace(/[-T:]/g, "")}Z`));

const ECDSA_WITH_SHA256 = sequence(oid("2a8648ce3d040302"));
const LOCALHOST = Buffer.from("localhost");
const COMMON_NAME = sequence(der(0x31, sequence(oid("550403"), der(0x0c, LOCALHOST))));
const ALTERNATIVE_NAMES = sequence(
  oid("551d11"),
  der(0x04, sequence(der(0x82, LOCALHOST), der(0x87, Buffer.from([127, 0, 0, 1])))),
);

export interface CertificateFiles {
  certificate: string;
  key: string;
  /** SHA-256 of the certificate, hex. */
  hash: string;
}

/** A self-signed ECDSA P-256 certificate for this machine that ended a day ago. */
export function makeExpiredCertificate(scope: Scope): CertificateFiles {
  return makeCertificate(scope, "expired", -8, -1);
}

/** The same, good for no longer than browsers take one by its hash. */
export function makeFreshCertificate(scope: Scope): CertificateFiles {
  return makeCertificate(scope, "fresh", -1, 9);
}

/** Valid from one day to another, both counted from now. */
function makeCertificate(scope: Scope, name: string, from: number, to: number): CertificateFiles {
  const { publicKey, privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const now = Date.now();
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, Buffer.from([1])),
    ECDSA_WITH_SHA256,
    COMMON_NAME,
    sequence(utcTime(new Date(now + from * DAY_MS)), utcTime(new Date(now + to * DAY_MS))),
    COMMON_NAME,
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(ALTERNATIVE_NAMES)),
  );
  const signature = sign("sha256", body, privateKey);
  const whole = sequence(body, ECDSA_WITH_SHA256, der(0x03, Buffer.from([0]), signature));

  const directory = scope.directory();
  const files = {
    certificate: join(directory, `${name}.pem`),
    key: join(directory, `${name}.key`),
    hash: createHash("sha256").update(whole).digest("hex"),
  };
  const base64 = whole.toString("base64").replace(/.{64}(?=.)/g, "$&\n");
  writeFileSync(files.certificate, `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`);
  writeFileSync(files.key, privateKey.export({ type: "pkcs8", format: "pem" }));
  return files;
}
