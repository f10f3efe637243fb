//! Fields that messages of all drafts are made of.

use bytes::Bytes;

use crate::{
    AuthToken, FetchRange, FullTrackName, IntCoding, Location, Namespace, Properties,
    PropertyValue, ProtocolError, PublishBlocked, PublishDone, PublishDoneCode, Reader, Redirect,
    RequestError, RequestErrorCode, Setup, Version, Writer, property,
};

use super::EncodeError;

/// Longest reason phrase ("Reason Phrase Structure").
pub(super) const MAX_REASON: usize = 1024;
/// Longest URI ("GOAWAY").
pub(super) const MAX_URI: usize = 8192;
/// Longest value that a message can hold.
pub(super) const MAX_TEXT: usize = u16::MAX as usize;
/// Longest track name ("Track Naming").
const MAX_NAME: usize = 4096;

/// "I did not count" in drafts before 20.
const UNKNOWN_COUNT_62: u64 = (1 << 62) - 1;

/// Setup option types ("Setup Options"); the same in every draft that has them.
mod option {
    pub(super) const PATH: u64 = 0x01;
    pub(super) const MAX_REQUEST_ID: u64 = 0x02;
    pub(super) const AUTHORIZATION_TOKEN: u64 = 0x03;
    pub(super) const MAX_AUTH_TOKEN_CACHE_SIZE: u64 = 0x04;
    pub(super) const AUTHORITY: u64 = 0x05;
    pub(super) const MAX_FILTER_RANGES: u64 = 0x06;
    pub(super) const MOQT_IMPLEMENTATION: u64 = 0x07;
    pub(super) const MAX_REQUEST_UPDATES: u64 = 0x08;
    /// Ours, unregistered: the name of a relay in its tree.
    pub(super) const WEIR_NODE: u64 = 0x5745_4952_0001;
}

/// Whether a draft gives a setup option a meaning.
fn has_option(version: Version, kind: u64) -> bool {
    match kind {
        option::PATH
        | option::AUTHORIZATION_TOKEN
        | option::MAX_AUTH_TOKEN_CACHE_SIZE
        | option::AUTHORITY
        | option::MOQT_IMPLEMENTATION
        | option::WEIR_NODE => true,
        option::MAX_REQUEST_ID => version <= Version::Draft16,
        option::MAX_FILTER_RANGES | option::MAX_REQUEST_UPDATES => version >= Version::Draft22,
        _ => false,
    }
}

/// The options of a SETUP, and how many they are. `max_request_id` is draft 16's.
pub(super) fn setup_options(
    version: Version,
    setup: &Setup,
    max_request_id: Option<u64>,
) -> Properties {
    let mut options = Properties::new();
    let mut int = |kind, value: Option<u64>| {
        if let Some(value) = value.filter(|_| has_option(version, kind)) {
            options.push_int(kind, value);
        }
    };
    int(option::MAX_REQUEST_ID, max_request_id);
    int(option::MAX_AUTH_TOKEN_CACHE_SIZE, setup.max_auth_token_cache_size);
    int(option::MAX_FILTER_RANGES, setup.max_filter_ranges);
    int(option::MAX_REQUEST_UPDATES, setup.max_request_updates);
    for (kind, value) in [
        (option::PATH, &setup.path),
        (option::AUTHORITY, &setup.authority),
        (option::MOQT_IMPLEMENTATION, &setup.implementation),
        (option::WEIR_NODE, &setup.node),
    ] {
        if let Some(value) = value {
            options.push_bytes(kind, value.slice(..value.len().min(MAX_TEXT)));
        }
    }
    for token in &setup.authorization_tokens {
        let mut nested = Writer::new(version.int_coding());
        token.encode(&mut nested);
        let value = nested.finish();
        // Longer ones could not be sent anyhow: the whole message has 16 bits of length.
        options.push_bytes(option::AUTHORIZATION_TOKEN, value.slice(..value.len().min(MAX_TEXT)));
    }
    options
}

