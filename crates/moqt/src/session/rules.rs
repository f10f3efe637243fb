//! What the draft forbids a peer, as pure checks.

use std::collections::BTreeSet;

use super::request::{Kind, Phase, RequestState, Side, Subject};
use super::{Role, Transport};
use crate::{
    AuthToken, GoAway, Namespace, ProtocolError, RequestError, RequestErrorCode, RequestId,
    Response, SessionCode, Setup,
};

/// "AUTHORITY", "PATH" and "AUTHORIZATION TOKEN" under "Setup Options".
pub(super) fn check_setup(
    setup: &Setup,
    role: Role,
    transport: Transport,
) -> Result<(), ProtocolError> {
    let allowed = role == Role::Server && transport == Transport::RawQuic;
    if let Some(path) = &setup.path {
        if !allowed {
            return Err(ProtocolError::new(SessionCode::INVALID_PATH, "PATH may not be sent here"));
        }
        if !path.is_empty() && (path[0] != b'/' || !path.iter().all(u8::is_ascii_graphic)) {
            return Err(ProtocolError::new(SessionCode::MALFORMED_PATH, "PATH is no URI path"));
        }
    }
    if let Some(authority) = &setup.authority {
        if !allowed {
            return Err(ProtocolError::new(
                SessionCode::INVALID_AUTHORITY,
                "AUTHORITY may not be sent here",
            ));
        }
        let fits = |byte: &u8| byte.is_ascii_graphic() && !b"/?#<>\"\\^`{|}".contains(byte);
        if !authority.iter().all(fits) {
            return Err(ProtocolError::new(
                SessionCode::MALFORMED_AUTHORITY,
                "AUTHORITY is no URI authority",
            ));
        }
    }
    let refers =
        |token: &AuthToken| matches!(token, AuthToken::Delete { .. } | AuthToken::UseAlias { .. });
    if role == Role::Server && setup.authorization_tokens.iter().any(refers) {
        return Err(ProtocolError::violation("SETUP refers to a token that was never registered"));
    }
    Ok(())
}

/// "GOAWAY": clients cannot send servers elsewhere, and the request ID is the receiver's own.
pub(super) fn check_goaway(goaway: &GoAway, role: Role) -> Result<(), ProtocolError> {
    if role == Role::Server && !goaway.uri.is_empty() {
        return Err(ProtocolError::violation("a client's GOAWAY names a URI"));
    }
    let ours = match role {
        Role::Client => 0,
        Role::Server => 1,
    };
    match goaway.request {
        Some(id) if id % 2 != ours => Err(ProtocolError::new(
            SessionCode::INVALID_REQUEST_ID,
            format!("GOAWAY names request {id}, which is not ours"),
        )),
        _ => Ok(()),
    }
}

/// Whether this response may come now on this request.
pub(super) fn check_response(
    state: &mut RequestState,
    response: &Response,
    role: Role,
) -> Result<(), ProtocolError> {
    use Kind as K;
    use Response as R;
    let first = state.phase == Phase::Pending;
    let ok = match (state.side, response) {
        // On our own requests the peer answers once, then whatever the kind goes on with.
        (Side::Local, R::SubscribeOk(_)) => first && state.kind == K::Subscribe,
        (Side::Local, R::FetchOk(_)) => first && state.kind == K::Fetch,
        (Side::Local, R::Ok(_)) => {
            state.updates > 0 && !first || first && !matches!(state.kind, K::Subscribe | K::Fetch)
        }
        (Side::Local, R::Error(_)) => first || state.updates > 0,
        (Side::Local, R::PublishDone(_)) => !first && state.kind == K::Subscribe,
        (Side::Local, R::Namespace(suffix)) => {
            !first && state.kind == K::SubscribeNamespace && state.namespaces.insert(suffix.clone())
        }
        (Side::Local, R::NamespaceDone(suffix)) => {
            !first && state.kind == K::SubscribeNamespace && state.namespaces.remove(suffix)
        }
        (Side::Local, R::PublishBlocked(_)) => !first && state.kind == K::SubscribeTracks,
        // On the peer's requests only a publisher has something to add.
        (Side::Peer, R::PublishDone(_)) => state.kind == K::Publish,
        (Side::Peer, R::Ok(_) | R::Error(_)) => state.updates > 0,
        (Side::Peer, _) => false,
    };
    if !ok {
        return Err(ProtocolError::violation(format!(
            "{} does not belong here in answer to {:?}",
            name(response),
            state.kind
        )));
    }
    match response {
        R::Ok(ok) if !ok.properties.is_empty() && state.kind != K::TrackStatus => {
            Err(ProtocolError::violation("REQUEST_OK carries track properties"))
        }
        R::Error(error) => check_redirect(state.kind, error, role),
        _ => Ok(()),
    }
}

