//! Who gets something from the admin API, and who does not.

use super::*;
use crate::config::{AdminToken, Origin};

fn access(token: Option<&str>, origins: &[&str]) -> AdminAccess {
    AdminAccess {
        token: token.map(|token| AdminToken::parse(token).unwrap()),
        origins: origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect(),
    }
}

async fn with(access: AdminAccess) -> Running {
    Running::with(Arc::default(), access).await
}

#[tokio::test]
async fn pages_of_other_origins_get_nothing_from_the_api() {
    let relay = Running::start().await;
    let own = format!("Host: {}\r\n", relay.admin);
    for (headers, status) in [
        (own.clone(), 200),
        (format!("{own}Origin: http://{}\r\n", relay.admin), 200),
        (format!("{own}Origin: http://evil.example\r\n"), 403),
        ("Host: evil.example\r\n".to_owned(), 403),
    ] {
        let answer = request(relay.admin, "GET", "/api/v1/nodes", &headers).await;
        assert_eq!(answer.status, status, "{headers}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    let rebound = "http://evil.example/api/v1/nodes";
    assert_eq!(request(relay.admin, "GET", rebound, &own).await.status, 403);
}

#[tokio::test]
async fn without_the_token_only_probes_are_answered() {
    let view = Arc::new(Fake::default());
    let relay = Running::with(Arc::clone(&view), access(Some("s3cret"), &[])).await;
    let own = format!("Host: {}\r\n", relay.admin);
    for path in ["/health", "/ready"] {
        assert_eq!(request(relay.admin, "GET", path, &own).await.status, 200, "{path}");
    }
    for wrong in ["", "Authorization: Bearer s3cre\r\n", "Authorization: Basic czNjcmV0\r\n"] {
        for path in ["/metrics", "/api/v1/nodes", "/api/v1/nodes/watch", "/nothing", "/health/x"] {
            let answer = request(relay.admin, "GET", path, &format!("{own}{wrong}")).await;
            assert_eq!(answer.status, 401, "{path} {wrong}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"weir\""));
            assert!(answer.json()["error"].as_str().unwrap().contains("Bearer"), "{answer:?}");
        }
        assert_eq!(post(relay.admin, "/api/v1/drain", wrong, "").await.status, 401);
    }
    assert!(view.drained.lock().unwrap().is_none(), "a stranger drained the node");

    let right = format!("{own}Authorization: Bearer s3cret\r\n");
    for path in ["/metrics", "/api/v1/nodes", "/api/v1/sessions"] {
        assert_eq!(request(relay.admin, "GET", path, &right).await.status, 200, "{path}");
    }
    let known = "Authorization: Bearer s3cret\r\n";
    assert_eq!(post(relay.admin, "/api/v1/drain", known, "").await.status, 202);
    assert!(view.drained.lock().unwrap().is_some());
}

#[tokio::test]
async fn a_token_makes_no_foreign_page_welcome() {
    let relay = with(access(Some("s3cret"), &[])).await;
    let known = format!("Host: {}\r\nAuthorization: Bearer s3cret\r\n", relay.admin);
    let foreign = format!("{known}Origin: http://evil.example\r\n");
    assert_eq!(request(relay.admin, "GET", "/api/v1/nodes", &foreign).await.status, 403);
}

#[tokio::test]
async fn pages_that_the_operator_named_may_use_the_api_and_no_others() {
    const GRAFANA: &str = "https://grafana.example";
    let relay = with(access(Some("s3cret"), &[GRAFANA, "http://localhost:3000"])).await;
    let own = format!("Host: {}\r\n", relay.admin);
    let from = |origin: &str| format!("{own}Origin: {origin}\r\n");

    // A browser asks first, and never with the token.
    let asks = "Access-Control-Request-Method: DELETE\r\n\
                Access-Control-Request-Headers: authorization\r\n";
    let ask = format!("{}{asks}", from(GRAFANA));
    let answer = request(relay.admin, "OPTIONS", "/api/v1/sessions/7", &ask).await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some(GRAFANA));
    assert!(answer.header("access-control-allow-methods").unwrap().contains("DELETE"));
    assert!(answer.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(answer.header("access-control-allow-credentials"), None);

    let known = format!("{}Authorization: Bearer s3cret\r\n", from(GRAFANA));
    for (headers, status) in [(known, 200), (from(GRAFANA), 401)] {
        let answer = request(relay.admin, "GET", "/api/v1/nodes", &headers).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("access-control-allow-origin"), Some(GRAFANA));
        assert_eq!(answer.header("vary"), Some("origin"));
    }
    for origin in
        ["https://grafana.example.evil", "https://grafana.example:8443", "http://grafana.example"]
    {
        let ask = format!("{}{asks}", from(origin));
        let answer = request(relay.admin, "OPTIONS", "/api/v1/nodes", &ask).await;
        assert_eq!(answer.status, 403, "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
        let known = format!("{}Authorization: Bearer s3cret\r\n", from(origin));
        assert_eq!(request(relay.admin, "GET", "/api/v1/nodes", &known).await.status, 403);
    }
}
