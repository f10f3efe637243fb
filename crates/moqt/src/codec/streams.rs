//! The messages of drafts with a stream per request: 17 and later ("Control Messages").

use super::fields::{
    MAX_URI, read_end_of_track, read_error, read_exclusive_end, read_fetch_range, read_location,
    read_publish_blocked, read_publish_done, read_redirect, read_setup_options,
    read_track_properties, setup_options, unknown_count, write_error, write_exclusive_end,
    write_fetch_range, write_location, write_publish_done, write_redirect,
};
use super::params::{self, Table};
use super::{EncodeError, kind};
use crate::{
    Fetch, FetchOk, FetchRange, FullTrackName, GoAway, Location, LocationFilter, Message,
    Namespace, Parameters, Properties, ProtocolError, Publish, PublishBlocked, PublishNamespace,
    Reader, Request, RequestErrorCode, RequestOk, RequestUpdate, Response, Subscribe,
    SubscribeNamespace, SubscribeOk, SubscribeTracks, TrackStatus, Version, Writer,
};

/// What one of these drafts has of its own.
#[derive(Debug)]
pub(super) struct Dialect {
    pub(super) version: Version,
    pub(super) messages: &'static [u64],
    pub(super) parameters: Table,
    /// Whether GOAWAY on the control stream names the first request that was not processed.
    pub(super) goaway_names_request: bool,
    /// Whether FETCH says its range in LOCATION_FILTER, and ends are included in ranges.
    pub(super) fetch_by_filter: bool,
}

impl Dialect {
    /// Whether the draft has a message of this type.
    pub(super) fn has_message(&self, kind: u64) -> bool {
        self.messages.contains(&kind)
    }

    fn write_parameters(
        &self,
        message: u64,
        p: &Parameters,
        w: &mut Writer,
    ) -> Result<(), EncodeError> {
        params::encode(&self.parameters, message, p, w)
    }

    fn read_parameters(&self, message: u64, r: &mut Reader) -> Result<Parameters, ProtocolError> {
        params::decode(&self.parameters, message, r)
    }

    /// The last location of a range, as FETCH_OK writes it.
    fn write_end(&self, end: Location, w: &mut Writer) {
        if self.fetch_by_filter { write_location(end, w) } else { write_exclusive_end(end, w) }
    }

    fn read_end(&self, r: &mut Reader) -> Result<Location, ProtocolError> {
        let read = if self.fetch_by_filter { read_location } else { read_exclusive_end };
        read(r, "End Location")
    }
}

/// Writes the payload and returns the message type.
pub(super) fn encode(d: &Dialect, message: &Message, w: &mut Writer) -> Result<u64, EncodeError> {
    match message {
        Message::Setup(setup) => {
            setup_options(d.version, setup, None).encode(w);
            Ok(kind::SETUP)
        }
        Message::GoAway(goaway) => {
            w.prefixed(&goaway.uri[..goaway.uri.len().min(MAX_URI)]);
            w.int(goaway.timeout);
            if let Some(request) = goaway.request.filter(|_| d.goaway_names_request) {
                w.int(request);
            }
            Ok(kind::GOAWAY)
        }
        Message::Request { id, request } => {
            w.int(*id);
            encode_request(d, request, w)
        }
        Message::Update(update) => {
            w.int(update.id);
            d.write_parameters(kind::REQUEST_UPDATE, &update.parameters, w)?;
            Ok(kind::REQUEST_UPDATE)
        }
        Message::Response(response) => encode_response(d, response, w),
    }
}

fn encode_request(d: &Dialect, request: &Request, w: &mut Writer) -> Result<u64, EncodeError> {
    let (kind, parameters) = match request {
        Request::Subscribe(Subscribe { track, parameters }) => {
            track.encode(w);
            (kind::SUBSCRIBE, parameters)
        }
        Request::TrackStatus(TrackStatus { track, parameters }) => {
            track.encode(w);
            (kind::TRACK_STATUS, parameters)
        }
        Request::Publish(publish) => {
            publish.track.encode(w);
            w.int(publish.track_alias);
            (kind::PUBLISH, &publish.parameters)
        }
        Request::Fetch(fetch) if d.fetch_by_filter => return encode_fetch(d, fetch, w),
        Request::Fetch(fetch) => {
            write_fetch_range(d.version, &fetch.range, w)?;
            (kind::FETCH, &fetch.parameters)
        }
        Request::PublishNamespace(PublishNamespace { namespace, parameters }) => {
            namespace.encode(w);
            (kind::PUBLISH_NAMESPACE, parameters)
        }
        Request::SubscribeNamespace(SubscribeNamespace { prefix, parameters }) => {
            prefix.encode(w);
            (kind::SUBSCRIBE_NAMESPACE, parameters)
        }
        Request::SubscribeTracks(SubscribeTracks { prefix, parameters }) => {
            prefix.encode(w);
            (kind::SUBSCRIBE_TRACKS, parameters)
        }
    };
    d.write_parameters(kind, parameters, w)?;
    if let Request::Publish(publish) = request {
        publish.properties.encode(w);
    }
    Ok(kind)
}

