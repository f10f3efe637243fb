//! What the draft forbids a peer, as pure checks.

use std::collections::BTreeSet;

use super::request::{Kind, Phase, RequestState, Side, Subject};
use super::{Config, Role, Transport};
use crate::{
    AuthToken, FetchRange, GoAway, Namespace, Parameters, Properties, ProtocolError, Request,
    RequestError, RequestErrorCode, RequestId, RequestOk, Response, SessionCode, Setup, Version,
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

/// Whether the draft has a message for `response`. Those that only inform are not missed.
pub(super) fn informs(version: Version, response: &Response) -> bool {
    match response {
        Response::StateNotify(_) => version >= Version::Draft22,
        Response::PublishBlocked(_) => version >= Version::Draft18,
        _ => true,
    }
}

/// What of a PUBLISH_OK's parameters the draft lets it say, and what an update must say instead.
pub(super) fn split_publish_ok(version: Version, ok: RequestOk) -> (Response, Option<Parameters>) {
    if version < Version::Draft22 {
        return (Response::Ok(ok), None);
    }
    let RequestOk { parameters, properties } = ok;
    let expires = parameters.expires;
    let rest = Parameters { expires: None, group_order: None, ..parameters };
    let own = RequestOk { parameters: Parameters { expires, ..Parameters::default() }, properties };
    (Response::Ok(own), (rest != Parameters::default()).then_some(rest))
}

/// Whether this response may come now on this request.
pub(super) fn check_response(
    version: Version,
    state: &mut RequestState,
    response: &Response,
    role: Role,
    for_update: bool,
) -> Result<(), ProtocolError> {
    use Kind as K;
    use Response as R;
    let first = state.phase == Phase::Pending;
    let publisher = state.side == Side::Local && state.kind == K::Subscribe
        || state.side == Side::Peer && state.kind == K::Publish;
    let ok = match (state.side, response) {
        (_, R::Ok(_) | R::Error(_)) if for_update => !state.sent_updates.is_empty(),
        (_, R::PublishDone(_)) => publisher && (!first || state.side == Side::Peer),
        (_, R::StateNotify(_)) => publisher && !first,
        // On our own requests the peer answers once, then whatever the kind goes on with.
        (Side::Local, R::SubscribeOk(_)) => first && state.kind == K::Subscribe,
        (Side::Local, R::FetchOk(_)) => first && state.kind == K::Fetch,
        (Side::Local, R::Ok(_)) => first && !matches!(state.kind, K::Subscribe | K::Fetch),
        (Side::Local, R::Error(_)) => first,
        (Side::Local, R::Namespace(suffix)) => {
            let ok = !first && state.kind == K::SubscribeNamespace;
            if ok {
                state.add_namespace(suffix);
            }
            ok
        }
        (Side::Local, R::NamespaceDone(suffix)) => {
            !first && state.kind == K::SubscribeNamespace && state.remove_namespace(suffix)
        }
        (Side::Local, R::PublishBlocked(_)) => !first && state.kind == K::SubscribeTracks,
        // On the peer's requests only a publisher has something to add.
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
        R::Ok(ok) => check_ok(version, state.kind, for_update, ok),
        R::Error(error) => check_redirect(version, state.kind, error, role),
        R::FetchOk(ok) if state.start.is_some_and(|start| ok.end < start) => {
            Err(ProtocolError::violation("FETCH_OK ends before the fetch starts"))
        }
        _ => Ok(()),
    }
}

/// What REQUEST_OK may carry, by what it answers ("REQUEST_OK").
fn check_ok(
    version: Version,
    kind: Kind,
    for_update: bool,
    ok: &RequestOk,
) -> Result<(), ProtocolError> {
    let status = kind == Kind::TrackStatus && !for_update;
    if !ok.properties.is_empty() && !status {
        return Err(ProtocolError::violation("REQUEST_OK carries track properties"));
    }
    let p = &ok.parameters;
    let (expires, largest_object) = (p.expires, p.largest_object);
    let allowed = match kind {
        // "If it appears in some other type of message, it MUST be ignored."
        _ if version <= Version::Draft16 => return Ok(()),
        _ if for_update || status => {
            Parameters { expires, largest_object, ..Parameters::default() }
        }
        Kind::Publish if version < Version::Draft22 => {
            Parameters { largest_object: None, ..p.clone() }
        }
        _ if version < Version::Draft22 => Parameters::default(),
        _ => Parameters { expires, ..Parameters::default() },
    };
    match *p == allowed {
        true => Ok(()),
        false => {
            Err(ProtocolError::violation("REQUEST_OK carries a parameter it may not have here"))
        }
    }
}

/// What REQUEST_UPDATE may carry, by what it changes ("REQUEST_UPDATE").
pub(super) fn check_update(
    version: Version,
    state: &RequestState,
    p: &Parameters,
) -> Result<(), ProtocolError> {
    let tokens = Parameters {
        authorization_tokens: p.authorization_tokens.clone(),
        ..Parameters::default()
    };
    let track_filter =
        |filter: &crate::RangeFilter| matches!(filter.field(), crate::RangeField::TrackProperty(_));
    let allowed = match state.kind {
        Kind::Subscribe | Kind::Publish => Parameters {
            track_namespace_prefix: None,
            range_filters: match (state.side, state.kind) {
                // "Range Filters are only allowed from the subscriber".
                (Side::Peer, Kind::Publish) => Vec::new(),
                _ => p.range_filters.iter().filter(|f| !track_filter(f)).cloned().collect(),
            },
            ..p.clone()
        },
        Kind::Fetch => Parameters { subscriber_priority: p.subscriber_priority, ..tokens },
        Kind::PublishNamespace | Kind::TrackStatus => tokens,
        Kind::SubscribeNamespace => {
            Parameters { track_namespace_prefix: p.track_namespace_prefix.clone(), ..tokens }
        }
        Kind::SubscribeTracks => Parameters {
            track_namespace_prefix: p.track_namespace_prefix.clone(),
            forward: p.forward.filter(|_| version != Version::Draft18),
            range_filters: p.range_filters.iter().filter(|f| track_filter(f)).cloned().collect(),
            invalid_filter: p.invalid_filter,
            ..tokens
        },
    };
    match *p == allowed {
        true => Ok(()),
        false => Err(ProtocolError::violation(format!(
            "REQUEST_UPDATE carries a parameter it may not have for {:?}",
            state.kind
        ))),
    }
}

fn check_redirect(
    version: Version,
    kind: Kind,
    error: &RequestError,
    role: Role,
) -> Result<(), ProtocolError> {
    let Some(redirect) = &error.redirect else { return Ok(()) };
    if role == Role::Server && !redirect.uri.is_empty() {
        return Err(ProtocolError::violation("a client's Redirect names a URI"));
    }
    let whole = match kind {
        Kind::PublishNamespace | Kind::SubscribeNamespace => true,
        Kind::SubscribeTracks => version >= Version::Draft22,
        _ => false,
    };
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
        Response::StateNotify(_) => "PUBLISH_STATE_NOTIFY",
    }
}

