//! Each kind of source, from its bytes to the objects a relay gets.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use media::codec::{h264, nal};
use media::loc;
use moqt::SubgroupId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::process::{Publisher, fixture};
use crate::relay::{Object, Relay, Session};

/// Key frames in each H.264 fixture of twelve frames.
const KEYFRAMES: [u64; 3] = [0, 5, 10];

fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
    u64::try_from(since.as_micros()).expect("a clock before the year 586,000")
}

fn capture(object: &Object) -> u64 {
    object.properties.int(loc::TIMESTAMP).expect("every object has a Timestamp")
}

/// Groups begin at object 0 and count on without a gap.
fn assert_whole_groups(objects: &[Object]) {
    for pair in objects.windows(2) {
        let (a, b) = (&pair[0], &pair[1]);
        let follows = a.group == b.group && b.object == a.object + 1;
        assert!(follows || (b.group > a.group && b.object == 0), "{a:?} then {b:?}");
    }
    assert_eq!(objects.first().map(|first| first.object), Some(0));
}

/// Without the newest group: of a stream that goes on, the two subgroups of that race each other.
fn older_groups(mut objects: Vec<Object>) -> Vec<Object> {
    let newest = objects.last().map(|last| last.group);
    objects.retain(|object| Some(object.group) != newest);
    objects
}

/// The twelve frames of a fixture, in three groups.
fn assert_fixture_video(session: &Session) {
    let video = session.track("video0");
    assert_eq!(video.len(), 12);
    assert_whole_groups(&video);
    let starts: Vec<_> = (0u64..)
        .zip(&video)
        .filter(|(_, object)| object.object == 0)
        .map(|(index, _)| index)
        .collect();
    assert_eq!(starts, KEYFRAMES);
}

#[tokio::test]
async fn the_test_source_is_live_and_complete() {
    let relay = Relay::new();
    let url = "test:?size=320x180&fps=20&bitrate=400k&gop=0.5";
    let publisher = Publisher::start(&relay.args(&["--url", url]), false);
    let mut session = relay.accept().await;
    assert_eq!(session.namespace(), "live/test");
    session.collect_until(|session| session.track("video0").len() >= 25).await;
    let now = unix_us();

    let catalog = session.catalog().expect("a catalog");
    let names: Vec<_> = catalog.tracks.iter().map(|track| track.name.as_str()).collect();
    assert_eq!(names, ["video0", "audio0"]);
    let video = &catalog.tracks[0];
    assert_eq!((video.width, video.height, video.framerate), (Some(320), Some(180), Some(20.0)));
    assert!(video.codec.as_deref().is_some_and(|codec| codec.starts_with("avc3.42")));
    assert_eq!(catalog.tracks[1].codec.as_deref(), Some("opus"));

    let newest = session.track("video0").pop().map(|newest| capture(&newest)).expect("a frame");
    assert!(now - newest < 1_000_000, "the newest frame is {} µs old", now - newest);
    let video = older_groups(session.track("video0"));
    assert_whole_groups(&video);
    for object in &video {
        let upper = object.object % 2 == 1;
        assert_eq!(object.subgroup, SubgroupId::Known(upper.into()), "{object:?}");
        assert_eq!(object.priority.is_some(), upper, "{object:?}");
        assert_eq!(h264::picture(nal::annex_b(&object.payload)).discardable, upper);
        let types: Vec<_> = nal::annex_b(&object.payload).map(h264::nal_type).collect();
        assert_eq!(types.contains(&h264::NAL_SPS), object.object == 0);
        assert_eq!(types.contains(&h264::NAL_IDR), object.object == 0);
    }
    assert!(video.is_sorted_by_key(capture));

    let audio = session.track("audio0");
    assert!(audio.len() > 40, "{} audio frames", audio.len());
    assert_whole_groups(&audio);
    for pair in audio.windows(2) {
        assert_eq!(capture(&pair[1]) - capture(&pair[0]), 20_000);
    }

    publisher.terminate().await;
    session.collect_all().await;
    let last = session.catalog().expect("a catalog");
    assert!(!last.is_complete, "a publisher that is stopped may come back");
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("OpenH264]"), "{}", ended.log);
}

#[tokio::test]
async fn a_file_is_played_in_real_time_and_then_it_is_over() {
    for (file, described) in [("h264_aac.mp4", true), ("h264_aac.ts", false)] {
        let relay = Relay::new();
        let path = fixture(file);
        let publisher =
            Publisher::start(&relay.args(&["--url", &path, "--name", "live/cam1"]), false);
        let mut session = relay.accept().await;
        assert_eq!(session.namespace(), "live/cam1");
        session.collect_until(|session| session.track("video0").len() >= 2).await;
        let start = Instant::now();
        session.collect_all().await;
        // From the second of twelve frames on there is more than a second to come.
        assert!(start.elapsed() > Duration::from_millis(800), "{file} in {:?}", start.elapsed());
        let video = session.track("video0");
        // What was sent before the subscription came is gone, as live is live: at most a group.
        assert!((7..=12).contains(&video.len()), "{file}: {} frames", video.len());
        assert_whole_groups(&video);
        for object in &video {
            let config = object.properties.bytes(loc::VIDEO_CONFIG);
            assert_eq!(config.is_some(), described && object.object == 0, "{file}");
        }
        let ended = publisher.ended().await;
        assert_eq!(ended.code, Some(0), "{file}: {}", ended.log);
        assert!(ended.log.contains("the source has ended"), "{file}: {}", ended.log);
    }
}

