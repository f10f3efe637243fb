//! Control messages, the same for every draft ("Control Messages").
//!
//! [`crate::codec`] maps each draft's bytes to and from these.

use bytes::Bytes;

use crate::{
    AuthToken, FullTrackName, Location, Namespace, Parameters, Properties, PublishDoneCode,
    RequestErrorCode,
};

/// A request's number: even from the client, odd from the server, so unique in its session.
pub type RequestId = u64;

/// A control message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The first message on each control stream.
    Setup(Setup),
    /// The sender is about to leave.
    GoAway(GoAway),
    /// The first message of a request stream.
    Request {
        /// Its number.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// A change to the request whose stream this is.
    Update(RequestUpdate),
    /// An answer, or what follows it, on a request's stream.
    Response(Response),
}

/// What opens a request stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// SUBSCRIBE
    Subscribe(Subscribe),
    /// PUBLISH
    Publish(Publish),
    /// FETCH
    Fetch(Fetch),
    /// TRACK_STATUS
    TrackStatus(TrackStatus),
    /// PUBLISH_NAMESPACE
    PublishNamespace(PublishNamespace),
    /// SUBSCRIBE_NAMESPACE
    SubscribeNamespace(SubscribeNamespace),
    /// SUBSCRIBE_TRACKS
    SubscribeTracks(SubscribeTracks),
}

/// What comes back on a request stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// REQUEST_OK, also as PUBLISH_OK and the answer to REQUEST_UPDATE
    Ok(RequestOk),
    /// REQUEST_ERROR
    Error(RequestError),
    /// SUBSCRIBE_OK
    SubscribeOk(SubscribeOk),
    /// FETCH_OK
    FetchOk(FetchOk),
    /// PUBLISH_DONE
    PublishDone(PublishDone),
    /// NAMESPACE: this suffix is published now.
    Namespace(Namespace),
    /// NAMESPACE_DONE: this suffix is no longer published.
    NamespaceDone(Namespace),
    /// PUBLISH_BLOCKED, called PUBLISH_SKIPPED since draft 19
    PublishBlocked(PublishBlocked),
    /// PUBLISH_STATE_NOTIFY: the publisher changed these by itself.
    StateNotify(Parameters),
}

/// SETUP ("SETUP").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Setup {
    /// PATH: path and query of the URI, raw QUIC clients only.
    pub path: Option<Bytes>,
    /// AUTHORITY of the URI, raw QUIC clients only.
    pub authority: Option<Bytes>,
    /// MAX_AUTH_TOKEN_CACHE_SIZE, bytes.
    pub max_auth_token_cache_size: Option<u64>,
    /// AUTHORIZATION_TOKEN, any number of them.
    pub authorization_tokens: Vec<AuthToken>,
    /// MAX_FILTER_RANGES: how many ranges all filters of a request may have.
    pub max_filter_ranges: Option<u64>,
    /// MAX_REQUEST_UPDATES: how many updates of a request may be unanswered; 0: no limit.
    pub max_request_updates: Option<u64>,
    /// MOQT_IMPLEMENTATION: name and version of the sender's software.
    pub implementation: Option<Bytes>,
    /// Our own option: the name a relay goes by in its tree. Others ignore it.
    pub node: Option<Bytes>,
}

/// GOAWAY ("GOAWAY").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GoAway {
    /// Where to go instead; empty: here again.
    pub uri: Bytes,
    /// How long the sender will wait, milliseconds; 0: not said. Draft 16 cannot say it.
    pub timeout: u64,
    /// On draft 18's control stream: the smallest request that was not processed.
    pub request: Option<RequestId>,
}

/// SUBSCRIBE ("SUBSCRIBE").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscribe {
    /// The track.
    pub track: FullTrackName,
    /// How it is wanted.
    pub parameters: Parameters,
}

/// TRACK_STATUS ("TRACK_STATUS").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackStatus {
    /// The track.
    pub track: FullTrackName,
    /// Tokens and the like.
    pub parameters: Parameters,
}

/// SUBSCRIBE_OK ("SUBSCRIBE_OK").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOk {
    /// What data streams call the track.
    pub track_alias: u64,
    /// EXPIRES and LARGEST_OBJECT.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

/// REQUEST_UPDATE ("REQUEST_UPDATE").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestUpdate {
    /// The update's own number.
    pub id: RequestId,
    /// What changes; `None` stays as it was.
    pub parameters: Parameters,
}

/// PUBLISH ("PUBLISH").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The track.
    pub track: FullTrackName,
    /// What data streams call it.
    pub track_alias: u64,
    /// FORWARD, LARGEST_OBJECT and the like.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