/// What a peer's options say, and draft 16's MAX_REQUEST_ID.
pub(super) fn read_setup_options(
    version: Version,
    options: &Properties,
) -> Result<(Setup, Option<u64>), ProtocolError> {
    let mut setup = Setup::default();
    let mut max_request_id = None;
    let mut previous = None;
    for (kind, value) in options.iter() {
        // "Endpoints MUST ignore unknown Setup Options", and let them be repeated.
        if !has_option(version, kind) {
            continue;
        }
        let repeated = previous.replace(kind) == Some(kind);
        if repeated && kind != option::AUTHORIZATION_TOKEN {
            return Err(ProtocolError::violation(format!("setup option {kind:#x} is repeated")));
        }
        match value {
            PropertyValue::Int(value) => {
                let field = match kind {
                    option::MAX_REQUEST_ID => &mut max_request_id,
                    option::MAX_AUTH_TOKEN_CACHE_SIZE => &mut setup.max_auth_token_cache_size,
                    option::MAX_FILTER_RANGES => &mut setup.max_filter_ranges,
                    option::MAX_REQUEST_UPDATES => &mut setup.max_request_updates,
                    _ => continue,
                };
                *field = Some(*value);
            }
            PropertyValue::Bytes(value) => {
                let field = match kind {
                    option::PATH => &mut setup.path,
                    option::AUTHORITY => &mut setup.authority,
                    option::MOQT_IMPLEMENTATION => &mut setup.implementation,
                    option::WEIR_NODE => &mut setup.node,
                    option::AUTHORIZATION_TOKEN => {
                        let reader = Reader::new(value.clone(), version.int_coding());
                        setup.authorization_tokens.push(AuthToken::decode(reader)?);
                        continue;
                    }
                    _ => continue,
                };
                *field = Some(value.clone());
            }
        }
    }
    Ok((setup, max_request_id))
}

pub(super) fn write_location(location: Location, w: &mut Writer) {
    w.int(location.group);
    w.int(location.object);
}

pub(super) fn read_location(
    r: &mut Reader,
    field: &'static str,
) -> Result<Location, ProtocolError> {
    Ok(Location { group: r.int(field)?, object: r.int(field)? })
}

/// An inclusive end as drafts before 20 write it: the last object plus 1, or 0 for the whole
/// group. The largest group a coding can write stands for "no end".
pub(super) fn write_exclusive_end(end: Location, w: &mut Writer) {
    let group = if end == Location::LAST { w.coding().max() } else { end.group };
    write_location(Location { group, object: end.object.wrapping_add(1) }, w);
}

pub(super) fn read_exclusive_end(
    r: &mut Reader,
    field: &'static str,
) -> Result<Location, ProtocolError> {
    let end = read_location(r, field)?;
    let group = if end.object == 0 && end.group == r.coding().max() { u64::MAX } else { end.group };
    Ok(Location { group, object: end.object.wrapping_sub(1) })
}

/// The ranges of a FETCH before draft 20.
pub(super) fn write_fetch_range(
    version: Version,
    range: &FetchRange,
    w: &mut Writer,
) -> Result<(), EncodeError> {
    match range {
        FetchRange::Standalone { track, start, end } => {
            w.int(1);
            track.encode(w);
            write_location(*start, w);
            write_exclusive_end(*end, w);
        }
        FetchRange::RelativeJoining { joining, groups } => {
            w.int(2);
            w.int(*joining);
            w.int(*groups);
        }
        FetchRange::AbsoluteJoining { joining, group } => {
            w.int(3);
            w.int(*joining);
            w.int(*group);
        }
        FetchRange::RelativeStart { .. } => {
            return Err(EncodeError::NotInDraft {
                version,
                what: "a fetch from a group relative to the largest",
            });
        }
    }
    Ok(())
}

pub(super) fn read_fetch_range(r: &mut Reader) -> Result<FetchRange, ProtocolError> {
    match r.int("Fetch Type")? {
        1 => Ok(FetchRange::Standalone {
            track: FullTrackName::decode(r)?,
            start: read_location(r, "Start Location")?,
            end: read_exclusive_end(r, "End Location")?,
        }),
        2 => Ok(FetchRange::RelativeJoining {
            joining: r.int("Joining Request ID")?,
            groups: r.int("Joining Start")?,
        }),
        3 => Ok(FetchRange::AbsoluteJoining {
            joining: r.int("Joining Request ID")?,
            group: r.int("Joining Start")?,
        }),
        other => Err(ProtocolError::violation(format!("unknown Fetch Type {other:#x}"))),
    }
}

