//! draft-ietf-moq-transport-16, where all requests share the control stream and so every message
//! names the one it belongs to. SUBSCRIBE_NAMESPACE alone has a stream of its own.

use bytes::{Bytes, BytesMut};

use super::fields::{
    MAX_URI, read_end_of_track, read_error, read_exclusive_end, read_fetch_range,
    read_publish_done, read_reason, read_setup_options, read_track_properties, setup_options,
    unknown_count, write_error, write_exclusive_end, write_fetch_range, write_publish_done,
    write_reason,
};
use super::kind::{
    CLIENT_SETUP, FETCH, FETCH_CANCEL, FETCH_OK, GOAWAY, MAX_REQUEST_ID, NAMESPACE, NAMESPACE_DONE,
    PUBLISH, PUBLISH_DONE, PUBLISH_NAMESPACE, PUBLISH_NAMESPACE_CANCEL, PUBLISH_NAMESPACE_DONE,
    PUBLISH_OK, REQUEST_ERROR, REQUEST_OK, REQUEST_UPDATE, REQUESTS_BLOCKED, SERVER_SETUP,
    SUBSCRIBE, SUBSCRIBE_NAMESPACE_16, SUBSCRIBE_OK, TRACK_STATUS, UNSUBSCRIBE,
};
use super::params::{self, Form, Row, Slot, Table};
use super::{EncodeError, deframe, finished, frame};
use crate::{
    Fetch, FetchOk, FullTrackName, GoAway, Namespace, Parameters, Properties, ProtocolError,
    Publish, PublishDone, PublishDoneCode, PublishNamespace, Reader, Request, RequestError,
    RequestErrorCode, RequestId, RequestOk, RequestUpdate, Response, Role, Setup, Subscribe,
    SubscribeOk, TrackStatus, Version, Writer,
};

const VERSION: Version = Version::Draft16;

/// A message of draft 16, with the request it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedMessage {
    /// CLIENT_SETUP or SERVER_SETUP, by who sends it.
    Setup {
        /// The sender.
        from: Role,
        /// What it says.
        setup: Setup,
        /// MAX_REQUEST_ID: the receiver's request IDs must be below this.
        max_request_id: u64,
    },
    /// GOAWAY
    GoAway(GoAway),
    /// MAX_REQUEST_ID: the receiver's request IDs must be below this.
    MaxRequestId(u64),
    /// REQUESTS_BLOCKED, at this MAX_REQUEST_ID.
    RequestsBlocked(u64),
    /// Any request but SUBSCRIBE_NAMESPACE.
    Request {
        /// Its number.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// SUBSCRIBE_NAMESPACE, first on a stream of its own.
    SubscribeNamespace {
        /// Its number.
        id: RequestId,
        /// The first fields of every namespace wanted.
        prefix: Namespace,
        /// Whether NAMESPACE is wanted, PUBLISH, or both.
        interest: Interest,
        /// Tokens and FORWARD.
        parameters: Parameters,
    },
    /// REQUEST_UPDATE
    Update {
        /// The request that changes.
        existing: RequestId,
        /// The change.
        update: RequestUpdate,
    },
    /// PUBLISH_OK
    PublishOk {
        /// The PUBLISH.
        to: RequestId,
        /// FORWARD, filter and the like.
        parameters: Parameters,
    },
    /// Any other answer to a request or update, or what follows it.
    Response {
        /// The request or update, or `None` for NAMESPACE and NAMESPACE_DONE, whose stream says
        /// it.
        to: Option<RequestId>,
        /// The answer.
        response: Response,
    },
    /// UNSUBSCRIBE
    Unsubscribe(RequestId),
    /// FETCH_CANCEL
    FetchCancel(RequestId),
    /// PUBLISH_NAMESPACE_DONE
    PublishNamespaceDone(RequestId),
    /// PUBLISH_NAMESPACE_CANCEL
    PublishNamespaceCancel {
        /// The PUBLISH_NAMESPACE.
        id: RequestId,
        /// Why.
        code: RequestErrorCode,
        /// Why, in words.
        reason: Bytes,
    },
}

