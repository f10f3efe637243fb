use proptest::prelude::*;
use stats::{
    DropCounts, DropReason, GroupSnapshot, NodeState, SeenSnapshot, SessionKind, SessionSnapshot,
    Transport, UdpBuffers, UpstreamSnapshot, UpstreamState,
};

use super::*;

/// Figures that look like measured ones: no two alike, all digits used.
struct Figures(u64);

impl Figures {
    fn whole(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 16) % below
    }

    fn time(&mut self, below: f64) -> f64 {
        self.whole(1 << 40) as f64 / (1u64 << 40) as f64 * below
    }

    fn spread(&mut self, below: f64) -> Option<Percentiles> {
        let p50 = self.time(below);
        Some(Percentiles { p50, p95: p50 + self.time(below) })
    }

    fn drops(&mut self) -> stats::Drops {
        let mut drops = stats::Drops::default();
        for reason in [DropReason::DeliveryTimeout, DropReason::TooFarBehind] {
            let objects = self.whole(100_000);
            let groups = objects / 11;
            drops[reason] = DropCounts { groups, objects, bytes: objects * 2477 };
        }
        drops
    }

    fn track(&mut self, name: String) -> TrackSnapshot {
        let bytes = self.whole(1 << 36);
        TrackSnapshot {
            name,
            subscribers: 1000,
            bytes_in: bytes,
            bytes_out: bytes * 997,
            largest: Some([self.whole(1 << 40), self.whole(60)]),
            group_ms: Some(2000.0 + self.time(1.0)),
            hop_latency_ms: self.spread(30.0),
            latency_ms: self.spread(300.0),
            latency_error_ms: Some(self.time(3.0)),
            inter_arrival_ms: self.spread(40.0),
            drops: Some(self.drops()),
            groups: (0..8)
                .map(|group| GroupSnapshot {
                    group: 88_123 + group,
                    objects: 60,
                    bytes: self.whole(1 << 20),
                    offered: 60_000,
                    sent: self.whole(60_000),
                })
                .collect(),
        }
    }

    fn session(&mut self, nth: usize) -> SessionSnapshot {
        let address = [self.whole(200), self.whole(250), self.whole(250), self.whole(250)];
        let address = address.map(|part| part.to_string()).join(".");
        SessionSnapshot {
            id: (nth * 7 + 12).to_string(),
            kind: SessionKind::Viewer,
            transport: Transport::WebTransport,
            protocol: "moqt-18".into(),
            remote: format!("{address}:{}", 1024 + self.whole(64_000)),
            name: None,
            age_s: Some(self.time(9000.0)),
            rtt_ms: Some(self.time(90.0)),
            bytes_out: self.whole(1 << 32),
            objects_out: Some(self.whole(1 << 18)),
            queued_bytes: Some(self.whole(200_000)),
            queued_objects: Some(self.whole(60)),
            behind_ms: Some(self.whole(2000)),
            drops: self.drops(),
        }
    }

    /// A node in the middle of a tree, all that can be known of it.
    fn node(&mut self, tracks: usize, sessions: usize) -> NodeSnapshot {
        let names = ["video0", "audio0", "video1", "audio1"];
        let names = (0..tracks).map(|at| format!("live/camera-{}/{}", at / 4, names[at % 4]));
        NodeSnapshot {
            node: "edge-fra-2".into(),
            parent: Some("eu-central".into()),
            state: NodeState::Ok,
            uptime_s: self.time(90_000.0),
            version: "0.1.0".into(),
            viewers: sessions as u64,
            upstream: (1..3)
                .map(|at| UpstreamSnapshot {
                    url: format!("moqt://eu-central-{at}.example.org:4433"),
                    state: UpstreamState::Connected,
                    rtt_ms: Some(self.time(20.0)),
                    error: None,
                    connects: Some(at),
                })
                .collect(),
            bytes_in: self.whole(1 << 38),
            bytes_out: self.whole(1 << 46),
            objects_in: self.whole(1 << 28),
            objects_out: self.whole(1 << 36),
            drops: self.drops(),
            tracks: names.map(|name| self.track(name)).collect(),
            sessions: (0..sessions).map(|nth| self.session(nth)).collect(),
            certificate_expires: "2026-03-01T12:34:56.789Z".parse().ok(),
            clock_offset_ms: Some(self.time(5.0)),
            clock_error_ms: Some(self.time(2.0)),
            udp_buffers: Some(UdpBuffers { receive: 212_992, send: 212_992, wanted: 4_194_304 }),
            seen: Some(SeenSnapshot {
                viewers: sessions as u64,
                latency_ms: self.spread(400.0),
                latency_error_ms: Some(self.time(3.0)),
                join_ms: Some(self.time(300.0)),
                stalls: self.whole(1000),
                stalled_ms: self.whole(1_000_000),
                frames_dropped: self.whole(100_000),
            }),
            ..NodeSnapshot::default()
        }
    }
}

#[test]
fn a_node_with_a_thousand_viewers_reports_within_its_budget() {
    let mut figures = Figures(7);
    let sizes: Vec<usize> =
        (0..50).map(|_| Kind::Report.encode(figures.node(4, 1000)).len()).collect();
    assert!(sizes.iter().all(|size| *size <= BUDGET), "{sizes:?}");
}

