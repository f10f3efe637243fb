//! The admin API: how the node is, for probes, Prometheus and the dashboard; and what an operator
//! may tell it: to end a session, to let everyone go elsewhere.
//!
//! It has no password, so a browser must not be talked into reading it for a foreign page: requests
//! that a page of another origin makes are refused, and on a loopback address also those that come
//! under a name, because a foreign name can be made to resolve to this machine (DNS rebinding).

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{Drain, View, metrics};

/// Between two lines of the feed.
const FEED_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Admin {
    view: Arc<dyn View>,
    /// Turns true when the node shuts down: feeds end then.
    stop: watch::Receiver<bool>,
}

/// `loopback`: whether the API is bound to a loopback address.
pub(super) fn router(view: Arc<dyn View>, loopback: bool, stop: watch::Receiver<bool>) -> Router {
    Router::new()
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(exposition))
        .route("/api/v1/nodes", get(nodes))
        .route("/api/v1/nodes/watch", get(feed))
        .route("/api/v1/broadcasts", get(broadcasts))
        .route("/api/v1/tracks", get(tracks))
        .route("/api/v1/sessions", get(sessions))
        .route("/api/v1/sessions/{id}", delete(end_session))
        .route("/api/v1/drain", post(drain))
        .fallback(|| async { error(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(middleware::from_fn(move |request, next| guard(loopback, request, next)))
        .with_state(Admin { view, stop })
}

fn error(status: StatusCode, what: &str) -> Response {
    (status, Json(json!({ "error": what }))).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.view.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn exposition(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let format = metrics::Format::accepted(&headers);
    let text = metrics::encode(admin.view.node(), format);
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

async fn nodes(State(admin): State<Admin>) -> Response {
    Json(admin.view.tree()).into_response()
}

async fn broadcasts(State(admin): State<Admin>) -> Response {
    Json(admin.view.broadcasts()).into_response()
}

async fn tracks(State(admin): State<Admin>) -> Response {
    Json(admin.view.node().tracks).into_response()
}

async fn sessions(State(admin): State<Admin>) -> Response {
    Json(admin.view.node().sessions).into_response()
}

async fn end_session(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    if admin.view.end_session(&id) {
        StatusCode::NO_CONTENT.into_response()
    } else {
        error(StatusCode::NOT_FOUND, "no session of this node has that id")
    }
}

/// What a drain is asked for with; all of it may be left out.
#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainRequest {
    /// Where clients are to go: `moqt://` or `https://`.
    to: Option<String>,
    /// How long they have, seconds.
    patience_s: Option<u32>,
}

/// Longest that a session may take to leave.
const MAX_PATIENCE_S: u32 = 3600;
/// What it gets if nothing is said.
const PATIENCE_S: u32 = 30;

async fn drain(State(admin): State<Admin>, body: Bytes) -> Response {
    let request = match body.is_empty() {
        true => Ok(DrainRequest::default()),
        false => serde_json::from_slice::<DrainRequest>(&body),
    };
    let request = match request {
        Ok(request) => request,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &format!("not understood: {wrong}")),
    };
    let to = match request.to.as_deref().map(crate::config::parse_upstream).transpose() {
        Ok(to) => to,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &format!("to: {wrong}")),
    };
    let patience_s = request.patience_s.unwrap_or(PATIENCE_S);
    if patience_s > MAX_PATIENCE_S {
        return error(StatusCode::BAD_REQUEST, "patience_s: at most an hour, 3600");
    }
    admin.view.drain(Drain { to, patience: Duration::from_secs(patience_s.into()) });
    StatusCode::ACCEPTED.into_response()
}

async fn feed(State(admin): State<Admin>) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    (kind, Body::from_stream(lines(admin))).into_response()
}

/// A line at once, then one a second for as long as somebody reads; one who reads slowly gets fewer.
fn lines(admin: Admin) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut ticks = tokio::time::interval(FEED_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((admin, ticks), |(mut admin, mut ticks)| async move {
        tokio::select! {
            biased;
            _ = admin.stop.wait_for(|stop| *stop) => return None,
            _ = ticks.tick() => {}
        }
        let mut line = serde_json::to_vec(&admin.view.tree()).expect("a tree is plain data");
        line.push(b'\n');
        Some((Ok(line.into()), (admin, ticks)))
    })
}

/// Turns away what a page of another origin asks for, and keeps answers out of caches and frames.
async fn guard(loopback: bool, request: Request, next: Next) -> Response {
    let mut response = match refusal(loopback, &request) {
        Some(why) => error(StatusCode::FORBIDDEN, why),
        None => next.run(request).await,
    };
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    response
}

/// Why a request is refused, if it is.
fn refusal(loopback: bool, request: &Request) -> Option<&'static str> {
    let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let fields = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    // Without a host it is no browser.
    let hosts: Vec<&[u8]> = named.into_iter().chain(fields).collect();
    if loopback && !hosts.iter().all(|host| is_this_machine(host)) {
        return Some("use the address of this API, such as 127.0.0.1, or localhost");
    }
    let own = |origin: &HeaderValue| {
        let origin = origin.as_bytes().strip_prefix(b"http://");
        origin.is_some_and(|origin| {
            hosts.first().is_some_and(|host| host.eq_ignore_ascii_case(origin))
        })
    };
    if !request.headers().get_all(ORIGIN).iter().all(own) {
        return Some("pages of other origins may not use this API");
    }
    None
}

/// Whether a host, with or without a port, is an address or `localhost`: nothing that DNS decides.
fn is_this_machine(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let host = authority.host();
    let v6 = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<Ipv4Addr>().is_ok()
        || v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(loopback: bool, head: &[(HeaderName, &str)]) -> bool {
        let mut request = Request::new(Body::empty());
        for (name, value) in head {
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        refusal(loopback, &request).is_some()
    }

    #[test]
    fn on_loopback_only_hosts_that_no_name_server_decides_are_served() {
        for host in ["127.0.0.1:4480", "127.0.0.1", "[::1]:4480", "localhost:4480", "LOCALHOST"] {
            assert!(!refused(true, &[(HOST, host)]), "{host}");
        }
        for host in
            ["evil.example:4480", "127.0.0.1.evil.example", "localhost.evil.example", "", "["]
        {
            assert!(refused(true, &[(HOST, host)]), "{host}");
        }
        assert!(refused(true, &[(HOST, "127.0.0.1"), (HOST, "evil.example")]));
        assert!(!refused(true, &[]), "no browser leaves the host out");
        assert!(!refused(false, &[(HOST, "relay.example:4480")]));
    }

    #[test]
    fn only_the_own_origin_is_served() {
        let host = (HOST, "127.0.0.1:4480");
        assert!(!refused(true, &[host.clone(), (ORIGIN, "http://127.0.0.1:4480")]));
        for origin in
            ["http://evil.example", "null", "https://127.0.0.1:4480", "http://127.0.0.1", ""]
        {
            assert!(refused(true, &[host.clone(), (ORIGIN, origin)]), "{origin}");
            assert!(refused(false, &[host.clone(), (ORIGIN, origin)]), "{origin}");
        }
        assert!(refused(false, &[(ORIGIN, "http://127.0.0.1")]));
    }
}