/// What a SUBSCRIBE_NAMESPACE wants to hear of ("Subscribe Options").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// PUBLISH messages: what later drafts call SUBSCRIBE_TRACKS.
    Tracks,
    /// NAMESPACE messages.
    Namespaces,
    /// Both.
    Both,
}

const MESSAGES: &[u64] = &[
    REQUEST_UPDATE,
    SUBSCRIBE,
    SUBSCRIBE_OK,
    REQUEST_ERROR,
    PUBLISH_NAMESPACE,
    REQUEST_OK,
    NAMESPACE,
    PUBLISH_NAMESPACE_DONE,
    UNSUBSCRIBE,
    PUBLISH_DONE,
    PUBLISH_NAMESPACE_CANCEL,
    TRACK_STATUS,
    NAMESPACE_DONE,
    GOAWAY,
    SUBSCRIBE_NAMESPACE_16,
    MAX_REQUEST_ID,
    FETCH,
    FETCH_CANCEL,
    FETCH_OK,
    REQUESTS_BLOCKED,
    PUBLISH,
    PUBLISH_OK,
    CLIENT_SETUP,
    SERVER_SETUP,
];

static PARAMETERS: Table = Table {
    version: VERSION,
    form: Form::KeyValue,
    rows: &[
        Row {
            kind: 0x02,
            slot: Slot::ObjectDeliveryTimeout,
            allowed: &[PUBLISH_OK, SUBSCRIBE, REQUEST_UPDATE],
        },
        Row {
            kind: 0x03,
            slot: Slot::AuthorizationToken,
            allowed: &[
                PUBLISH,
                SUBSCRIBE,
                REQUEST_UPDATE,
                SUBSCRIBE_NAMESPACE_16,
                PUBLISH_NAMESPACE,
                TRACK_STATUS,
                FETCH,
            ],
        },
        Row {
            kind: 0x08,
            slot: Slot::Expires,
            allowed: &[SUBSCRIBE_OK, PUBLISH, PUBLISH_OK, REQUEST_OK],
        },
        Row {
            kind: 0x09,
            slot: Slot::LargestObject,
            allowed: &[SUBSCRIBE_OK, PUBLISH, REQUEST_OK],
        },
        Row {
            kind: 0x10,
            slot: Slot::Forward,
            allowed: &[SUBSCRIBE, REQUEST_UPDATE, PUBLISH, PUBLISH_OK, SUBSCRIBE_NAMESPACE_16],
        },
        Row {
            kind: 0x20,
            slot: Slot::SubscriberPriority,
            allowed: &[SUBSCRIBE, FETCH, REQUEST_UPDATE, PUBLISH_OK],
        },
        Row { kind: 0x21, slot: Slot::Filter, allowed: &[SUBSCRIBE, PUBLISH_OK, REQUEST_UPDATE] },
        Row { kind: 0x22, slot: Slot::GroupOrder, allowed: &[SUBSCRIBE, PUBLISH_OK, FETCH] },
        Row {
            kind: 0x32,
            slot: Slot::NewGroupRequest,
            allowed: &[PUBLISH_OK, SUBSCRIBE, REQUEST_UPDATE],
        },
    ],
    fill: &[],
};

/// Draft 18 swapped two of the codes.
fn swap(code: PublishDoneCode) -> PublishDoneCode {
    match code {
        PublishDoneCode(5) => PublishDoneCode(6),
        PublishDoneCode(6) => PublishDoneCode(5),
        other => other,
    }
}

/// Appends `message`, framed.
pub fn encode(message: &SharedMessage, buf: &mut BytesMut) -> Result<(), EncodeError> {
    let mut w = Writer::new(VERSION.int_coding());
    let kind = write(message, &mut w)?;
    frame(VERSION, kind, &w, buf)
}