#[test]
fn a_node_with_many_tracks_reports_its_busiest_and_how_many_there_are() {
    let mut figures = Figures(3);
    let mut node = figures.node(200, 10);
    node.tracks.push(figures.track("weir/nodes/edge-1/snapshot".into()));
    for track in &mut node.tracks {
        track.subscribers = u64::from(track.name.contains("camera-7/"));
    }
    let report = Kind::Report.decode(&Kind::Report.encode(node.clone())).unwrap();
    assert_eq!((report.tracks.len(), report.tracks_total), (16, Some(201)));
    assert_eq!(report.tracks.iter().filter(|track| track.name.contains("camera-7/")).count(), 4);
    assert!(report.tracks.iter().all(|track| track.groups.is_empty()));
    assert!(report.tracks.iter().all(|track| !track.name.starts_with("weir/")));
    let detail = Kind::Detail.decode(&Kind::Detail.encode(node)).unwrap();
    assert_eq!((detail.tracks.len(), detail.tracks_total), (201, None));
    assert_eq!(detail.tracks[0].groups.len(), 8);
}

#[test]
fn those_that_are_worst_off_are_listed() {
    let mut node = Figures(5).node(1, 1000);
    for (nth, session) in node.sessions.iter_mut().enumerate() {
        (session.behind_ms, session.queued_bytes) = (Some(0), Some(0));
        session.drops = stats::Drops::default();
        match nth {
            500 => session.behind_ms = Some(20),
            600 => session.queued_bytes = Some(1),
            700 => session.drops[DropReason::DeliveryTimeout].objects = 1,
            _ => {}
        }
    }
    let ids: Vec<String> = [500, 600, 700].map(|nth| node.sessions[nth].id.clone()).into();
    let report = Kind::Report.decode(&Kind::Report.encode(node)).unwrap();
    assert_eq!((report.sessions.len(), report.viewers), (8, 1000));
    let listed: Vec<_> = report.sessions.into_iter().take(3).map(|session| session.id).collect();
    assert_eq!(listed, ids);
}

#[test]
fn what_is_sent_is_what_is_read_but_for_digits_that_nobody_reads() {
    let mut node = Figures(11).node(4, 8);
    node.sessions.sort_by_key(|session| Reverse((session.behind_ms, session.queued_bytes)));
    node.tracks.sort_by(|a, b| a.name.cmp(&b.name));
    let read = Kind::Detail.decode(&Kind::Detail.encode(node.clone())).unwrap();
    assert!((read.uptime_s - node.uptime_s).abs() <= 0.0005);
    round(&mut node);
    assert_eq!(read, node);
}

#[test]
fn what_nodes_sent_before_is_read_too() {
    let node = Figures(13).node(2, 2);
    let json = serde_json::to_vec(&node).unwrap();
    assert_eq!(json[0], b'{');
    let read = Kind::Report.decode(&json).unwrap();
    assert_eq!((read.bytes_out, read.sessions.len()), (node.bytes_out, 2));
    assert_ne!(Kind::Report.encode(node)[0], b'{');
}

#[test]
fn inflating_is_bounded() {
    let bomb =
        deflate(&[&b"{\"node\":\""[..], &vec![b'x'; 64 << 20]].concat(), Compression::best());
    assert!(bomb.len() < 100_000);
    for kind in [Kind::Report, Kind::Detail] {
        let error = kind.decode(&bomb).unwrap_err();
        assert!(matches!(error, ReportError::TooLong(longest) if longest == kind.longest()));
    }
}

/// Names of tracks are whatever a publisher says, up to 4 KiB each.
#[test]
fn long_names_make_it_list_less_and_never_too_long() {
    let mut figures = Figures(17);
    let mut node = figures.node(0, 0);
    let long = |nth: usize| format!("{nth}/{}", "\u{1}".repeat(4000));
    node.tracks = (0..1000).map(|nth| figures.track(long(nth))).collect();
    for kind in [Kind::Report, Kind::Detail] {
        let read = kind.decode(&kind.encode(node.clone())).unwrap();
        assert!(!read.tracks.is_empty() && read.tracks.len() < kind.bounds().0);
        assert_eq!(read.tracks_total, Some(1000));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn nonsense_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Kind::Report.decode(&bytes);
        prop_assert!(Kind::Detail.decode(&deflate(&bytes, Compression::fast())).is_err());
        let _ = Kind::Report.decode(&[&[DICTIONARY_1], &bytes[..]].concat());
    }

    #[test]
    fn whatever_is_deflated_is_inflated_again(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'0')], 0..5000),
    ) {
        let deflated = deflate(&bytes, Compression::best());
        prop_assert_eq!(inflate(&deflated[1..], 5000).unwrap(), bytes);
    }

    #[test]
    fn a_report_with_a_fault_in_it_is_refused_or_read(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut bytes = Kind::Report.encode(Figures(1).node(2, 4));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let _ = Kind::Report.decode(&bytes);
        let _ = Kind::Report.decode(&bytes[..at]);
    }
}
