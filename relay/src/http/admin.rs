//! The admin API: how the node is, for probes, Prometheus and the dashboard; and what an operator
//! may tell it: to end a session, to let everyone go elsewhere.
//!
//! [`ROUTES`] is the one list of what there is; `docs/openapi.json` describes it, and a test holds
//! the two together. Who may ask is decided by the [`Gate`] before it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::gate::Gate;
use super::process::Process;
use super::{Drain, Figures, Moment, View, error, metrics, unanswered};

/// Between two lines of the feed.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// How long the node may take to hear a command.
const PATIENCE: Duration = Duration::from_secs(1);
/// Largest body of a request.
const MAX_BODY: usize = 16 * 1024;

/// One method of one path.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    /// Whether it is answered without a token.
    open: bool,
    serve: fn(MethodFilter) -> MethodRouter<Admin>,
}

const fn route(
    method: Method,
    path: &'static str,
    serve: fn(MethodFilter) -> MethodRouter<Admin>,
) -> Route {
    Route { method, path, open: false, serve }
}

/// For probes, which know no token and learn little.
const fn probe(path: &'static str, serve: fn(MethodFilter) -> MethodRouter<Admin>) -> Route {
    Route { method: Method::GET, path, open: true, serve }
}

/// Everything that is answered.
pub(super) static ROUTES: [Route; 10] = [
    probe("/health", |method| on(method, || async { "ok\n" })),
    probe("/ready", |method| on(method, ready)),
    route(Method::GET, "/metrics", |method| on(method, exposition)),
    route(Method::GET, "/api/v1/nodes", |method| on(method, nodes)),
    route(Method::GET, "/api/v1/nodes/watch", |method| on(method, feed)),
    route(Method::GET, "/api/v1/broadcasts", |method| on(method, broadcasts)),
    route(Method::GET, "/api/v1/tracks", |method| on(method, tracks)),
    route(Method::GET, "/api/v1/sessions", |method| on(method, sessions)),
    route(Method::DELETE, "/api/v1/sessions/{id}", |method| on(method, end_session)),
    route(Method::POST, "/api/v1/drain", |method| on(method, drain)),
];

/// What the answers are made of.
#[derive(Clone)]
pub(super) struct Admin {
    view: Arc<dyn View>,
    figures: Figures,
    constants: Arc<metrics::Constants>,
    /// Turns true when the node shuts down: feeds end then.
    stop: watch::Receiver<bool>,
}

impl Admin {
    pub(super) fn new(
        view: Arc<dyn View>,
        figures: Figures,
        constants: metrics::Constants,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { view, figures, constants: Arc::new(constants), stop }
    }
}

pub(super) fn router(admin: Admin, gate: Gate) -> Router {
    let router = ROUTES.iter().fold(Router::new(), |router, route| {
        let method = MethodFilter::try_from(route.method.clone());
        router.route(route.path, (route.serve)(method.expect("a method of HTTP itself")))
    });
    let gate = move |request: Request, next: Next| {
        let path = request.uri().path();
        let open = ROUTES.iter().any(|route| route.open && route.path == path);
        gate.clone().pass(open, request, next)
    };
    router
        .fallback(|| async { error(StatusCode::NOT_FOUND, "no such path") })
        .method_not_allowed_fallback(|| async {
            error(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method")
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(gate))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let unready =
        |reason: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response();
    match admin.figures.moment.latest().await {
        Some(reading) if !reading.is_old() => match &reading.figures.ready {
            Ok(()) => "ready\n".into_response(),
            Err(reason) => unready(reason),
        },
        _ => unready("the node does not answer"),
    }
}

async fn exposition(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    let Some(reading) = admin.figures.moment.latest().await else { return unanswered() };
    let format = metrics::Format::accepted(&headers);
    let started = admin.constants.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Reads files, if only of the kernel's making.
    let process = tokio::task::spawn_blocking(move || Process::read(started)).await.ok();
    let text = metrics::encode(&reading, &admin.constants, process, format);
    ([(CONTENT_TYPE, format.content_type())], text).into_response()
}

/// What was read last, as JSON.
async fn answer<T: serde::Serialize>(admin: &Admin, part: impl FnOnce(&Moment) -> &T) -> Response {
    match admin.figures.moment.latest().await {
        Some(reading) => Json(part(&reading.figures)).into_response(),
        None => unanswered(),
    }
}

async fn nodes(State(admin): State<Admin>) -> Response {
    answer(&admin, |moment| &moment.tree).await
}

async fn broadcasts(State(admin): State<Admin>) -> Response {
    match admin.figures.broadcasts.latest().await {
        Some(reading) => Json(&*reading.figures).into_response(),
        None => unanswered(),
    }
}

async fn tracks(State(admin): State<Admin>) -> Response {
    answer(&admin, |moment| &moment.node().tracks).await
}

async fn sessions(State(admin): State<Admin>) -> Response {
    answer(&admin, |moment| &moment.node().sessions).await
}

async fn end_session(
    State(admin): State<Admin>,
    id: Result<Path<String>, PathRejection>,
) -> Response {
    // What is not even text is no session's.
    let Ok(Path(id)) = id else { return no_session() };
    match command(move || admin.view.end_session(&id)).await {
        Some(true) => StatusCode::NO_CONTENT.into_response(),
        Some(false) => no_session(),
        None => unanswered(),
    }
}

fn no_session() -> Response {
    error(StatusCode::NOT_FOUND, "no session of this node has that id")
}

/// Tells the node something; `None` if that takes too long.
async fn command<T: Send + 'static>(tell: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(tell)).await.ok()?.ok()
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

async fn drain(State(admin): State<Admin>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(wrong) => return error(wrong.status(), &wrong.body_text()),
    };
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
    let drain = Drain { to, patience: Duration::from_secs(patience_s.into()) };
    match command(move || admin.view.drain(drain)).await {
        Some(()) => StatusCode::ACCEPTED.into_response(),
        None => unanswered(),
    }
}

async fn feed(State(admin): State<Admin>) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    (kind, Body::from_stream(lines(admin))).into_response()
}

/// A line at once, then one a second for as long as somebody reads; one who reads slowly gets fewer.
/// None while the node does not answer: a feed that stops is how one sees it.
fn lines(admin: Admin) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut ticks = tokio::time::interval(FEED_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold((admin, ticks), |(mut admin, mut ticks)| async move {
        loop {
            tokio::select! {
                biased;
                _ = admin.stop.wait_for(|stop| *stop) => return None,
                _ = ticks.tick() => {}
            }
            let Some(reading) = admin.figures.moment.latest().await else { continue };
            if reading.is_old() {
                continue;
            }
            let tree = &reading.figures.tree;
            let mut line = serde_json::to_vec(tree).expect("a tree is plain data");
            line.push(b'\n');
            return Some((Ok(line.into()), (admin, ticks)));
        }
    })
}
