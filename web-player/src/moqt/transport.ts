/** What a session needs of its transport. A `WebTransport` is one; tests bring their own. */

export interface Transport {
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Uint8Array>>;
  readonly incomingBidirectionalStreams: ReadableStream<BidirectionalStream>;
  readonly datagrams: { readonly readable: ReadableStream<Uint8Array> };
  readonly closed: Promise<CloseInfo>;
  createUnidirectionalStream(): Promise<WritableStream<Uint8Array>>;
  createBidirectionalStream(): Promise<BidirectionalStream>;
  close(info: CloseInfo): void;
}

export interface BidirectionalStream {
  readonly readable: ReadableStream<Uint8Array>;
  readonly writable: WritableStream<Uint8Array>;
}

export interface CloseInfo {
  readonly closeCode?: number;
  readonly reason?: string;
}
