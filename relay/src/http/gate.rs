//! Who may use the admin API.
//!
//! Who knows the token, if there is one. Without one, whoever reaches the port: so a browser must not
//! be talked into using the API for a foreign page. Requests that a page of another origin makes are
//! refused, unless the operator named that origin; and on a loopback address also those that come
//! under a name, because a foreign name can be made to resolve to this machine (DNS rebinding).

use std::net::{Ipv4Addr, Ipv6Addr};

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, CACHE_CONTROL, HOST,
    HeaderName, ORIGIN, VARY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error;
use crate::config::{AdminAccess, AdminToken};

const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName =
    HeaderName::from_static("cross-origin-resource-policy");

/// Stands before the admin API.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    /// Whether the API is bound to a loopback address.
    pub(super) loopback: bool,
    pub(super) access: AdminAccess,
}

impl Gate {
    /// Answers by itself what may not pass, and keeps every answer out of caches and frames.
    /// `open`: whether the path is for everyone who is not a foreign page.
    pub(super) async fn pass(self, open: bool, request: Request, next: Next) -> Response {
        let origin = self.allowed_origin(request.headers()).cloned();
        let mut response = match self.refusal(&request) {
            Some(why) => error(StatusCode::FORBIDDEN, why),
            None if origin.is_some() && is_preflight(&request) => preflight(),
            None if !open && !self.knows_token(request.headers()) => unauthorized(),
            None => next.run(request).await,
        };
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
        headers.insert(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = origin {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        response
    }

    /// Why a request is refused, whoever makes it.
    fn refusal(&self, request: &Request) -> Option<&'static str> {
        let named = request.uri().authority().map(|authority| authority.as_str().as_bytes());
        let fields = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
        // Without a host it is no browser.
        let hosts: Vec<&[u8]> = named.into_iter().chain(fields).collect();
        if self.loopback && !hosts.iter().all(|host| is_this_machine(host)) {
            return Some("use the address of this API, such as 127.0.0.1, or localhost");
        }
        let own = |origin: &HeaderValue| {
            let origin = origin.as_bytes().strip_prefix(b"http://");
            origin.is_some_and(|origin| {
                hosts.first().is_some_and(|host| host.eq_ignore_ascii_case(origin))
            })
        };
        let mut origins = request.headers().get_all(ORIGIN).iter();
        if !origins.all(|origin| own(origin) || self.is_allowed(origin)) {
            return Some("pages of other origins may not use this API; see --admin-origin");
        }
        None
    }

    fn is_allowed(&self, origin: &HeaderValue) -> bool {
        self.access.origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin.as_bytes())
    }

    /// The origin that asks, if the operator named it.
    fn allowed_origin<'h>(&self, headers: &'h HeaderMap) -> Option<&'h HeaderValue> {
        headers.get(ORIGIN).filter(|origin| self.is_allowed(origin))
    }

    /// Whether a request presents the token; true when none is asked for.
    fn knows_token(&self, headers: &HeaderMap) -> bool {
        self.access.token.as_ref().is_none_or(|token| presents(headers, token))
    }
}

/// Whether there is one `Authorization: Bearer` field, and it has the token.
fn presents(headers: &HeaderMap, token: &AdminToken) -> bool {
    let mut fields = headers.get_all(AUTHORIZATION).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let field = field.as_bytes();
    let Some(blank) = field.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, presented) = field.split_at(blank);
    scheme.eq_ignore_ascii_case(b"bearer") && token.is(presented.trim_ascii())
}

fn unauthorized() -> Response {
    let what = "send the token of --admin-token-file: Authorization: Bearer TOKEN";
    let mut response = error(StatusCode::UNAUTHORIZED, what);
    let challenge = HeaderValue::from_static("Bearer realm=\"weir\"");
    response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    response
}

fn is_preflight(request: &Request) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// What a browser asks before it lets an allowed page send a token or a body.
fn preflight() -> Response {
    let headers = [
        (ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, DELETE"),
        (ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
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
    use axum::body::Body;

    use super::*;

    fn request(head: &[(HeaderName, &str)]) -> Request {
        let mut request = Request::new(Body::empty());
        for (name, value) in head {
            request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
        }
        request
    }

    fn refused(loopback: bool, head: &[(HeaderName, &str)]) -> bool {
        let gate = Gate { loopback, access: AdminAccess::default() };
        gate.refusal(&request(head)).is_some()
    }

    #[test]
    fn the_token_is_presented_once_and_whole() {
        let token = AdminToken::parse("s3cret").unwrap();
        let knows = |fields: &[&str]| {
            let head: Vec<_> = fields.iter().map(|field| (AUTHORIZATION, *field)).collect();
            presents(request(&head).headers(), &token)
        };
        for field in ["Bearer s3cret", "bearer s3cret", "BEARER  s3cret "] {
            assert!(knows(&[field]), "{field}");
        }
        for fields in [
            &[][..],
            &["s3cret"],
            &["Bearer"],
            &["Bearer "],
            &["Bearer s3cre"],
            &["Bearer s3cret s3cret"],
            &["Basic s3cret"],
            &["Bearer s3cret", "Bearer s3cret"],
        ] {
            assert!(!knows(fields), "{fields:?}");
        }
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
