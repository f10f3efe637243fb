//! `/metrics`, and the dashboard and alerts that are built on it.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use super::*;

#[tokio::test]
async fn prometheus_reads_counters_in_the_format_that_it_asks_for() {
    let relay = Running::start().await;
    let classic = get(relay.admin, "/metrics").await;
    assert!(classic.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let both = [
        "weir_sessions{kind=\"viewer\"} 3",
        "weir_sent_bytes_total 4096",
        "weir_uptime_seconds 12.5",
        "weir_dropped_objects_total{reason=\"TOO_FAR_BEHIND\"} 30",
        "weir_dropped_bytes_total{reason=\"DELIVERY_TIMEOUT\"} 0",
        "weir_node_state{state=\"ok\"} 1",
        "weir_upstream_round_trip_seconds{rank=\"1\",url=\"https://root.example/\"} 0.0015",
    ];
    for line in both {
        assert!(classic.body.lines().any(|found| found == line), "{line}: {}", classic.body);
    }
    assert!(classic.body.contains("# TYPE weir_sent_bytes_total counter\n"), "{}", classic.body);
    assert!(!classic.body.contains("# EOF") && !classic.body.contains("secret"));

    let accept = format!("Host: {}\r\nAccept: application/openmetrics-text;q=0.9\r\n", relay.admin);
    let open = request(relay.admin, "GET", "/metrics", &accept).await;
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    for line in both {
        assert!(open.body.lines().any(|found| found == line), "{line}: {}", open.body);
    }
    assert!(open.body.contains("# TYPE weir_sent_bytes counter\n"), "{}", open.body);
    assert!(open.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn every_metric_of_the_older_format_has_a_type_and_a_help() {
    let relay = Running::start().await;
    let text = get(relay.admin, "/metrics").await.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for name in samples.map(|line| line.split(['{', ' ']).next().unwrap()) {
        count += 1;
        // A histogram's samples stand under its name.
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = base
            .filter(|base| text.contains(&format!("# TYPE {base} histogram\n")))
            .unwrap_or(name);
        for what in ["TYPE", "HELP"] {
            assert!(text.contains(&format!("# {what} {name} ")), "{what} of {name}: {text}");
        }
    }
    assert!(count > 20, "{text}");
}

/// A file of `docs/`.
fn document(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name)
}

/// Every word in a text that looks like the name of a metric of ours.
fn metrics_named(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("weir_") || word.starts_with("process_"))
        .collect()
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_use_metrics_that_exist() {
    let relay = Running::of(Fake { viewers: 1, ..Fake::default() }).await;
    let text = get(relay.admin, "/metrics").await.body;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    // A histogram is named without its samples' endings, too.
    let histograms =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram"));
    let told: BTreeSet<_> =
        samples.filter_map(|line| line.split(['{', ' ']).next()).chain(histograms).collect();
    for name in ["grafana.json", "alerts.yml", "operations.md"] {
        let text = std::fs::read_to_string(document(name)).unwrap();
        let named = metrics_named(&text);
        assert!(!named.is_empty(), "{name} uses none");
        let unknown: Vec<_> = named.difference(&told).collect();
        assert!(unknown.is_empty(), "{name}: no such metrics: {unknown:?}");
    }
    let dashboard = std::fs::read_to_string(document("grafana.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
}

/// What `promtool` complains about, if it is installed (Debian's package `prometheus`).
fn promtool(arguments: &[&str], input: &str) -> Option<String> {
    let child = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    Some(said)
}

#[tokio::test]
async fn prometheus_own_checker_finds_nothing_to_say() {
    let relay = Running::start().await;
    let text = get(relay.admin, "/metrics").await.body;
    let Some(said) = promtool(&["check", "metrics"], &text) else { return };
    assert_eq!(said, "");
    promtool(&["check", "rules", document("alerts.yml").to_str().unwrap()], "");
    promtool(&["test", "rules", document("alerts.test.yml").to_str().unwrap()], "");
}

#[tokio::test]
async fn no_label_grows_with_viewers_or_tracks() {
    let series = |viewers: usize| async move {
        let relay = Running::of(Fake { viewers, ..Fake::default() }).await;
        let text = get(relay.admin, "/metrics").await.body;
        text.lines().filter(|line| !line.starts_with('#')).count()
    };
    // One, since of nobody's latency nothing is told.
    assert_eq!(series(1).await, series(500).await);
}

#[tokio::test]
async fn sessions_are_counted_by_how_far_behind_they_are() {
    let relay = Running::of(Fake { viewers: 30, ..Fake::default() }).await;
    let text = get(relay.admin, "/metrics").await.body;
    for line in [
        "weir_sessions{kind=\"parent\"} 1",
        "weir_sessions_by_transport{transport=\"quic\",protocol=\"moqt-18\"} 30",
        "weir_sessions_by_transport{transport=\"webtransport\",protocol=\"moqt-16\"} 0",
        "weir_sessions_behind{over_seconds=\"0.5\"} 24",
        "weir_sessions_behind{over_seconds=\"2\"} 9",
        "weir_behind_max_seconds 2.9",
        "weir_queued_bytes 3000",
        "weir_cached_bytes 777",
        "weir_sessions_limit 1",
        "weir_nodes{state=\"ok\"} 1",
        "weir_upstream_state{rank=\"1\",url=\"https://root.example/\",state=\"connected\"} 1",
        "weir_node_info{node=\"edge-1\",parent=\"\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn clocks_latencies_and_kernel_buffers_are_told_in_base_units() {
    let relay = Running::of(Fake { viewers: 3, ..Fake::default() }).await;
    let text = get(relay.admin, "/metrics").await.body;
    for line in [
        "weir_clock_offset_seconds -5.0",
        "weir_clock_error_seconds 0.00125",
        "weir_track_latency_max_seconds{quantile=\"0.5\"} 0.2",
        "weir_track_latency_max_seconds{quantile=\"0.95\"} 0.2",
        "weir_track_latency_error_max_seconds 0.0005",
        "weir_hop_latency_seconds_bucket{le=\"0.01\"} 1",
        "weir_hop_latency_seconds_bucket{le=\"0.1\"} 3",
        "weir_hop_latency_seconds_bucket{le=\"+Inf\"} 4",
        "weir_hop_latency_seconds_count 4",
        "weir_udp_buffer_bytes{direction=\"receive\"} 212992",
        "weir_udp_buffer_bytes{direction=\"send\"} 200000",
        "weir_udp_buffer_wanted_bytes 4194304",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn what_viewers_saw_is_told_in_histograms_and_totals() {
    let relay = Running::start().await;
    let text = get(relay.admin, "/metrics").await.body;
    for line in [
        "weir_viewers_reporting{transport=\"webtransport\"} 2",
        "weir_viewers_reporting{transport=\"websocket\"} 0",
        "weir_viewers_reporting{transport=\"unknown\"} 1",
        "weir_viewer_latency_seconds_bucket{le=\"0.05\"} 0",
        "weir_viewer_latency_seconds_bucket{le=\"0.1\"} 2",
        "weir_viewer_latency_seconds_bucket{le=\"0.15\"} 3",
        "weir_viewer_latency_seconds_bucket{le=\"10.0\"} 3",
        "weir_viewer_latency_seconds_bucket{le=\"+Inf\"} 4",
        "weir_viewer_latency_seconds_count 4",
        "weir_viewer_join_seconds_count 0",
        "weir_viewer_stalls_total 3",
        "weir_viewer_stalled_seconds_total 4.5",
        "weir_viewer_frames_dropped_total 60",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
}

#[tokio::test]
async fn the_process_and_its_certificate_are_told_of() {
    let relay = Running::start().await;
    let text = get(relay.admin, "/metrics").await.body;
    let value = |name: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}: {text}")).parse().unwrap()
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    let expires = value("weir_certificate_expiry_timestamp_seconds");
    assert!(expires > now && expires < now + 15.0 * 86_400.0, "{expires}");
    assert!((now - value("process_start_time_seconds")).abs() < 600.0);
    assert!(value("process_cpu_seconds_total") > 0.0);
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") > 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
}

#[tokio::test]
async fn a_node_that_is_stuck_still_serves_its_last_figures_and_is_not_ready() {
    let (unblock, blocked) = std::sync::mpsc::channel();
    let relay =
        Running::of(Fake { stuck: Some(std::sync::Mutex::new(blocked)), ..Fake::default() }).await;
    // One answer, then it falls silent.
    unblock.send(()).unwrap();
    assert_eq!(get(relay.admin, "/metrics").await.status, 200);
    let answer = get(relay.admin, "/metrics").await;
    assert_eq!(answer.status, 200);
    let age = answer.body.lines().find_map(|line| line.strip_prefix("weir_snapshot_age_seconds "));
    assert!(age.unwrap().parse::<f64>().unwrap() >= 1.0, "{answer:?}");
    assert_eq!(get(relay.admin, "/ready").await.status, 503);
    assert_eq!(get(relay.admin, "/health").await.status, 200);
    drop(unblock);
}
