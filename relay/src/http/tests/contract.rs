//! `docs/openapi.json` and the admin API say the same: every route, every status, every field.

use std::collections::BTreeSet;

use super::super::admin::ROUTES;
use super::*;
use crate::config::AdminToken;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

struct Description(Value);

impl Description {
    fn read() -> Self {
        Self(serde_json::from_str(&std::fs::read_to_string(FILE).unwrap()).unwrap())
    }

    /// Follows `$ref`, which stands alone or beside a description.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str() {
            Some(to) => {
                let target = self.0.pointer(to.strip_prefix('#').expect("refers to this file"));
                self.resolve(target.unwrap_or_else(|| panic!("{to} is nowhere")))
            }
            None => value,
        }
    }

    /// Method, path, and what is said of them.
    fn operations(&self) -> impl Iterator<Item = (String, String, &Value)> {
        self.0["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            item.as_object().unwrap().iter().map(move |(method, operation)| {
                assert!(METHODS.contains(&method.as_str()), "{path}: {method}");
                (method.to_ascii_uppercase(), path.clone(), operation)
            })
        })
    }

    fn response(&self, method: &str, path: &str, status: u16) -> &Value {
        let (_, _, operation) = self
            .operations()
            .find(|(m, p, _)| m == method && p == path)
            .unwrap_or_else(|| panic!("{method} {path} is not described"));
        let response = &operation["responses"][status.to_string()];
        assert!(response.is_object(), "{method} {path}: {status} is not described");
        self.resolve(response)
    }

    /// Holds an answer against what is said of it.
    fn check_answer(&self, method: &str, path: &str, answer: &Answer) {
        let response = self.response(method, path, answer.status);
        let Some(content) = response["content"].as_object() else {
            assert_eq!(answer.body, "", "{method} {path}: nothing is said of a body");
            return;
        };
        let kind = answer.header("content-type").expect("a body has a type");
        let kind = kind.split(';').next().unwrap();
        let schema =
            &content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind}"))["schema"];
        if kind == "application/json" {
            self.check(schema, &answer.json(), &format!("{method} {path}"));
        }
    }

    /// Whether a value is as a schema says, which has to name every one of its fields.
    fn check(&self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolve(schema);
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_u64() => "integer",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => vec![one.as_str().unwrap_or_else(|| panic!("{at} has no type"))],
        };
        let number = kind == "integer" && types.contains(&"number");
        assert!(number || types.contains(&kind), "{at} is {value}, not {types:?}");
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{at} is {value}, not one of {allowed:?}");
        }
        for (nth, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{at}/{nth}"));
        }
        let Some(fields) = value.as_object() else { return };
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(required.as_str().unwrap()), "{at} lacks {required}");
        }
        for (name, field) in fields {
            let at = format!("{at}/{name}");
            if let Some(names) = schema["propertyNames"]["enum"].as_array() {
                assert!(names.contains(&Value::from(name.as_str())), "{at} is not described");
            }
            let field_schema = schema["properties"].get(name);
            let schema = field_schema.or_else(|| schema.get("additionalProperties"));
            self.check(schema.unwrap_or_else(|| panic!("{at} is not described")), field, &at);
        }
    }
}

/// Asks one thing and notes which answer came, once it was found as described.
struct Tour {
    description: Description,
    seen: BTreeSet<(String, String, u16)>,
}

impl Tour {
    async fn visit(&mut self, addr: SocketAddr, route: (&str, &str), headers: &str, body: &str) {
        self.visit_as(addr, route, route.1, headers, body).await;
    }

    async fn visit_as(
        &mut self,
        addr: SocketAddr,
        (method, template): (&str, &str),
        path: &str,
        headers: &str,
        body: &str,
    ) {
        let answer = if method == "POST" {
            post(addr, path, headers, body).await
        } else if is_feed(template) && headers.is_empty() && !path.contains("nobody") {
            first_line(addr, path).await
        } else {
            request(addr, method, path, &format!("Host: {addr}\r\n{headers}")).await
        };
        self.description.check_answer(method, template, &answer);
        self.seen.insert((method.to_owned(), template.to_owned(), answer.status));
    }
}

/// Whether an answer goes on for ever.
fn is_feed(path: &str) -> bool {
    path.ends_with("/watch")
}

/// The head of an answer that never ends.
async fn first_line(addr: SocketAddr, path: &str) -> Answer {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"\n\r\n") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "the feed ended by itself");
    }
    let text = String::from_utf8(seen).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    Answer { status: 200, head: head.into(), body: body.into() }
}

