//! Message types ("Control Messages"). A type means the same wherever a draft has it.

pub(super) const REQUEST_UPDATE: u64 = 0x2;
pub(super) const SUBSCRIBE: u64 = 0x3;
pub(super) const SUBSCRIBE_OK: u64 = 0x4;
pub(super) const REQUEST_ERROR: u64 = 0x5;
pub(super) const PUBLISH_NAMESPACE: u64 = 0x6;
pub(super) const REQUEST_OK: u64 = 0x7;
pub(super) const NAMESPACE: u64 = 0x8;
pub(super) const PUBLISH_NAMESPACE_DONE: u64 = 0x9;
pub(super) const UNSUBSCRIBE: u64 = 0xa;
pub(super) const PUBLISH_DONE: u64 = 0xb;
pub(super) const PUBLISH_NAMESPACE_CANCEL: u64 = 0xc;
pub(super) const TRACK_STATUS: u64 = 0xd;
pub(super) const NAMESPACE_DONE: u64 = 0xe;
pub(super) const PUBLISH_BLOCKED: u64 = 0xf;
pub(super) const GOAWAY: u64 = 0x10;
/// SUBSCRIBE_NAMESPACE of draft 16, which has options the later one lacks.
pub(super) const SUBSCRIBE_NAMESPACE_16: u64 = 0x11;
pub(super) const MAX_REQUEST_ID: u64 = 0x15;
pub(super) const FETCH: u64 = 0x16;
pub(super) const FETCH_CANCEL: u64 = 0x17;
pub(super) const FETCH_OK: u64 = 0x18;
pub(super) const REQUESTS_BLOCKED: u64 = 0x1a;
pub(super) const PUBLISH: u64 = 0x1d;
pub(super) const PUBLISH_OK: u64 = 0x1e;
pub(super) const CLIENT_SETUP: u64 = 0x20;
pub(super) const SERVER_SETUP: u64 = 0x21;
pub(super) const PUBLISH_STATE_NOTIFY: u64 = 0x22;
pub(super) const SUBSCRIBE_NAMESPACE: u64 = 0x50;
pub(super) const SUBSCRIBE_TRACKS: u64 = 0x51;
pub(super) const SETUP: u64 = 0x2f00;