fn write(message: &SharedMessage, w: &mut Writer) -> Result<u64, EncodeError> {
    Ok(match message {
        SharedMessage::Setup { from, setup, max_request_id } => {
            let options = setup_options(VERSION, setup, Some(*max_request_id));
            w.int(options.iter().count() as u64);
            options.encode(w);
            match from {
                Role::Client => CLIENT_SETUP,
                Role::Server => SERVER_SETUP,
            }
        }
        SharedMessage::GoAway(goaway) => {
            w.prefixed(&goaway.uri[..goaway.uri.len().min(MAX_URI)]);
            GOAWAY
        }
        SharedMessage::MaxRequestId(id) => only_id(*id, MAX_REQUEST_ID, w),
        SharedMessage::RequestsBlocked(id) => only_id(*id, REQUESTS_BLOCKED, w),
        SharedMessage::Unsubscribe(id) => only_id(*id, UNSUBSCRIBE, w),
        SharedMessage::FetchCancel(id) => only_id(*id, FETCH_CANCEL, w),
        SharedMessage::PublishNamespaceDone(id) => only_id(*id, PUBLISH_NAMESPACE_DONE, w),
        SharedMessage::PublishNamespaceCancel { id, code, reason } => {
            w.int(*id);
            w.int(code.0);
            write_reason(reason, w);
            PUBLISH_NAMESPACE_CANCEL
        }
        SharedMessage::Request { id, request } => {
            w.int(*id);
            write_request(request, w)?
        }
        SharedMessage::SubscribeNamespace { id, prefix, interest, parameters } => {
            w.int(*id);
            prefix.encode(w);
            w.int(match interest {
                Interest::Tracks => 0,
                Interest::Namespaces => 1,
                Interest::Both => 2,
            });
            params::encode(&PARAMETERS, SUBSCRIBE_NAMESPACE_16, parameters, w)?;
            SUBSCRIBE_NAMESPACE_16
        }
        SharedMessage::Update { existing, update } => {
            w.int(update.id);
            w.int(*existing);
            params::encode(&PARAMETERS, REQUEST_UPDATE, &update.parameters, w)?;
            REQUEST_UPDATE
        }
        SharedMessage::PublishOk { to, parameters } => {
            w.int(*to);
            params::encode(&PARAMETERS, PUBLISH_OK, parameters, w)?;
            PUBLISH_OK
        }
        SharedMessage::Response { to, response } => {
            if let Some(to) = to {
                w.int(*to);
            }
            write_response(response, w)?
        }
    })
}

fn only_id(id: u64, kind: u64, w: &mut Writer) -> u64 {
    w.int(id);
    kind
}

fn write_request(request: &Request, w: &mut Writer) -> Result<u64, EncodeError> {
    let (kind, parameters) = match request {
        Request::Subscribe(Subscribe { track, parameters }) => {
            track.encode(w);
            (SUBSCRIBE, parameters)
        }
        Request::TrackStatus(TrackStatus { track, parameters }) => {
            track.encode(w);
            (TRACK_STATUS, parameters)
        }
        Request::Publish(publish) => {
            publish.track.encode(w);
            w.int(publish.track_alias);
            (PUBLISH, &publish.parameters)
        }
        Request::Fetch(fetch) => {
            write_fetch_range(VERSION, &fetch.range, w)?;
            (FETCH, &fetch.parameters)
        }
        Request::PublishNamespace(PublishNamespace { namespace, parameters }) => {
            namespace.encode(w);
            (PUBLISH_NAMESPACE, parameters)
        }
        Request::SubscribeNamespace(_) | Request::SubscribeTracks(_) => {
            return Err(EncodeError::NotInDraft {
                version: VERSION,
                what: "SUBSCRIBE_NAMESPACE without its options",
            });
        }
    };
    params::encode(&PARAMETERS, kind, parameters, w)?;
    if let Request::Publish(publish) = request {
        publish.properties.encode(w);
    }
    Ok(kind)
}