/// A reason cut to what the peer must accept.
pub(super) fn write_reason(reason: &Bytes, w: &mut Writer) {
    w.prefixed(&reason[..reason.len().min(MAX_REASON)]);
}

pub(super) fn read_reason(r: &mut Reader) -> Result<Bytes, ProtocolError> {
    r.prefixed(MAX_REASON, "Error Reason")
}

/// REQUEST_ERROR without the structure that follows for a redirect.
pub(super) fn write_error(code: RequestErrorCode, error: &RequestError, w: &mut Writer) {
    w.int(code.0);
    w.int(error.retry_after.map_or(0, |ms| ms.saturating_add(1)));
    write_reason(&error.reason, w);
}

pub(super) fn read_error(r: &mut Reader) -> Result<RequestError, ProtocolError> {
    Ok(RequestError {
        code: RequestErrorCode(r.int("Error Code")?),
        retry_after: r.int("Retry Interval")?.checked_sub(1),
        reason: read_reason(r)?,
        redirect: None,
    })
}

pub(super) fn write_redirect(redirect: &Redirect, w: &mut Writer) {
    w.prefixed(&redirect.uri);
    redirect.track.encode(w);
}

pub(super) fn read_redirect(r: &mut Reader) -> Result<Redirect, ProtocolError> {
    Ok(Redirect { uri: r.prefixed(MAX_URI, "Connect URI")?, track: FullTrackName::decode(r)? })
}

/// PUBLISH_DONE's fields. `unknown` is how the draft says that streams were not counted.
pub(super) fn write_publish_done(
    code: PublishDoneCode,
    done: &PublishDone,
    unknown: u64,
    w: &mut Writer,
) {
    w.int(code.0);
    w.int(if done.stream_count == PublishDone::UNKNOWN_COUNT {
        unknown
    } else {
        done.stream_count
    });
    write_reason(&done.reason, w);
}

pub(super) fn read_publish_done(
    unknown: u64,
    r: &mut Reader,
) -> Result<PublishDone, ProtocolError> {
    let code = PublishDoneCode(r.int("Status Code")?);
    let stream_count = match r.int("Stream Count")? {
        count if count == unknown => PublishDone::UNKNOWN_COUNT,
        count => count,
    };
    Ok(PublishDone { code, stream_count, reason: read_reason(r)? })
}

/// How a draft says that streams were not counted ("PUBLISH_DONE").
pub(super) fn unknown_count(version: Version) -> u64 {
    if version >= Version::Draft22 { u64::MAX } else { UNKNOWN_COUNT_62 }
}

pub(super) fn read_end_of_track(r: &mut Reader) -> Result<bool, ProtocolError> {
    match r.u8("End Of Track")? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(ProtocolError::violation(format!("End Of Track is {other}"))),
    }
}

pub(super) fn read_publish_blocked(r: &mut Reader) -> Result<PublishBlocked, ProtocolError> {
    let (suffix, name) = (Namespace::decode(r)?, r.prefixed(MAX_NAME, "Track Name")?);
    // Checked as a whole for its length, though the prefix is not here to be counted.
    let whole = FullTrackName::new(suffix, name)?;
    Ok(PublishBlocked { suffix: whole.namespace().clone(), name: whole.name().clone() })
}

/// A track's properties, which fill the rest of the message, with the values that a draft limits
/// checked ("MOQT Properties").
pub(super) fn read_track_properties(r: &mut Reader) -> Result<Properties, ProtocolError> {
    let coding = r.coding();
    let properties = Properties::decode(r.rest(), coding)?;
    // A second instance is no better than the first.
    for (kind, value) in properties.ints() {
        let allowed = match kind {
            property::DYNAMIC_GROUPS => value <= 1,
            property::DEFAULT_PUBLISHER_GROUP_ORDER => (1..=2).contains(&value),
            // Draft 18 and later let 0 mean "none".
            property::OBJECT_DELIVERY_TIMEOUT => value != 0 || coding == IntCoding::LeadingOnes,
            _ => true,
        };
        if !allowed {
            return Err(ProtocolError::violation(format!("track property {kind:#x} is {value}")));
        }
    }
    Ok(properties)
}
