//! What is wrong ends in words that help, with the right code, and never in a hang.

use crate::process::{Ended, Publisher, fixture};
use crate::relay::Relay;

async fn ended(args: &[&str]) -> Ended {
    Publisher::start(args, false).ended().await
}

fn assert_says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!(ended.code, Some(code), "{}", ended.log);
    for word in words {
        assert!(ended.log.contains(word), "{word:?} in {}", ended.log);
    }
}

#[tokio::test]
async fn wrong_usage_is_code_2() {
    assert_says(&ended(&[]).await, 2, &["--url SOURCE is missing"]);
    assert_says(&ended(&["--url", "test:?sise=1x1"]).await, 2, &["did you mean `size`"]);
    assert_says(&ended(&["--urll", "test:"]).await, 2, &["--url"]);
    assert_says(&ended(&["--url", "rtsp://cam/1"]).await, 2, &["rtsp:", "ffmpeg -i"]);
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "nmae = \"live/x\"").expect("written");
    let path = file.path().to_str().expect("a path");
    assert_says(&ended(&["--config", path]).await, 2, &["nmae", "did you mean `name`"]);
}

#[tokio::test]
async fn help_is_code_0() {
    assert_eq!(ended(&["--help"]).await.code, Some(0));
}

#[tokio::test]
async fn a_source_that_is_no_media_is_named() {
    let text = tempfile::NamedTempFile::with_suffix(".mp4").expect("a file");
    std::fs::write(text.path(), "no media at all. ".repeat(100)).expect("written");
    let path = text.path().to_str().expect("a path");
    assert_says(&ended(&["--url", path]).await, 1, &[path, "no media known here"]);
    assert_says(&ended(&["--url", "-"]).await, 1, &["standard input: it ended", "ffmpeg"]);
    let missing = ended(&["--url", "/no/such/file.ts"]).await;
    assert_says(&missing, 1, &["/no/such/file.ts: No such"]);
    assert_says(&ended(&["--url", "/"]).await, 1, &["directory"]);
}

#[tokio::test]
async fn the_log_holds_what_weir_log_says() {
    let args = ["--url", "/no/such/file.ts"];
    assert!(ended(&args).await.log.contains("INFO"));
    let quiet = Publisher::start_with(&[("WEIR_LOG", "error")], &args, false).ended().await;
    assert!(quiet.log.contains("ERROR") && !quiet.log.contains("INFO"), "{}", quiet.log);
}

#[tokio::test]
async fn an_unsupported_codec_is_named_with_advice() {
    let path = fixture("mpeg2_mp2.ts");
    assert_says(&ended(&["--url", &path]).await, 1, &["MPEG-2 video", "ffmpeg -i"]);
}

#[tokio::test]
async fn a_broken_box_is_named_with_its_place() {
    let mut media = std::fs::read(fixture("h264_aac_frag.mp4")).expect("a fixture");
    let at = media.windows(4).position(|kind| kind == b"trun").expect("a trun") - 4;
    media[at..at + 4].copy_from_slice(&[0, 0xff, 0, 0]);
    let file = tempfile::NamedTempFile::with_suffix(".mp4").expect("a file");
    std::fs::write(file.path(), media).expect("written");
    let path = file.path().to_str().expect("a path");
    assert_says(&ended(&["--url", path]).await, 1, &["`trun`", &format!("byte {at}")]);
    std::fs::write(file.path(), b"\0\0\0\x10ftypiso5\0\0\0\0").expect("written");
    assert_says(&ended(&["--url", path]).await, 1, &[path, "`moov`", "not finished"]);
}

#[tokio::test]
async fn a_relay_with_another_certificate_is_refused_at_once() {
    let relay = Relay::new();
    let wrong = "00".repeat(32);
    let args = ["--url", "test:", "--relay", &relay.url, "--tls-fingerprint", &wrong];
    let (ended, ()) = tokio::join!(ended(&args), relay.turned_down());
    assert_says(&ended, 1, &["fingerprint", &relay.fingerprint]);
}

#[tokio::test]
async fn a_relay_that_is_not_there_is_given_up_after_a_while() {
    // A port that nobody answers at: bound here, and never read.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let url = format!("moqt://127.0.0.1:{}", socket.local_addr().expect("an address").port());
    let ended = ended(&["--url", "test:?size=320x180", "--relay", &url]).await;
    assert_says(&ended, 1, &["no relay at", &url, "trying again"]);
    let last = ended.log.lines().last().unwrap_or_default();
    assert_eq!(last.matches('?').count(), 1, "asks once: {last}");
}

#[tokio::test]
async fn a_server_that_has_no_such_stream_is_an_error_at_once() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let url = format!("http://me:secret@{address}/tv.ts");
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a client");
        let _ = stream.read(&mut [0; 2048]).await;
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    });
    let ended = ended(&["--url", &url]).await;
    assert_says(&ended, 1, &[&format!("http://{address}/tv.ts: the server answers 404")]);
    assert!(!ended.log.contains("secret"), "{}", ended.log);
}
