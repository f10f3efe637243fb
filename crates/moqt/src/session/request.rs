//! A request's state while it is open.

use std::collections::{HashSet, VecDeque};

use crate::session::StreamId;
use crate::{
    FetchRange, FullTrackName, Location, Namespace, Parameters, Request, RequestError, RequestId,
    Response,
};

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

/// Who asked.
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

/// An update that is not answered.
#[derive(Debug)]
pub(super) struct PendingUpdate {
    pub(super) id: RequestId,
    /// The namespace prefix it sets, if it does.
    pub(super) prefix: Option<Namespace>,
    /// Of ours: whether the application knows nothing of it.
    pub(super) silent: bool,
    /// Of the peer's: why the session refuses it, once those before it are answered.
    pub(super) refused: Option<RequestError>,
}

#[derive(Debug)]
pub(super) struct RequestState {
    /// Its own stream; draft 16 has none for most.
    pub(super) stream: Option<StreamId>,
    pub(super) side: Side,
    pub(super) kind: Kind,
    pub(super) phase: Phase,
    pub(super) subject: Subject,
    /// Our updates that the peer has not answered, oldest first.
    pub(super) sent_updates: VecDeque<PendingUpdate>,
    /// The peer's updates that we have not answered, oldest first.
    pub(super) received_updates: VecDeque<PendingUpdate>,
    /// What the peer's data streams call the track.
    pub(super) alias_in: Option<u64>,
    /// Where a fetch begins, when the request said it.
    pub(super) start: Option<Location>,
    pub(super) goaway_received: bool,
    /// Whether the peer no longer reads, while its last words are waited for.
    pub(super) stopped: bool,
    /// Suffixes that NAMESPACE named and NAMESPACE_DONE did not take back.
    pub(super) namespaces: HashSet<Namespace>,
    /// Bytes of their fields.
    pub(super) namespace_bytes: usize,
    /// Suffixes that were taken back lately.
    pub(super) withdrawn: HashSet<Namespace>,
}

impl RequestState {
    pub(super) fn new(stream: Option<StreamId>, side: Side, request: &Request) -> Self {
        let start = match request {
            Request::Fetch(fetch) => match &fetch.range {
                FetchRange::Standalone { start, .. } => Some(*start),
                FetchRange::AbsoluteJoining { group, .. } => Some(Location::start_of(*group)),
                FetchRange::RelativeStart { .. } | FetchRange::RelativeJoining { .. } => None,
            },
            _ => None,
        };
        Self {
            stream,
            side,
            kind: Kind::of(request),
            phase: Phase::Pending,
            subject: subject(request),
            sent_updates: VecDeque::new(),
            received_updates: VecDeque::new(),
            alias_in: None,
            start,
            goaway_received: false,
            stopped: false,
            namespaces: HashSet::new(),
            namespace_bytes: 0,
            withdrawn: HashSet::new(),
        }
    }

    pub(super) fn track(&self) -> Option<&FullTrackName> {
        match &self.subject {
            Subject::Track(track) => Some(track),
            Subject::Namespace(_) | Subject::Joining(_) => None,
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

    /// Whether we may send REQUEST_UPDATE.
    pub(super) fn we_may_update(&self) -> bool {
        match self.side {
            Side::Local => self.kind != Kind::TrackStatus,
            Side::Peer => self.kind == Kind::Publish,
        }
    }

    /// Whether `response` answers an update of ours rather than the request.
    pub(super) fn answers_update(&self, response: &Response) -> bool {
        let answered = self.phase == Phase::Established || self.side == Side::Peer;
        let answer = matches!(response, Response::Ok(_) | Response::Error(_));
        answered && answer && !self.sent_updates.is_empty()
    }

    /// NAMESPACE names a suffix. Naming it again says nothing new.
    pub(super) fn add_namespace(&mut self, suffix: &Namespace) {
        let new = self.namespaces.insert(suffix.clone());
        self.namespace_bytes += if new { size(suffix) } else { 0 };
        self.withdrawn.remove(suffix);
    }

    /// NAMESPACE_DONE takes a suffix back; `false` when it was never named. Relays that lose two
    /// publishers of a namespace are known to say it twice.
    pub(super) fn remove_namespace(&mut self, suffix: &Namespace) -> bool {
        let known = self.namespaces.remove(suffix);
        if known {
            self.namespace_bytes -= size(suffix);
            if self.withdrawn.len() == MAX_WITHDRAWN {
                self.withdrawn.clear();
            }
            self.withdrawn.insert(suffix.clone());
        }
        known || self.withdrawn.contains(suffix)
    }

    /// Follows a change of the namespace prefix: suffixes are relative to the new one from here on
    /// ("Updating Namespace Subscriptions").
    pub(super) fn set_prefix(&mut self, prefix: Namespace) {
        let Subject::Namespace(old) = &self.subject else { return };
        self.namespaces = self
            .namespaces
            .iter()
            .filter_map(|suffix| old.join(suffix).ok()?.suffix(&prefix))
            .collect();
        self.namespace_bytes = self.namespaces.iter().map(size).sum();
        self.subject = Subject::Namespace(prefix);
    }
}

/// Suffixes remembered after NAMESPACE_DONE.
const MAX_WITHDRAWN: usize = 256;

fn size(namespace: &Namespace) -> usize {
    namespace.fields().iter().map(|field| field.len()).sum()
}

/// A request's parameters.
pub(super) fn parameters(request: &Request) -> &Parameters {
    match request {
        Request::Subscribe(r) => &r.parameters,
        Request::Publish(r) => &r.parameters,
        Request::Fetch(r) => &r.parameters,
        Request::TrackStatus(r) => &r.parameters,
        Request::PublishNamespace(r) => &r.parameters,
        Request::SubscribeNamespace(r) => &r.parameters,
        Request::SubscribeTracks(r) => &r.parameters,
    }
}

/// The same, to be changed.
pub(super) fn parameters_mut(request: &mut Request) -> &mut Parameters {
    match request {
        Request::Subscribe(r) => &mut r.parameters,
        Request::Publish(r) => &mut r.parameters,
        Request::Fetch(r) => &mut r.parameters,
        Request::TrackStatus(r) => &mut r.parameters,
        Request::PublishNamespace(r) => &mut r.parameters,
        Request::SubscribeNamespace(r) => &mut r.parameters,
        Request::SubscribeTracks(r) => &mut r.parameters,
    }
}

/// What a request is about.
fn subject(request: &Request) -> Subject {
    match request {
        Request::Subscribe(r) => Subject::Track(r.track.clone()),
        Request::Publish(r) => Subject::Track(r.track.clone()),
        Request::TrackStatus(r) => Subject::Track(r.track.clone()),
        Request::Fetch(r) => match &r.range {
            FetchRange::Standalone { track, .. } | FetchRange::RelativeStart { track, .. } => {
                Subject::Track(track.clone())
            }
            FetchRange::RelativeJoining { joining, .. }
            | FetchRange::AbsoluteJoining { joining, .. } => Subject::Joining(*joining),
        },
        Request::PublishNamespace(r) => Subject::Namespace(r.namespace.clone()),
        Request::SubscribeNamespace(r) => Subject::Namespace(r.prefix.clone()),
        Request::SubscribeTracks(r) => Subject::Namespace(r.prefix.clone()),
    }
}
