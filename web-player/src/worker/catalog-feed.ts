/** The catalog track's objects, unpacked and in order, as catalogs. */

import type { AssembledObject } from "../media/assembler";
import { type Catalog, CatalogError, CatalogReader } from "../media/catalog";
import { integerProperty, type Property } from "../moqt/properties";

const MSF_COMPRESSION = 0x78;
const Compression = { NONE: 0n, GZIP: 1n } as const;
const MAX_UNPACKED_BYTES = 1024 * 1024;

export interface CatalogFeedEvents {
  handleCatalog(catalog: Catalog): void;
  handleBroken(error: CatalogError): void;
}

export class CatalogFeed {
  readonly #events: CatalogFeedEvents;
  #reader = new CatalogReader();
  #order: Promise<void> = Promise.resolve();
  #trackCompression = Compression.NONE as bigint;

  constructor(events: CatalogFeedEvents) {
    this.#events = events;
  }

  handleTrackProperties(properties: readonly Property[]): void {
    this.#trackCompression = integerProperty(properties, MSF_COMPRESSION) ?? Compression.NONE;
  }

  handleObject({ object }: AssembledObject): void {
    const compression = integerProperty(object.properties, MSF_COMPRESSION) ?? this.#trackCompression;
    if (compression === Compression.NONE) {
      // Nothing to wait for, unless an earlier object is still being unpacked.
      this.#order = this.#order.then(() => this.#read(object.payload));
      return;
    }
    this.#order = this.#order.then(async () => {
      try {
        this.#read(await unpack(object.payload, compression));
      } catch (error) {
        this.#events.handleBroken(error instanceof CatalogError ? error : new CatalogError(String(error)));
      }
    });
  }

  #read(payload: Uint8Array): void {
    try {
      this.#events.handleCatalog(this.#reader.handleObject(payload));
    } catch (error) {
      if (!(error instanceof CatalogError)) throw error;
      // A whole catalog may follow in the next group.
      this.#reader = new CatalogReader();
      this.#events.handleBroken(error);
    }
  }
}

async function unpack(payload: Uint8Array, compression: bigint): Promise<Uint8Array> {
  if (compression !== Compression.GZIP) {
    throw new CatalogError(
      `the catalog is compressed in a way (${compression}) that this player doesn't know`,
    );
  }
  const packed = new Blob([payload as BlobPart]).stream();
  const reader = packed.pipeThrough(new DecompressionStream("gzip")).getReader();
  const chunks: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    length += value.byteLength;
    if (length > MAX_UNPACKED_BYTES) {
      await reader.cancel();
      throw new CatalogError(`the catalog unpacks to more than ${MAX_UNPACKED_BYTES} bytes`);
    }
    chunks.push(value);
  }
  return new Uint8Array(await new Blob(chunks as BlobPart[]).arrayBuffer());
}