fn check_redirect(kind: Kind, error: &RequestError, role: Role) -> Result<(), ProtocolError> {
    let Some(redirect) = &error.redirect else { return Ok(()) };
    if role == Role::Server && !redirect.uri.is_empty() {
        return Err(ProtocolError::violation("a client's Redirect names a URI"));
    }
    let whole = matches!(kind, Kind::PublishNamespace | Kind::SubscribeNamespace);
    if whole && !redirect.track.name().is_empty() {
        return Err(ProtocolError::violation("a Redirect of a namespace names a track"));
    }
    Ok(())
}

fn name(response: &Response) -> &'static str {
    match response {
        Response::Ok(_) => "REQUEST_OK",
        Response::Error(_) => "REQUEST_ERROR",
        Response::SubscribeOk(_) => "SUBSCRIBE_OK",
        Response::FetchOk(_) => "FETCH_OK",
        Response::PublishDone(_) => "PUBLISH_DONE",
        Response::Namespace(_) => "NAMESPACE",
        Response::NamespaceDone(_) => "NAMESPACE_DONE",
        Response::PublishBlocked(_) => "PUBLISH_BLOCKED",
    }
}

/// Why the peer's new request contradicts one it has open, or asks for what cannot be
/// ("Subscriptions", "SUBSCRIBE_NAMESPACE", "Reserved Namespaces", "Session-Level Tracks and
/// Namespaces").
pub(super) fn check_subject<'a>(
    state: &RequestState,
    mut open: impl Iterator<Item = &'a RequestState>,
) -> Option<RequestError> {
    let subject = state.subject.as_ref()?;
    let namespace = match subject {
        Subject::Track(track) => track.namespace(),
        Subject::Namespace(namespace) => namespace,
        Subject::Joining(_) => return None,
    };
    if is_reserved(namespace) {
        return Some(RequestError::new(
            RequestErrorCode::DOES_NOT_EXIST,
            "nothing exists under this reserved namespace",
        ));
    }
    let same_kind = |other: &&RequestState| other.kind == state.kind;
    match state.kind {
        Kind::Subscribe | Kind::Publish => open
            .by_ref()
            .filter(same_kind)
            .any(|other| other.subject.as_ref() == Some(subject))
            .then(|| {
                RequestError::new(
                    RequestErrorCode::DUPLICATE_SUBSCRIPTION,
                    "this session has a subscription to the track in the same role",
                )
            }),
        Kind::SubscribeNamespace | Kind::SubscribeTracks => open
            .by_ref()
            .filter(same_kind)
            .any(|other| {
                matches!(&other.subject, Some(Subject::Namespace(other)) if other.overlaps(namespace))
            })
            .then(|| {
                RequestError::new(
                    RequestErrorCode::PREFIX_OVERLAP,
                    "the prefix overlaps another of this session",
                )
            }),
        _ => None,
    }
}

fn is_reserved(namespace: &Namespace) -> bool {
    namespace.fields().first().is_some_and(|first| &first[..] == b"." || &first[..] == b".session")
}

/// Request IDs the peer has used. They come nearly in order, each on a stream of its own.
#[derive(Debug)]
pub(super) struct SeenIds {
    /// Every ID below this was used.
    next: RequestId,
    ahead: BTreeSet<RequestId>,
}

/// Most IDs that may be used ahead of one that is missing.
const MAX_AHEAD: usize = 4096;

impl SeenIds {
    pub(super) fn new(first: RequestId) -> Self {
        Self { next: first, ahead: BTreeSet::new() }
    }

    pub(super) fn smallest_unseen(&self) -> RequestId {
        self.next
    }

    pub(super) fn insert(&mut self, id: RequestId) -> Result<(), ProtocolError> {
        let invalid = |what| {
            Err(ProtocolError::new(
                SessionCode::INVALID_REQUEST_ID,
                format!("Request ID {id} {what}"),
            ))
        };
        if id % 2 != self.next % 2 {
            return invalid("has the wrong parity");
        }
        if id < self.next || !self.ahead.insert(id) {
            return invalid("was used before");
        }
        while self.ahead.remove(&self.next) {
            self.next += 2;
        }
        if self.ahead.len() > MAX_AHEAD {
            return invalid("is too far ahead of those missing");
        }
        Ok(())
    }
}