fn write_response(response: &Response, w: &mut Writer) -> Result<u64, EncodeError> {
    Ok(match response {
        // Track properties came with draft 18.
        Response::Ok(ok) => {
            params::encode(&PARAMETERS, REQUEST_OK, &ok.parameters, w)?;
            REQUEST_OK
        }
        Response::Error(error) => {
            // So did redirects.
            let code = match error.code {
                RequestErrorCode::REDIRECT => RequestErrorCode::DOES_NOT_EXIST,
                code => code,
            };
            write_error(code, error, w);
            REQUEST_ERROR
        }
        Response::SubscribeOk(ok) => {
            w.int(ok.track_alias);
            params::encode(&PARAMETERS, SUBSCRIBE_OK, &ok.parameters, w)?;
            ok.properties.encode(w);
            SUBSCRIBE_OK
        }
        Response::FetchOk(ok) => {
            w.u8(u8::from(ok.end_of_track));
            write_exclusive_end(ok.end, w);
            params::encode(&PARAMETERS, FETCH_OK, &ok.parameters, w)?;
            ok.properties.encode(w);
            FETCH_OK
        }
        Response::PublishDone(done) => {
            write_publish_done(swap(done.code), done, unknown_count(VERSION), w);
            PUBLISH_DONE
        }
        Response::Namespace(suffix) => {
            suffix.encode(w);
            NAMESPACE
        }
        Response::NamespaceDone(suffix) => {
            suffix.encode(w);
            NAMESPACE_DONE
        }
        Response::PublishBlocked(_) => {
            return Err(EncodeError::NotInDraft { version: VERSION, what: "PUBLISH_BLOCKED" });
        }
        Response::StateNotify(_) => {
            return Err(EncodeError::NotInDraft { version: VERSION, what: "PUBLISH_STATE_NOTIFY" });
        }
    })
}

/// Whether `buf` begins like a client's control stream; `None` asks for more bytes.
pub fn begins_with_setup(buf: &[u8]) -> Option<bool> {
    VERSION.int_coding().read(buf).map(|(kind, _)| kind == CLIENT_SETUP)
}

/// Takes one message off the front of `buf`, or `None` when it is not whole yet.
pub fn decode(buf: &mut BytesMut) -> Result<Option<SharedMessage>, ProtocolError> {
    let known = |kind| MESSAGES.contains(&kind);
    let Some((kind, mut r)) = deframe(VERSION, known, buf)? else { return Ok(None) };
    let message = read(kind, &mut r)?;
    finished(kind, &r)?;
    Ok(Some(message))
}

fn read(kind: u64, r: &mut Reader) -> Result<SharedMessage, ProtocolError> {
    Ok(match kind {
        CLIENT_SETUP => read_setup(Role::Client, r)?,
        SERVER_SETUP => read_setup(Role::Server, r)?,
        GOAWAY => SharedMessage::GoAway(GoAway {
            uri: r.prefixed(MAX_URI, "New Session URI")?,
            timeout: 0,
            request: None,
        }),
        MAX_REQUEST_ID => SharedMessage::MaxRequestId(r.int("Max Request ID")?),
        REQUESTS_BLOCKED => SharedMessage::RequestsBlocked(r.int("Maximum Request ID")?),
        UNSUBSCRIBE => SharedMessage::Unsubscribe(r.int("Request ID")?),
        FETCH_CANCEL => SharedMessage::FetchCancel(r.int("Request ID")?),
        PUBLISH_NAMESPACE_DONE => SharedMessage::PublishNamespaceDone(r.int("Request ID")?),
        PUBLISH_NAMESPACE_CANCEL => SharedMessage::PublishNamespaceCancel {
            id: r.int("Request ID")?,
            code: RequestErrorCode(r.int("Error Code")?),
            reason: read_reason(r)?,
        },
        SUBSCRIBE_NAMESPACE_16 => SharedMessage::SubscribeNamespace {
            id: r.int("Request ID")?,
            prefix: Namespace::decode(r)?,
            interest: match r.int("Subscribe Options")? {
                0 => Interest::Tracks,
                1 => Interest::Namespaces,
                2 => Interest::Both,
                other => {
                    return Err(ProtocolError::violation(format!("Subscribe Options is {other}")));
                }
            },
            parameters: params::decode(&PARAMETERS, kind, r)?,
        },
        REQUEST_UPDATE => {
            let (id, existing) = (r.int("Request ID")?, r.int("Existing Request ID")?);
            let parameters = params::decode(&PARAMETERS, kind, r)?;
            SharedMessage::Update { existing, update: RequestUpdate { id, parameters } }
        }
        PUBLISH_OK => SharedMessage::PublishOk {
            to: r.int("Request ID")?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
        },
        SUBSCRIBE | TRACK_STATUS | PUBLISH | FETCH | PUBLISH_NAMESPACE => {
            SharedMessage::Request { id: r.int("Request ID")?, request: read_request(kind, r)? }
        }
        NAMESPACE => SharedMessage::Response {
            to: None,
            response: Response::Namespace(Namespace::decode(r)?),
        },
        NAMESPACE_DONE => SharedMessage::Response {
            to: None,
            response: Response::NamespaceDone(Namespace::decode(r)?),
        },
        _ => SharedMessage::Response {
            to: Some(r.int("Request ID")?),
            response: read_response(kind, r)?,
        },
    })
}