/// PUBLISH_DONE ("PUBLISH_DONE").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishDone {
    /// Why.
    pub code: PublishDoneCode,
    /// Data streams opened for the subscription, or [`PublishDone::UNKNOWN_COUNT`].
    pub stream_count: u64,
    /// Why, in words.
    pub reason: Bytes,
}

impl PublishDone {
    /// The publisher did not count its streams.
    pub const UNKNOWN_COUNT: u64 = u64::MAX;
}

/// FETCH ("FETCH"). [`crate::Backfill`] is what a publisher makes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// Which objects.
    pub range: FetchRange,
    /// Priority, order and the like.
    pub parameters: Parameters,
}

/// Which objects a FETCH wants ("Fetch Handling").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FetchRange {
    /// Of any track. A `start` after `end` is refused.
    Standalone {
        /// The track.
        track: FullTrackName,
        /// First object.
        start: Location,
        /// Last object, itself included; object 2^64-1 is the end of the group, and
        /// [`Location::LAST`] the track's Largest Object.
        end: Location,
    },
    /// Of any track, from the start of a group that lies this many before the next one, to the
    /// Largest Object; 0 wants nothing that exists. Not in drafts 16 and 18.
    RelativeStart {
        /// The track.
        track: FullTrackName,
        /// How many groups before the next.
        groups: u64,
    },
    /// Up to a subscription's joining location, from this many groups before it. In drafts 16
    /// and 18 only: later ones have [`Parameters::fill`].
    RelativeJoining {
        /// The subscription.
        joining: RequestId,
        /// Groups before the joining location's.
        groups: u64,
    },
    /// Up to a subscription's joining location, from this group on. In drafts 16 and 18 only.
    AbsoluteJoining {
        /// The subscription.
        joining: RequestId,
        /// First group.
        group: u64,
    },
}

/// FETCH_OK ("FETCH_OK").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchOk {
    /// Whether `end` is the track's last object.
    pub end_of_track: bool,
    /// Last object, itself included; object 2^64-1 is the end of the group.
    pub end: Location,
    /// Parameters.
    pub parameters: Parameters,
    /// The track's properties.
    pub properties: Properties,
}

/// PUBLISH_NAMESPACE ("PUBLISH_NAMESPACE").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishNamespace {
    /// The namespace.
    pub namespace: Namespace,
    /// Tokens.
    pub parameters: Parameters,
}

/// SUBSCRIBE_NAMESPACE ("SUBSCRIBE_NAMESPACE").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeNamespace {
    /// The first fields of every namespace wanted.
    pub prefix: Namespace,
    /// Tokens.
    pub parameters: Parameters,
}

/// SUBSCRIBE_TRACKS ("SUBSCRIBE_TRACKS"; in draft 16 a SUBSCRIBE_NAMESPACE that wants PUBLISH).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeTracks {
    /// The first fields of every namespace wanted.
    pub prefix: Namespace,
    /// Tokens and FORWARD.
    pub parameters: Parameters,
}

/// PUBLISH_BLOCKED ("PUBLISH_BLOCKED"; "PUBLISH_SKIPPED" since draft 19).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishBlocked {
    /// The namespace's fields after the requested prefix.
    pub suffix: Namespace,
    /// The track in it.
    pub name: Bytes,
}

/// REQUEST_OK ("REQUEST_OK").
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOk {
    /// What the answer to this kind of request carries.
    pub parameters: Parameters,
    /// The track's properties, in answer to TRACK_STATUS only.
    pub properties: Properties,
}

/// REQUEST_ERROR ("REQUEST_ERROR").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// Why.
    pub code: RequestErrorCode,
    /// Milliseconds to wait before asking again; `None`: do not.
    pub retry_after: Option<u64>,
    /// Why, in words.
    pub reason: Bytes,
    /// Where to ask instead, with [`RequestErrorCode::REDIRECT`] only.
    pub redirect: Option<Redirect>,
}

impl RequestError {
    /// An error that is final.
    pub fn new(code: RequestErrorCode, reason: impl Into<String>) -> Self {
        Self { code, retry_after: None, reason: reason.into().into(), redirect: None }
    }

    /// The same, to be asked again after `milliseconds`.
    pub fn retry_after(mut self, milliseconds: u64) -> Self {
        self.retry_after = Some(milliseconds);
        self
    }
}

/// Where a request could succeed ("Redirect Structure").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where to connect; empty: here.
    pub uri: Bytes,
    /// What to ask for; no namespace and no name: the same.
    pub track: FullTrackName,
}