/// FETCH whose range is a LOCATION_FILTER.
fn encode_fetch(d: &Dialect, fetch: &Fetch, w: &mut Writer) -> Result<u64, EncodeError> {
    let (track, filter) = match &fetch.range {
        FetchRange::Standalone { track, start, end } => {
            let (start, end) = (*start, *end);
            let filter = match end {
                Location::LAST if start == Location::FIRST => None,
                Location::LAST => Some(LocationFilter::AbsoluteStart { start }),
                Location { group, object: u64::MAX } => {
                    Some(LocationFilter::AbsoluteRange { start, end_group: group })
                }
                end => Some(LocationFilter::ObjectRange { start, end }),
            };
            (track, filter)
        }
        FetchRange::RelativeStart { track, groups } => {
            let filter = match std::num::NonZeroU64::new(*groups) {
                Some(groups) => LocationFilter::RelativeStart { groups },
                None => LocationFilter::NextGroupStart,
            };
            (track, Some(filter))
        }
        FetchRange::RelativeJoining { .. } | FetchRange::AbsoluteJoining { .. } => {
            return Err(EncodeError::NotInDraft {
                version: d.version,
                what: "a joining fetch: a fill takes its place",
            });
        }
    };
    track.encode(w);
    let mut parameters = fetch.parameters.clone();
    parameters.set_locations(filter);
    d.write_parameters(kind::FETCH, &parameters, w)?;
    Ok(kind::FETCH)
}

fn encode_response(d: &Dialect, response: &Response, w: &mut Writer) -> Result<u64, EncodeError> {
    Ok(match response {
        Response::Ok(ok) => {
            d.write_parameters(kind::REQUEST_OK, &ok.parameters, w)?;
            ok.properties.encode(w);
            kind::REQUEST_OK
        }
        Response::Error(error) => {
            let redirect =
                error.redirect.as_ref().filter(|_| error.code == RequestErrorCode::REDIRECT);
            // The structure must follow that code, so without one it is another error.
            let code = match redirect {
                None if error.code == RequestErrorCode::REDIRECT => {
                    RequestErrorCode::DOES_NOT_EXIST
                }
                _ => error.code,
            };
            write_error(code, error, w);
            if let Some(redirect) = redirect {
                write_redirect(redirect, w);
            }
            kind::REQUEST_ERROR
        }
        Response::SubscribeOk(ok) => {
            w.int(ok.track_alias);
            d.write_parameters(kind::SUBSCRIBE_OK, &ok.parameters, w)?;
            ok.properties.encode(w);
            kind::SUBSCRIBE_OK
        }
        Response::FetchOk(ok) => {
            w.u8(u8::from(ok.end_of_track));
            d.write_end(ok.end, w);
            d.write_parameters(kind::FETCH_OK, &ok.parameters, w)?;
            ok.properties.encode(w);
            kind::FETCH_OK
        }
        Response::PublishDone(done) => {
            write_publish_done(done.code, done, unknown_count(d.version), w);
            kind::PUBLISH_DONE
        }
        Response::Namespace(suffix) => {
            suffix.encode(w);
            kind::NAMESPACE
        }
        Response::NamespaceDone(suffix) => {
            suffix.encode(w);
            kind::NAMESPACE_DONE
        }
        Response::PublishBlocked(PublishBlocked { suffix, name }) => {
            suffix.encode(w);
            w.prefixed(name);
            kind::PUBLISH_BLOCKED
        }
        Response::StateNotify(parameters) if d.has_message(kind::PUBLISH_STATE_NOTIFY) => {
            d.write_parameters(kind::PUBLISH_STATE_NOTIFY, parameters, w)?;
            kind::PUBLISH_STATE_NOTIFY
        }
        Response::StateNotify(_) => {
            return Err(EncodeError::NotInDraft {
                version: d.version,
                what: "PUBLISH_STATE_NOTIFY",
            });
        }
    })
}