/// "Range Filters", "MAX FILTER RANGES": filters that cannot be meant, or too many ranges.
pub(super) fn check_filters(config: &Config, p: &Parameters) -> Option<RequestError> {
    if let Some(invalid) = p.invalid_filter {
        return Some(RequestError::new(RequestErrorCode::INVALID_FILTER, invalid.to_string()));
    }
    let max = config.setup.max_filter_ranges.unwrap_or(0);
    let fill = p.fill.iter().flat_map(|fill| &fill.range_filters);
    let ranges: u64 = p.range_filters.iter().chain(fill).map(|filter| filter.range_count()).sum();
    (ranges > max).then(|| {
        let reason = format!("filters have {ranges} ranges, at most {max} are taken");
        RequestError::new(RequestErrorCode::INVALID_FILTER, reason)
    })
}

/// "End Location MUST specify the same or a larger Location than Start Location".
pub(super) fn check_range(request: &Request) -> Option<RequestError> {
    let Request::Fetch(fetch) = request else { return None };
    match &fetch.range {
        FetchRange::Standalone { start, end, .. } if end < start => Some(RequestError::new(
            RequestErrorCode::INVALID_RANGE,
            format!("the range ends at {end}, before it starts at {start}"),
        )),
        _ => None,
    }
}

/// "Mandatory Track Properties", of which we understand none: the track may not be handled.
pub(super) fn check_mandatory(version: Version, request: &Request) -> Option<RequestError> {
    match request {
        Request::Publish(publish) => mandatory(version, &publish.properties),
        _ => None,
    }
}

/// The same for an answer that begins a subscription or fetch.
pub(super) fn unsupported(version: Version, response: &Response) -> Option<RequestError> {
    match response {
        Response::SubscribeOk(ok) => mandatory(version, &ok.properties),
        Response::FetchOk(ok) => mandatory(version, &ok.properties),
        _ => None,
    }
}

fn mandatory(version: Version, properties: &Properties) -> Option<RequestError> {
    let kind = properties.mandatory().filter(|_| version >= Version::Draft18)?;
    Some(RequestError::new(
        RequestErrorCode::UNSUPPORTED_EXTENSION,
        format!("the track needs property {kind:#x} to be understood"),
    ))
}