fn read_setup(from: Role, r: &mut Reader) -> Result<SharedMessage, ProtocolError> {
    let count = r.int("Number of Parameters")?;
    let coding = r.coding();
    let options = Properties::decode(r.rest(), coding)?;
    if options.iter().count() as u64 != count {
        return Err(ProtocolError::violation("SETUP does not hold as many parameters as it says"));
    }
    let (setup, max_request_id) = read_setup_options(VERSION, &options)?;
    Ok(SharedMessage::Setup { from, setup, max_request_id: max_request_id.unwrap_or(0) })
}

fn read_request(kind: u64, r: &mut Reader) -> Result<Request, ProtocolError> {
    Ok(match kind {
        SUBSCRIBE => Request::Subscribe(Subscribe {
            track: FullTrackName::decode(r)?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
        }),
        TRACK_STATUS => Request::TrackStatus(TrackStatus {
            track: FullTrackName::decode(r)?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
        }),
        PUBLISH => Request::Publish(Publish {
            track: FullTrackName::decode(r)?,
            track_alias: r.int("Track Alias")?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
            properties: read_track_properties(r)?,
        }),
        FETCH => Request::Fetch(Fetch {
            range: read_fetch_range(r)?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
        }),
        PUBLISH_NAMESPACE => Request::PublishNamespace(PublishNamespace {
            namespace: Namespace::decode(r)?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
        }),
        other => return Err(unknown(other)),
    })
}

fn read_response(kind: u64, r: &mut Reader) -> Result<Response, ProtocolError> {
    Ok(match kind {
        REQUEST_OK => Response::Ok(RequestOk {
            parameters: params::decode(&PARAMETERS, kind, r)?,
            properties: Properties::new(),
        }),
        REQUEST_ERROR => Response::Error(read_request_error(r)?),
        SUBSCRIBE_OK => Response::SubscribeOk(SubscribeOk {
            track_alias: r.int("Track Alias")?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
            properties: read_track_properties(r)?,
        }),
        FETCH_OK => Response::FetchOk(FetchOk {
            end_of_track: read_end_of_track(r)?,
            end: read_exclusive_end(r, "End Location")?,
            parameters: params::decode(&PARAMETERS, kind, r)?,
            properties: read_track_properties(r)?,
        }),
        PUBLISH_DONE => {
            let done = read_publish_done(unknown_count(VERSION), r)?;
            Response::PublishDone(PublishDone { code: swap(done.code), ..done })
        }
        other => return Err(unknown(other)),
    })
}

fn read_request_error(r: &mut Reader) -> Result<RequestError, ProtocolError> {
    let mut error = read_error(r)?;
    // Not this draft's, and it would promise a place to go to instead.
    if error.code == RequestErrorCode::REDIRECT {
        error.code = RequestErrorCode::INTERNAL_ERROR;
    }
    Ok(error)
}

fn unknown(kind: u64) -> ProtocolError {
    ProtocolError::violation(format!("unknown message type {kind:#x}"))
}