/// Reads the payload of a message of type `message`.
pub(super) fn decode(d: &Dialect, message: u64, r: &mut Reader) -> Result<Message, ProtocolError> {
    Ok(match message {
        kind::SETUP => {
            let coding = r.coding();
            let options = Properties::decode(r.rest(), coding)?;
            Message::Setup(read_setup_options(d.version, &options)?.0)
        }
        kind::GOAWAY => Message::GoAway(GoAway {
            uri: r.prefixed(MAX_URI, "New Session URI")?,
            timeout: r.int("Timeout")?,
            request: match d.goaway_names_request && !r.is_empty() {
                true => Some(r.int("Request ID")?),
                false => None,
            },
        }),
        kind::REQUEST_UPDATE => Message::Update(RequestUpdate {
            id: r.int("Request ID")?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::SUBSCRIBE
        | kind::TRACK_STATUS
        | kind::PUBLISH
        | kind::FETCH
        | kind::PUBLISH_NAMESPACE
        | kind::SUBSCRIBE_NAMESPACE
        | kind::SUBSCRIBE_TRACKS => {
            let id = r.int("Request ID")?;
            Message::Request { id, request: decode_request(d, message, r)? }
        }
        _ => Message::Response(decode_response(d, message, r)?),
    })
}

fn decode_request(d: &Dialect, message: u64, r: &mut Reader) -> Result<Request, ProtocolError> {
    Ok(match message {
        kind::SUBSCRIBE => Request::Subscribe(Subscribe {
            track: FullTrackName::decode(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::TRACK_STATUS => Request::TrackStatus(TrackStatus {
            track: FullTrackName::decode(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::PUBLISH => Request::Publish(Publish {
            track: FullTrackName::decode(r)?,
            track_alias: r.int("Track Alias")?,
            parameters: d.read_parameters(message, r)?,
            properties: read_track_properties(r)?,
        }),
        kind::FETCH if d.fetch_by_filter => decode_fetch(d, r)?,
        kind::FETCH => Request::Fetch(Fetch {
            range: read_fetch_range(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::PUBLISH_NAMESPACE => Request::PublishNamespace(PublishNamespace {
            namespace: Namespace::decode(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::SUBSCRIBE_NAMESPACE => Request::SubscribeNamespace(SubscribeNamespace {
            prefix: Namespace::decode(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        kind::SUBSCRIBE_TRACKS => Request::SubscribeTracks(SubscribeTracks {
            prefix: Namespace::decode(r)?,
            parameters: d.read_parameters(message, r)?,
        }),
        other => return Err(unknown(other)),
    })
}

fn decode_fetch(d: &Dialect, r: &mut Reader) -> Result<Request, ProtocolError> {
    let track = FullTrackName::decode(r)?;
    let mut parameters = d.read_parameters(kind::FETCH, r)?;
    let filter = parameters.locations();
    parameters.set_locations(None);
    let range = match filter.unwrap_or(LocationFilter::Unfiltered) {
        // Nothing after the largest object exists, so these two want the same: nothing.
        LocationFilter::NextGroupStart | LocationFilter::LargestObject => {
            FetchRange::RelativeStart { track, groups: 0 }
        }
        LocationFilter::RelativeStart { groups } => {
            FetchRange::RelativeStart { track, groups: groups.get() }
        }
        absolute => {
            let range = absolute.range(None);
            FetchRange::Standalone { track, start: range.start, end: range.end }
        }
    };
    Ok(Request::Fetch(Fetch { range, parameters }))
}

fn decode_response(d: &Dialect, message: u64, r: &mut Reader) -> Result<Response, ProtocolError> {
    Ok(match message {
        // Draft 18 still lists PUBLISH_OK's own type, "PUBLISH_OK (REQUEST_OK)".
        kind::REQUEST_OK | kind::PUBLISH_OK => Response::Ok(RequestOk {
            parameters: d.read_parameters(kind::REQUEST_OK, r)?,
            properties: read_track_properties(r)?,
        }),
        kind::REQUEST_ERROR => {
            let mut error = read_error(r)?;
            if error.code == RequestErrorCode::REDIRECT {
                error.redirect = Some(read_redirect(r)?);
            }
            Response::Error(error)
        }
        kind::SUBSCRIBE_OK => Response::SubscribeOk(SubscribeOk {
            track_alias: r.int("Track Alias")?,
            parameters: d.read_parameters(message, r)?,
            properties: read_track_properties(r)?,
        }),
        kind::FETCH_OK => Response::FetchOk(FetchOk {
            end_of_track: read_end_of_track(r)?,
            end: d.read_end(r)?,
            parameters: d.read_parameters(message, r)?,
            properties: read_track_properties(r)?,
        }),
        kind::PUBLISH_DONE => {
            Response::PublishDone(read_publish_done(unknown_count(d.version), r)?)
        }
        kind::NAMESPACE => Response::Namespace(Namespace::decode(r)?),
        kind::NAMESPACE_DONE => Response::NamespaceDone(Namespace::decode(r)?),
        kind::PUBLISH_BLOCKED => Response::PublishBlocked(read_publish_blocked(r)?),
        kind::PUBLISH_STATE_NOTIFY => Response::StateNotify(d.read_parameters(message, r)?),
        other => return Err(unknown(other)),
    })
}

fn unknown(kind: u64) -> ProtocolError {
    ProtocolError::violation(format!("unknown message type {kind:#x}"))
}