#[tokio::test]
async fn the_description_and_the_api_name_the_same_routes_and_answers() {
    let description = Description::read();
    let described: BTreeSet<_> = description.operations().map(|(m, p, _)| (m, p)).collect();
    let routes: BTreeSet<_> =
        ROUTES.iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(described, routes);
    let documented: BTreeSet<_> = description
        .operations()
        .flat_map(|(method, path, operation)| {
            let responses = operation["responses"].as_object().unwrap().keys();
            let status = |status: &String| status.parse().expect("a status");
            let all: Vec<_> =
                responses.map(|s| (method.clone(), path.clone(), status(s))).collect();
            all
        })
        .collect();

    let plain = Running::start().await;
    let token = AdminAccess { token: AdminToken::parse("s3cret").ok(), origins: Vec::new() };
    let locked = Running::with(Arc::default(), token).await;
    let unready = Running::of(Fake { unready: Some("no upstream"), ..Fake::default() }).await;
    let (unblock, blocked) = std::sync::mpsc::channel();
    let stuck = Fake { stuck: Some(std::sync::Mutex::new(blocked)), ..Fake::default() };
    let stuck = Running::of(stuck).await;

    let mut tour = Tour { description, seen: BTreeSet::new() };
    for (method, path) in &routes {
        let route = (method.as_str(), path.as_str());
        let concrete = path.replace("{id}", "7").replace("{node}", "edge-1");
        tour.visit_as(plain.admin, route, &concrete, "", "").await;
        let foreign = "Origin: http://evil.example\r\n";
        tour.visit_as(plain.admin, route, &concrete, foreign, "").await;
        let knows = if is_feed(&concrete) { "X: y\r\n" } else { "" };
        tour.visit_as(locked.admin, route, &concrete, knows, "").await;
        // The feed of the tree goes on when the node does; that of one node has to find it first.
        if path != "/api/v1/nodes/watch" {
            let knows = if is_feed(&concrete) { "X: y\r\n" } else { "" };
            tour.visit_as(stuck.admin, route, &concrete, knows, "").await;
        }
    }
    tour.visit(unready.admin, ("GET", "/ready"), "", "").await;
    for id in ["8", "%ff"] {
        let path = format!("/api/v1/sessions/{id}");
        let route = ("DELETE", "/api/v1/sessions/{id}");
        tour.visit_as(plain.admin, route, &path, "", "").await;
    }
    for path in ["/api/v1/nodes/{node}", "/api/v1/nodes/{node}/watch"] {
        for name in ["nobody", "%ff"] {
            let concrete = path.replace("{node}", name);
            tour.visit_as(plain.admin, ("GET", path), &concrete, "X: y\r\n", "").await;
        }
    }
    let drain = ("POST", "/api/v1/drain");
    tour.visit(plain.admin, drain, "", "[").await;
    tour.visit(plain.admin, drain, "", &"x".repeat(20_000)).await;
    let open = "Accept: application/openmetrics-text\r\n";
    tour.visit(plain.admin, ("GET", "/metrics"), open, "").await;
    drop(unblock);

    let difference: Vec<_> = documented.symmetric_difference(&tour.seen).collect();
    assert!(difference.is_empty(), "described or seen, not both: {difference:?}");
}

#[test]
fn the_description_knows_every_word_of_the_api() {
    let description = Description::read();
    let schemas = &description.0["components"]["schemas"];
    let words = |values: &Value| -> Vec<String> {
        values.as_array().unwrap().iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        words(&schemas["Drops"]["propertyNames"]["enum"]),
        DropReason::ALL.map(|reason| reason.as_str().to_owned())
    );
    let full = NodeSnapshot {
        parent: Some("root".into()),
        reason: Some("because".into()),
        upstream: vec![UpstreamSnapshot {
            error: Some("no".into()),
            ..snapshot().upstream[0].clone()
        }],
        tracks: vec![stats::TrackSnapshot {
            largest: Some([1, 2]),
            group_ms: Some(2000.0),
            hop_latency_ms: Some(Percentiles::default()),
            latency_ms: Some(Percentiles::default()),
            latency_error_ms: Some(0.5),
            inter_arrival_ms: Some(Percentiles::default()),
            drops: Some(snapshot().drops),
            groups: vec![stats::GroupSnapshot::default()],
            ..Default::default()
        }],
        tracks_total: Some(20),
        certificate_expires: "2026-01-01T00:00:00Z".parse().ok(),
        clock_offset_ms: Some(-0.5),
        clock_error_ms: Some(0.5),
        udp_buffers: Some(stats::UdpBuffers::default()),
        seen: Some(stats::SeenSnapshot {
            latency_ms: Some(Percentiles::default()),
            latency_error_ms: Some(0.5),
            join_ms: Some(200.0),
            ..Default::default()
        }),
        sessions: vec![stats::SessionSnapshot {
            name: Some("edge".to_owned()),
            age_s: Some(1.5),
            rtt_ms: Some(1.5),
            objects_out: Some(1),
            queued_bytes: Some(1),
            queued_objects: Some(1),
            behind_ms: Some(1),
            drops: snapshot().drops,
            ..Default::default()
        }],
        ..snapshot()
    };
    let shown = serde_json::to_value(&full).unwrap();
    description.check(&schemas["Node"], &shown, "Node");
    // What is described and never shown would be a promise that nobody keeps.
    for (schema, shown) in [
        ("Node", &shown),
        ("Upstream", &shown["upstream"][0]),
        ("Track", &shown["tracks"][0]),
        ("Session", &shown["sessions"][0]),
        ("UdpBuffers", &shown["udp_buffers"]),
        ("Seen", &shown["seen"]),
        ("Percentiles", &shown["tracks"][0]["latency_ms"]),
        ("Group", &shown["tracks"][0]["groups"][0]),
    ] {
        for name in schemas[schema]["properties"].as_object().unwrap().keys() {
            assert!(shown.get(name).is_some(), "{schema}: {name} is never there");
        }
    }
}
