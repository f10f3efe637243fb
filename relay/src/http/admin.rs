//! The admin API: how the node is, for probes, Prometheus and the dashboard. Read-only.
//!
//! It has no password, so a browser must not be talked into reading it for a foreign page: requests
//! that a page of another origin makes are refused, and on a loopback address also those that come
//! under a name, because a foreign name can be made to resolve to this machine (DNS rebinding).

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, ORIGIN, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, stream};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::{View, metrics};

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
        .fallback(|| async { error(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this API is read-only: use GET")
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