#[tokio::test]
async fn a_looped_file_goes_on_smoothly() {
    let relay = Relay::new();
    let path = fixture("h264_aac_frag.mp4");
    let _publisher = Publisher::start(&relay.args(&["--url", &path, "--loop"]), false);
    let mut session = relay.accept().await;
    session.collect_until(|session| session.track("video0").len() >= 30).await;
    let video = older_groups(session.track("video0"));
    assert_whole_groups(&video);
    // Key frames are half a second apart, and 0.2 s at the end of each pass.
    let starts: Vec<_> = video.iter().filter(|object| object.object == 0).map(capture).collect();
    for pair in starts.windows(2) {
        let step = (pair[1] - pair[0]) / 1000;
        assert!((190..=520).contains(&step), "{step} ms between key frames");
    }
}

#[tokio::test]
async fn a_pipe_is_passed_on_as_it_comes_and_its_end_is_the_end() {
    for file in ["h264_aac.ts", "h264_aac_frag.mp4"] {
        let relay = Relay::new();
        let mut publisher = Publisher::start(&relay.args(&["--url", "-"]), true);
        let mut session = relay.accept().await;
        assert_eq!(session.namespace(), "live/stdin");
        let mut stdin = publisher.stdin();
        let media = std::fs::read(fixture(file)).expect("a fixture");
        // Enough for the tracks, so that the subscriptions are there before the rest.
        let (head, tail) = media.split_at(media.len() / 2);
        stdin.write_all(head).await.expect("written");
        session.collect_until(|session| !session.track("audio0").is_empty()).await;
        session.collect_until(|session| !session.track("video0").is_empty()).await;
        stdin.write_all(tail).await.expect("written");
        drop(stdin);
        session.collect_all().await;
        let video = session.track("video0");
        assert!(video.len() >= 5, "{file}: {} frames", video.len());
        assert!(video.iter().all(|object| capture(object) <= unix_us()));
        let ended = publisher.ended().await;
        assert_eq!(ended.code, Some(0), "{file}: {}", ended.log);
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_is_asked_again() {
    let relay = Relay::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let media = std::fs::read(fixture("h264_aac.ts")).expect("a fixture");
    let server = tokio::spawn(async move {
        let mut paths = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut request = [0; 2048];
            let size = stream.read(&mut request).await.expect("a request");
            paths.push(String::from_utf8_lossy(&request[..size]).lines().next().map(str::to_owned));
            let head = "HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n";
            stream.write_all(head.as_bytes()).await.expect("written");
            stream.write_all(&media).await.expect("written");
        }
        paths
    });
    let url = format!("http://127.0.0.1:{port}/tv/news.ts");
    let publisher = Publisher::start(&relay.args(&["--url", &url]), false);
    let mut session = relay.accept().await;
    assert_eq!(session.namespace(), "live/news");
    let paths = server.await.expect("two requests");
    assert_eq!(paths, vec![Some("GET /tv/news.ts HTTP/1.1".to_owned()); 2]);
    session.collect_until(|session| session.track("video0").len() >= 2).await;
    publisher.terminate().await;
    let ended = publisher.ended().await;
    assert_eq!(ended.code, Some(0));
    assert!(ended.log.contains("the stream has ended; trying again"), "{}", ended.log);
}

#[tokio::test]
async fn every_frame_of_a_pipe_arrives_once_the_subscription_is_there() {
    let relay = Relay::new();
    let mut publisher = Publisher::start(&relay.args(&["--url", "-"]), true);
    let mut session = relay.accept().await;
    let mut stdin = publisher.stdin();
    let media = std::fs::read(fixture("h264_aac_frag.mp4")).expect("a fixture");
    // Up to the first fragment: the tracks are known, and no frame has come.
    let starts: Vec<_> = (4..media.len() - 4)
        .filter(|at| media[*at..].starts_with(b"moof"))
        .map(|at| at - 4)
        .chain([media.len()])
        .collect();
    stdin.write_all(&media[..starts[0]]).await.expect("written");
    session.collect_until(|session| session.catalog().is_some()).await;
    session.settle().await;
    for (fragment, frames) in starts.windows(2).zip([5, 10, 12]) {
        stdin.write_all(&media[fragment[0]..fragment[1]]).await.expect("written");
        session.collect_until(|session| session.track("video0").len() == frames).await;
    }
    drop(stdin);
    session.collect_all().await;
    assert_fixture_video(&session);
    assert_eq!(publisher.ended().await.code, Some(0));
}
