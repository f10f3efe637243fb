//! A request's state while its stream is open.

use crate::session::StreamId;
use crate::{AuthToken, FullTrackName, Namespace, Request, RequestId, Response};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Subscribe,
    Publish,
    Fetch,
    TrackStatus,
    PublishNamespace,
    SubscribeNamespace,
    SubscribeTracks,
}

impl Kind {
    pub(super) fn of(request: &Request) -> Self {
        match request {
            Request::Subscribe(_) => Self::Subscribe,
            Request::Publish(_) => Self::Publish,
            Request::Fetch(_) => Self::Fetch,
            Request::TrackStatus(_) => Self::TrackStatus,
            Request::PublishNamespace(_) => Self::PublishNamespace,
            Request::SubscribeNamespace(_) => Self::SubscribeNamespace,
            Request::SubscribeTracks(_) => Self::SubscribeTracks,
        }
    }
}

/// Who opened the request's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Local,
    Peer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Pending,
    Established,
}

/// What a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Track(FullTrackName),
    Namespace(Namespace),
    Joining(RequestId),
}

#[derive(Debug)]
pub(super) struct RequestState {
    pub(super) stream: StreamId,
    pub(super) side: Side,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    /// Kept for the peer's requests, which must not contradict each other.
    pub(super) subject: Option<Subject>,
    /// Our updates that the peer has not answered.
    pub(super) updates: usize,
    /// What the peer's data streams call the track.
    pub(super) alias_in: Option<u64>,
    pub(super) goaway_received: bool,
    /// Suffixes that NAMESPACE named and NAMESPACE_DONE did not take back.
    pub(super) namespaces: std::collections::HashSet<Namespace>,
}

impl RequestState {
    pub(super) fn new(stream: StreamId, side: Side, kind: Kind) -> Self {
        Self {
            stream,
            side,
            kind,
            phase: Phase::Pending,
            subject: None,
            updates: 0,
            alias_in: None,
            goaway_received: false,
            namespaces: Default::default(),
        }
    }

    /// Whether the peer may send REQUEST_UPDATE: on its own requests, and as the subscriber of
    /// our PUBLISH ("REQUEST_UPDATE").
    pub(super) fn peer_may_update(&self) -> bool {
        match self.side {
            Side::Peer => self.kind != Kind::TrackStatus,
            Side::Local => self.kind == Kind::Publish,
        }
    }

    /// Whether `response` answers an update of ours rather than the request.
    pub(super) fn answers_update(&self, response: &Response) -> bool {
        let answered = self.phase == Phase::Established || self.side == Side::Peer;
        answered && self.updates > 0 && matches!(response, Response::Ok(_) | Response::Error(_))
    }
}

/// The tokens a request carries.
pub(super) fn tokens_mut(request: &mut Request) -> Option<&mut Vec<AuthToken>> {
    let parameters = match request {
        Request::Subscribe(r) => &mut r.parameters,
        Request::Publish(r) => &mut r.parameters,
        Request::Fetch(r) => &mut r.parameters,
        Request::TrackStatus(r) => &mut r.parameters,
        Request::PublishNamespace(r) => &mut r.parameters,
        Request::SubscribeNamespace(r) => &mut r.parameters,
        Request::SubscribeTracks(r) => &mut r.parameters,
    };
    Some(&mut parameters.authorization_tokens)
}

/// What a request is about.
pub(super) fn subject(request: &Request) -> Option<Subject> {
    use crate::FetchRange;
    Some(match request {
        Request::Subscribe(r) => Subject::Track(r.track.clone()),
        Request::Publish(r) => Subject::Track(r.track.clone()),
        Request::TrackStatus(r) => Subject::Track(r.track.clone()),
        Request::Fetch(r) => match &r.range {
            FetchRange::Standalone { track, .. } => Subject::Track(track.clone()),
            FetchRange::RelativeJoining { joining, .. }
            | FetchRange::AbsoluteJoining { joining, .. } => Subject::Joining(*joining),
        },
        Request::PublishNamespace(r) => Subject::Namespace(r.namespace.clone()),
        Request::SubscribeNamespace(r) => Subject::Namespace(r.prefix.clone()),
        Request::SubscribeTracks(r) => Subject::Namespace(r.prefix.clone()),
    })
}
