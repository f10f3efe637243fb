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
use stats::NodeState;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::gate::Gate;
use super::process::Process;
use super::{Detail, Drain, Figures, Moment, View, error, metrics, unanswered};

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
pub(super) static ROUTES: [Route; 12] = [
    probe("/health", |method| on(method, || async { "ok\n" })),
    probe("/ready", |method| on(method, ready)),
    route(Method::GET, "/metrics", |method| on(method, exposition)),
    route(Method::GET, "/api/v1/nodes", |method| on(method, nodes)),
    route(Method::GET, "/api/v1/nodes/watch", |method| on(method, feed)),
    route(Method::GET, "/api/v1/nodes/{node}", |method| on(method, node)),
    route(Method::GET, "/api/v1/nodes/{node}/watch", |method| on(method, node_feed)),
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
    let line = |moment: &Moment| serde_json::to_vec(&moment.tree).ok();
    feed_of(&admin, admin.view.news(), FEED_INTERVAL, line)
}

/// How long a node below may take to tell all that it knows; after that, what it reported will do.
const DETAIL_PATIENCE: Duration = Duration::from_millis(1500);
/// Details that are older are no news: the node's report says how it is.
const DETAIL_AGE: Duration = Duration::from_millis(2500);

/// Who is asked about one node: what it reports up the tree is known, all that it knows is told.
struct Look {
    name: String,
    told: watch::Receiver<Option<Detail>>,
}

impl Look {
    /// `None` if that node is not in the tree.
    fn at(admin: &Admin, moment: &Moment, name: String) -> Option<Self> {
        moment.tree.nodes.iter().any(|node| node.node == name).then(|| {
            let told = match name == moment.node().node {
                // All of it is in the tree.
                true => watch::Sender::default().subscribe(),
                false => admin.view.detail(&name),
            };
            Self { name, told }
        })
    }

    /// Waits until the node told something, but not for long.
    async fn wait(&mut self) {
        let told = self.told.wait_for(Option::is_some);
        // In vain if it is of an older version, or gone.
        let _ = tokio::time::timeout(DETAIL_PATIENCE, told).await;
    }

    /// All that is known of the node; `None` once it is not in the tree any more.
    fn json(&self, moment: &Moment) -> Option<Vec<u8>> {
        let report = moment.tree.nodes.iter().find(|node| node.node == self.name)?;
        let told = self.told.borrow();
        let detail = told
            .as_ref()
            .filter(|detail| report.state != NodeState::Down && detail.at.elapsed() < DETAIL_AGE);
        serde_json::to_vec(detail.map_or(report, |detail| &detail.node)).ok()
    }
}

fn no_node() -> Response {
    error(StatusCode::NOT_FOUND, "no node of this tree has that name")
}

async fn node(State(admin): State<Admin>, name: Result<Path<String>, PathRejection>) -> Response {
    let Ok(Path(name)) = name else { return no_node() };
    let Some(reading) = admin.figures.moment.latest().await else { return unanswered() };
    let Some(mut look) = Look::at(&admin, &reading.figures, name) else { return no_node() };
    look.wait().await;
    match look.json(&reading.figures) {
        Some(json) => {
            ([(CONTENT_TYPE, HeaderValue::from_static("application/json"))], json).into_response()
        }
        None => no_node(),
    }
}

async fn node_feed(
    State(admin): State<Admin>,
    name: Result<Path<String>, PathRejection>,
) -> Response {
    let Ok(Path(name)) = name else { return no_node() };
    let Some(reading) = admin.figures.moment.latest().await else { return unanswered() };
    let Some(look) = Look::at(&admin, &reading.figures, name) else { return no_node() };
    // What it tells comes once a second, too: waiting just as long would send each line twice.
    let patience = FEED_INTERVAL + FEED_INTERVAL / 2;
    feed_of(&admin, look.told.clone(), patience, move |moment| look.json(moment))
}

/// An answer that goes on: a line of each moment.
fn feed_of<T: Send + Sync + 'static>(
    admin: &Admin,
    news: watch::Receiver<T>,
    after_news: Duration,
    line: impl Fn(&Moment) -> Option<Vec<u8>> + Send + 'static,
) -> Response {
    let kind = [(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"))];
    (kind, Body::from_stream(lines(admin.clone(), news, after_news, line))).into_response()
}

/// A line at once, then one a second for as long as somebody reads, and one at once when there is
/// news, `after_news` before the next; one who reads slowly gets fewer. None while the node does not answer: a feed that stops is
/// how one sees it. Ends when there is no line any more.
fn lines<T: Send + Sync + 'static>(
    admin: Admin,
    news: watch::Receiver<T>,
    after_news: Duration,
    line: impl Fn(&Moment) -> Option<Vec<u8>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut ticks = tokio::time::interval(FEED_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    stream::unfold(
        (admin, ticks, news, line),
        move |(mut admin, mut ticks, mut news, line)| async move {
            loop {
                tokio::select! {
                    biased;
                    _ = admin.stop.wait_for(|stop| *stop) => return None,
                    _ = ticks.tick() => {}
                    Ok(()) = news.changed() => ticks.reset_after(after_news),
                }
                let Some(reading) = admin.figures.moment.latest().await else { continue };
                if reading.is_old() {
                    continue;
                }
                let mut line_of = line(&reading.figures)?;
                line_of.push(b'\n');
                return Some((Ok(line_of.into()), (admin, ticks, news, line)));
            }
        },
    )
}
