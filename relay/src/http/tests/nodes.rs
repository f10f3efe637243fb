//! One node of the tree, and what happens below.

use std::time::Instant;

use super::*;

fn child(viewers: u64, state: NodeState) -> NodeSnapshot {
    NodeSnapshot { node: "low / 1".into(), state, viewers, ..NodeSnapshot::default() }
}

/// A relay with that node below, which tells this when somebody looks.
async fn above(state: NodeState, detail: Option<(Duration, u64)>) -> (Running, Arc<Fake>) {
    let view = Fake { child: Some(child(1, state)), ..Fake::default() };
    view.below.send_replace(detail.map(|(ago, viewers)| Detail {
        at: Instant::now().checked_sub(ago).unwrap(),
        node: Arc::new(child(viewers, NodeState::Ok)),
    }));
    let view = Arc::new(view);
    (Running::with(Arc::clone(&view), AdminAccess::default()).await, view)
}

const PATH: &str = "/api/v1/nodes/low%20%2F%201";

#[tokio::test]
async fn a_node_below_tells_more_than_it_reports_and_is_let_go_of_again() {
    let (relay, view) = above(NodeState::Ok, Some((Duration::ZERO, 1000))).await;
    let answer = get(relay.admin, PATH).await;
    assert_eq!((answer.status, &answer.json()["viewers"]), (200, &Value::from(1000)));
    assert_eq!(view.below.receiver_count(), 0, "nobody looks any more");
}

#[tokio::test]
async fn a_node_that_tells_nothing_or_is_down_is_as_it_was_reported() {
    let now = Duration::ZERO;
    for (state, detail) in [
        (NodeState::Ok, None),
        (NodeState::Ok, Some((Duration::from_secs(9), 1000))),
        (NodeState::Down, Some((now, 1000))),
    ] {
        let (relay, _view) = above(state, detail).await;
        let answer = get(relay.admin, PATH).await;
        assert_eq!((answer.status, &answer.json()["viewers"]), (200, &Value::from(1)));
    }
}

#[tokio::test]
async fn the_asked_node_tells_of_itself_at_once() {
    let (relay, view) = above(NodeState::Ok, None).await;
    let answer = get(relay.admin, "/api/v1/nodes/edge-1").await;
    assert_eq!(answer.json()["viewers"], 3);
    assert_eq!(view.below.receiver_count(), 0);
}

/// The lines of a feed.
struct Lines {
    stream: TcpStream,
    read: String,
}

impl Lines {
    async fn of(addr: SocketAddr, path: &str) -> Self {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        // Without chunks the lines are all there is after the head.
        let head = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut lines = Self { stream, read: String::new() };
        while lines.next().await != "\r" {}
        lines
    }

    async fn next(&mut self) -> String {
        while !self.read.contains('\n') {
            let mut bytes = [0; 4096];
            let read = self.stream.read(&mut bytes).await.unwrap();
            assert_ne!(read, 0, "the feed ended: {}", self.read);
            self.read.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
        let (line, rest) = self.read.split_once('\n').unwrap();
        let line = line.to_owned();
        self.read = rest.to_owned();
        line
    }

    async fn viewers(&mut self) -> u64 {
        let line: Value = serde_json::from_str(&self.next().await).unwrap();
        line["viewers"].as_u64().unwrap()
    }
}

#[tokio::test]
async fn who_watches_a_node_gets_a_line_whenever_it_tells_something() {
    let (relay, view) = above(NodeState::Ok, None).await;
    let mut lines = Lines::of(relay.admin, &format!("{PATH}/watch")).await;
    assert_eq!(lines.viewers().await, 1, "what it reported, until it tells more");
    let begun = Instant::now();
    for viewers in 10..30 {
        let node = Arc::new(child(viewers, NodeState::Ok));
        view.below.send_replace(Some(Detail { at: Instant::now(), node }));
        while lines.viewers().await != viewers {}
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "not only once a second");
    assert!(view.below.receiver_count() > 0);
    drop(lines);
    while view.below.receiver_count() > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn news_of_the_tree_comes_at_once_and_not_with_the_next_second() {
    let (relay, view) = above(NodeState::Ok, None).await;
    let mut lines = Lines::of(relay.admin, "/api/v1/nodes/watch").await;
    lines.next().await;
    let begun = Instant::now();
    for _ in 0..20 {
        view.news.send_modify(|count| *count += 1);
        lines.next().await;
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}