/// Why the peer's new request contradicts one that is open, or asks for what cannot be
/// ("Subscriptions", "SUBSCRIBE_NAMESPACE", "Reserved Namespaces", "Session-Level Tracks and
/// Namespaces").
pub(super) fn check_subject<'a>(
    version: Version,
    state: &RequestState,
    mut others: impl Iterator<Item = &'a RequestState>,
) -> Option<RequestError> {
    match &state.subject {
        Subject::Track(track) => {
            if version >= Version::Draft18 && is_reserved(track.namespace()) {
                return Some(nothing_there());
            }
            let duplicate = version <= Version::Draft18
                && others.any(|other| other.track() == Some(track) && same_role(state.kind, other));
            duplicate.then(|| {
                RequestError::new(
                    RequestErrorCode::DUPLICATE_SUBSCRIPTION,
                    "this session has a subscription to the track in the same role",
                )
            })
        }
        Subject::Namespace(namespace) => check_prefix(version, state, namespace, others),
        Subject::Joining(_) => None,
    }
}

/// Whether `other` has us in the role that the peer's new request of `kind` would give us.
fn same_role(kind: Kind, other: &RequestState) -> bool {
    match (kind, other.side, other.kind) {
        (Kind::Subscribe, Side::Peer, Kind::Subscribe) => true,
        (Kind::Subscribe, Side::Local, Kind::Publish) => true,
        (Kind::Publish, Side::Peer, Kind::Publish) => true,
        // A pending one of ours may yet give way to the PUBLISH.
        (Kind::Publish, Side::Local, Kind::Subscribe) => other.phase == Phase::Established,
        _ => false,
    }
}

/// The same for a namespace or a prefix, new or updated. `others` do not hold the request itself.
pub(super) fn check_prefix<'a>(
    version: Version,
    state: &RequestState,
    namespace: &Namespace,
    mut others: impl Iterator<Item = &'a RequestState>,
) -> Option<RequestError> {
    if version >= Version::Draft18 && is_reserved(namespace) {
        return Some(nothing_there());
    }
    if !matches!(state.kind, Kind::SubscribeNamespace | Kind::SubscribeTracks) {
        return None;
    }
    let same_space = |other: &RequestState| match version {
        // One message for both there, so one space.
        Version::Draft16 => {
            matches!(other.kind, Kind::SubscribeNamespace | Kind::SubscribeTracks)
        }
        Version::Draft18 | Version::Draft22 => other.kind == state.kind,
    };
    let overlaps = |other: &RequestState| matches!(&other.subject, Subject::Namespace(other) if other.overlaps(namespace));
    others.any(|other| other.side == Side::Peer && same_space(other) && overlaps(other)).then(
        || {
            RequestError::new(
                RequestErrorCode::PREFIX_OVERLAP,
                "the prefix overlaps another of this session",
            )
        },
    )
}

fn nothing_there() -> RequestError {
    RequestError::new(
        RequestErrorCode::DOES_NOT_EXIST,
        "nothing exists under this reserved namespace",
    )
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

/// Most IDs remembered ahead of one that is missing.
const MAX_AHEAD: usize = 4096;

impl SeenIds {
    pub(super) fn new(first: RequestId) -> Self {
        Self { next: first, ahead: BTreeSet::new() }
    }

    pub(super) fn smallest_unseen(&self) -> RequestId {
        self.next
    }

    /// Whether the peer has used `id`.
    pub(super) fn contains(&self, id: RequestId) -> bool {
        id % 2 == self.next % 2 && (id < self.next || self.ahead.contains(&id))
    }

    /// Whether the peer may yet use `id`: it could be on its way.
    pub(super) fn may_come(&self, id: RequestId) -> bool {
        id % 2 == self.next % 2 && !self.contains(id)
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
        if self.ahead.len() > MAX_AHEAD {
            // A request cancelled early can leave a hole for good; it is taken as used.
            self.next = self.ahead.first().copied().unwrap_or(self.next);
        }
        while self.ahead.remove(&self.next) {
            self.next += 2;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_never_comes_does_not_end_the_session() {
        let mut ids = SeenIds::new(0);
        for id in (2..40_000).step_by(2) {
            ids.insert(id).unwrap();
        }
        assert_eq!(ids.smallest_unseen(), 40_000);
        assert!(ids.ahead.is_empty());
        assert_eq!(ids.insert(0).unwrap_err().code, SessionCode::INVALID_REQUEST_ID);
    }
}
