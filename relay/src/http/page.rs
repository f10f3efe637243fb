//! The page with the player, embedded in the program, and what the player asks the relay.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use bytes::Bytes;
use rust_embed::{EmbeddedFile, RustEmbed};
use serde::Serialize;
use tower_http::cors::{Any, CorsLayer};
use transport::Identity;

use super::{Figures, unanswered};

/// What `npm run build` in `web-player/` made; empty when it was not run. Tests have a small player of
/// their own, with `embed.html` missing.
#[derive(RustEmbed)]
#[cfg_attr(not(test), folder = "../web-player/dist")]
#[cfg_attr(test, folder = "src/http/fixture")]
#[allow_missing = true]
struct Dist;

/// In place of a page that was not embedded.
const NOT_BUILT: &str = "<!doctype html><meta charset=utf-8><title>Weir</title>\
<h1>This relay was built without its player</h1>\
<p>Relaying works; only this page is missing. Build the player, then the relay anew:\
<pre>(cd web-player &amp;&amp; npm ci &amp;&amp; npm run build)\ncargo build --release -p relay</pre>";

/// Media come over WebTransport from any relay that the page is told; workers may be started from
/// blobs; everything else is our own. Element styles live in shadow roots, hence inline.
const POLICY: &str = "default-src 'self'; script-src 'self'; worker-src 'self' blob:; \
style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' blob:; \
connect-src *; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors ";

const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// For files whose name changes with their content.
const FOREVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// What the page's answers are made of.
pub(super) struct Page {
    figures: Figures,
    identity: Identity,
    /// Where QUIC, WebTransport and HTTPS are.
    port: u16,
    node: String,
}

impl Page {
    pub(super) fn new(figures: Figures, identity: Identity, port: u16, node: &str) -> Self {
        Self { figures, identity, port, node: node.to_owned() }
    }
}

/// How a player reaches this relay, as `/api/relay` tells it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RelayInfo<'a> {
    port: u16,
    /// For `serverCertificateHashes`; none when an authority vouches for the certificate.
    certificate_hash: Option<String>,
    protocols: Vec<&'static str>,
    node: &'a str,
}

pub(super) fn router(page: Page) -> Router {
    // Players on pages elsewhere load the library and ask these.
    let open = Router::new()
        .route("/api/broadcasts", get(broadcasts))
        .route("/api/relay", get(relay))
        .route("/certificate.sha256", get(certificate))
        .route("/assets/{*path}", get(file))
        .layer(CorsLayer::new().allow_origin(Any).allow_methods([Method::GET]));
    Router::new()
        .route("/", get(|headers| async move { html("index.html", Frames::Own, &headers) }))
        .route(
            "/watch/{*broadcast}",
            get(|headers| async move { html("watch.html", Frames::Own, &headers) }),
        )
        .route(
            "/embed/{*broadcast}",
            get(|headers| async move { html("embed.html", Frames::Any, &headers) }),
        )
        .merge(open)
        // Icons and the like, which must lie at the root.
        .fallback(get(file))
        .layer(middleware::from_fn(harden))
        .with_state(Arc::new(page))
}

async fn broadcasts(State(page): State<Arc<Page>>) -> Response {
    match page.figures.broadcasts.latest().await {
        Some(reading) => ([(CACHE_CONTROL, NO_STORE)], Json(&*reading.figures)).into_response(),
        None => unanswered(),
    }
}

async fn relay(State(page): State<Arc<Page>>) -> Response {
    let own = page.identity.is_self_signed();
    let info = RelayInfo {
        port: page.port,
        certificate_hash: own.then(|| page.identity.fingerprint().to_string()),
        protocols: moqt::Version::ALL.iter().map(|version| version.alpn()).collect(),
        node: &page.node,
    };
    ([(CACHE_CONTROL, NO_STORE)], Json(info)).into_response()
}

async fn certificate(State(page): State<Arc<Page>>) -> Response {
    ([(CACHE_CONTROL, NO_STORE)], page.identity.fingerprint().to_string()).into_response()
}

async fn file(uri: Uri, headers: HeaderMap) -> Response {
    let path = uri.path().trim_start_matches('/');
    // Pages have addresses of their own, and only those carry their policy.
    match Dist::get(path).filter(|_| !path.ends_with(".html")) {
        Some(file) if is_hashed(path) => answer(file, FOREVER, &headers),
        Some(file) => answer(file, REVALIDATE, &headers),
        None => (StatusCode::NOT_FOUND, "not found\n").into_response(),
    }
}

/// Who may show a page in a frame.
#[derive(Clone, Copy)]
enum Frames {
    Own,
    Any,
}

fn html(name: &str, frames: Frames, headers: &HeaderMap) -> Response {
    let mut response = match Dist::get(name) {
        Some(file) => answer(file, REVALIDATE, headers),
        None => {
            let headers = [(CACHE_CONTROL, NO_STORE), (CONTENT_TYPE, HTML)];
            (StatusCode::SERVICE_UNAVAILABLE, headers, NOT_BUILT).into_response()
        }
    };
    let ancestors = match frames {
        Frames::Own => "'self'",
        Frames::Any => "*",
    };
    let policy = HeaderValue::try_from(format!("{POLICY}{ancestors}"));
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.expect("the policy is ASCII"));
    response
}

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

fn answer(file: EmbeddedFile, cache: HeaderValue, asked: &HeaderMap) -> Response {
    let hash: String =
        file.metadata.sha256_hash()[..16].iter().map(|b| format!("{b:02x}")).collect();
    let tag = HeaderValue::try_from(format!("\"{hash}\"")).expect("hex is ASCII");
    let known = asked
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .any(|known| known.trim().trim_start_matches("W/") == tag);
    let head = [(CACHE_CONTROL, cache), (ETAG, tag)];
    if known {
        return (StatusCode::NOT_MODIFIED, head).into_response();
    }
    let kind = match file.metadata.mimetype() {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        other => other.to_owned(),
    };
    let body = match file.data {
        Cow::Borrowed(data) => Bytes::from_static(data),
        Cow::Owned(data) => data.into(),
    };
    (head, [(CONTENT_TYPE, kind)], body).into_response()
}

/// Whether a file's name ends in the eight characters that the build derives from its content. A
/// plain word of eight small letters is taken for a word: to revalidate too often does no harm.
fn is_hashed(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split('.').next().unwrap_or(name);
    let Some(at) = stem.len().checked_sub(9).filter(|at| stem.is_char_boundary(*at)) else {
        return false;
    };
    let (rest, hash) = stem.split_at(at);
    let Some(hash) = hash.strip_prefix('-') else { return false };
    !rest.is_empty()
        && hash.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
        && hash.chars().any(|c| c.is_ascii_digit() || c.is_ascii_uppercase())
}

/// What every answer says to the browser.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_a_hash_are_kept_forever() {
        for hashed in
            ["assets/watch-B1x_9-aZ.js", "assets/a-12345678.css", "assets/w-abcdEfgh.js.map"]
        {
            assert!(is_hashed(hashed), "{hashed}");
        }
        for plain in [
            "assets/weir-player.js",
            "assets/audio-worklets.js",
            "assets/-12345678.js",
            "assets/12345678.js",
            "favicon.svg",
            "assets/ü-1234567.js",
            "",
        ] {
            assert!(!is_hashed(plain), "{plain}");
        }
    }
}
