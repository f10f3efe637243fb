//! Peers that misbehave are let go with the draft's code, and nobody else notices.

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Machine, Relay, Subscriber, closed_with, connect_raw, setup, within};
use moqt::{Message, Namespace, SessionCode, Setup, Version};
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use transport::publish::{Broadcast, TrackOptions};

/// Objects in each group of what the healthy viewer watches.
const GROUP: u64 = 25;

/// A publisher and a viewer who gets every object right after it was written, or fails the test.
struct Healthy {
    seen: watch::Receiver<u64>,
    task: JoinHandle<()>,
}

impl Healthy {
    async fn watch(relay: &Relay) -> Self {
        let broadcast = Broadcast::new(Namespace::from_path("live/healthy").unwrap());
        let mut track = broadcast.create_track("video", TrackOptions::default());
        let publication = common::publish(&broadcast, &relay.address()).await;
        track.begin_group(0);
        common::write(&mut track, (0, 0, 0));
        let name = common::track_name("live/healthy", "video");
        let mut viewer = Subscriber::subscribe(relay, &name).await;
        let (count, seen) = watch::channel(0);
        let task = tokio::spawn(async move {
            let _publication = publication;
            for index in 0.. {
                let (group, id) = (index / GROUP, index % GROUP);
                if index > 0 {
                    if id == 0 {
                        track.begin_group(group);
                    }
                    common::write(&mut track, (group, 0, id));
                }
                viewer.expect((group, 0, id)).await;
                count.send_replace(index + 1);
            }
        });
        Self { seen, task }
    }

    /// Waits until the viewer has seen so many objects more.
    async fn sees(&mut self, more: u64) {
        let enough = *self.seen.borrow() + more;
        within("the healthy viewer", self.seen.wait_for(|seen| *seen >= enough))
            .await
            .expect("the healthy viewer failed");
    }

    /// Ends it; it must not have failed.
    async fn end(mut self) {
        self.sees(GROUP).await;
        self.task.abort();
        let ended = self.task.await;
        assert!(ended.is_err_and(|error| error.is_cancelled()), "the healthy viewer failed");
    }
}

fn client() -> quinn::Endpoint {
    quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
}

/// What becomes of a stream once its bytes were written.
#[derive(Clone, Copy)]
enum End {
    Open,
    Fin,
}

/// A stream that a peer opens, and what it writes to it.
enum Stream {
    Uni(Vec<u8>, End),
    Bi(Vec<u8>, End),
}

/// A message of this type with any payload.
fn message(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = bytes::BytesMut::new();
    Version::Draft18.int_coding().write(&mut bytes, kind);
    bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes.to_vec()
}

fn setup_with(options: Setup) -> Vec<u8> {
    moqt::codec::to_bytes(Version::Draft18, &Message::Setup(options)).unwrap().to_vec()
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

const SETUP: u64 = 0x2f00;
const GOAWAY: u64 = 0x10;
const SUBSCRIBE: u64 = 0x03;

/// What a peer does wrong, and the code that it is closed with.
fn misdeeds() -> Vec<(&'static str, Vec<Stream>, SessionCode)> {
    use End::{Fin, Open};
    use Stream::{Bi, Uni};
    let violation = SessionCode::PROTOCOL_VIOLATION;
    let control = || Uni(setup(), Open);
    // All of a message but its end.
    let cut = |mut bytes: Vec<u8>| {
        bytes.pop();
        bytes
    };
    let long_setup =
        setup_with(Setup { implementation: Some(vec![b'x'; 100].into()), ..Setup::default() });
    let bad_path = setup_with(Setup { path: Some("no slash".into()), ..Setup::default() });
    // Namespace of one field, one track name, no parameters; a client's IDs are even.
    let odd_request = message(SUBSCRIBE, &[1, 1, 1, b'n', 1, b't', 0]);
    vec![
        ("an unknown type of stream", vec![control(), Uni(vec![0x07, 1, 2, 3], Open)], violation),
        ("an unknown type as the first stream", vec![Uni(vec![0x7f; 64], Fin)], violation),
        ("a control stream that ends in SETUP", vec![Uni(cut(long_setup), Fin)], violation),
        ("a control stream that ends after SETUP", vec![Uni(setup(), Fin)], violation),
        ("SETUP full of noise", vec![Uni(message(SETUP, &[0xff; 40]), Open)], violation),
        ("SETUP as long as can be", vec![Uni(message(SETUP, &[0xff; 65_535]), Open)], violation),
        ("SETUP twice", vec![Uni(joined(&[&setup(), &setup()]), Open)], violation),
        ("two control streams", vec![control(), control()], violation),
        ("a path that is none", vec![Uni(bad_path, Open)], SessionCode::MALFORMED_PATH),
        (
            "an unknown control message",
            vec![Uni(joined(&[&setup(), &message(0x3f, &[0; 9])]), Open)],
            violation,
        ),
        (
            "GOAWAY with more after its end",
            vec![Uni(joined(&[&setup(), &message(GOAWAY, &[0; 60_000])]), Open)],
            violation,
        ),
        (
            "a request on the control stream",
            vec![Uni(joined(&[&setup(), &odd_request]), Open)],
            violation,
        ),
        ("a request stream with no message", vec![control(), Bi(vec![], Fin)], violation),
        ("a request stream cut off", vec![control(), Bi(cut(odd_request.clone()), Fin)], violation),
        (
            "a request stream that begins with an answer",
            vec![control(), Bi(message(0x07, &[0]), Open)],
            violation,
        ),
        (
            "a request of the wrong parity",
            vec![control(), Bi(odd_request, Open)],
            SessionCode::INVALID_REQUEST_ID,
        ),
        (
            // The stream alone is turned away at once; the session goes for want of a SETUP.
            "a request far ahead of SETUP",
            vec![Bi(message(SUBSCRIBE, &[0; 65_535]).repeat(2), Open)],
            SessionCode::CONTROL_MESSAGE_TIMEOUT,
        ),
        ("a request stream of noise", vec![control(), Bi(vec![0xaa; 5_000], Open)], violation),
    ]
}

/// Opens a stream as told; a relay that closes meanwhile ends it early.
async fn open(connection: &quinn::Connection, stream: &Stream) -> Option<()> {
    let (mut send, answers, bytes, end) = match stream {
        Stream::Uni(bytes, end) => (connection.open_uni().await.ok()?, None, bytes, *end),
        Stream::Bi(bytes, end) => {
            let (send, answers) = connection.open_bi().await.ok()?;
            (send, Some(answers), bytes, *end)
        }
    };
    send.write_all(bytes).await.ok()?;
    match end {
        End::Open => {}
        End::Fin => send.finish().ok()?,
    }
    // To drop one side would finish it, and the other would ask the relay to stop.
    let connection = connection.clone();
    tokio::spawn(async move {
        connection.closed().await;
        drop((send, answers));
    });
    Some(())
}

#[tokio::test]
async fn misdeeds_end_the_session_with_their_code_and_harm_nobody_else() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut healthy = Healthy::watch(&relay).await;
    let endpoint = client();
    for (what, streams, code) in misdeeds() {
        let connection = connect_raw(&relay, &endpoint).await.unwrap();
        for stream in &streams {
            within(what, open(&connection, stream)).await;
        }
        let (closed, reason) = closed_with(&connection).await;
        assert_eq!(closed, code, "{what}: {reason}");
        assert!(!reason.is_empty(), "{what} is not told what was wrong");
        healthy.sees(3).await;
    }
    healthy.end().await;
}

#[tokio::test]
async fn random_datagrams_to_the_port_harm_nobody() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut healthy = Healthy::watch(&relay).await;
    let mut random = rand::rngs::StdRng::seed_from_u64(18);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for round in 0..40 {
        for _ in 0..50 {
            let mut datagram = vec![0; random.random_range(0..1_500)];
            random.fill_bytes(&mut datagram);
            // Most look like the start of a connection of QUIC version 1, to get further in.
            if let Some(start) = datagram.first_chunk_mut::<5>()
                && round % 4 != 0
            {
                *start = [0xc0 | start[0], 0, 0, 0, 1];
            }
            socket.send_to(&datagram, relay.listen).unwrap();
        }
        healthy.sees(1).await;
    }
    // Newcomers find the door open too.
    Subscriber::subscribe(&relay, &common::track_name("live/healthy", "video")).await;
    healthy.end().await;
}

#[tokio::test]
async fn two_hundred_connections_that_say_nothing_are_let_go() {
    const IDLE: usize = 200;
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut healthy = Healthy::watch(&relay).await;
    let endpoint = client();
    let mut idle = Vec::new();
    for index in 0..IDLE {
        let connection = connect_raw(&relay, &endpoint).await.unwrap();
        // Some begin to say what they are, and go no further.
        if index % 2 == 0 {
            let half = Stream::Uni(vec![0xef], if index % 4 == 0 { End::Fin } else { End::Open });
            within("a stream", open(&connection, &half)).await;
        }
        idle.push(connection);
        healthy.sees(1).await;
    }
    for connection in idle {
        let (code, reason) = closed_with(&connection).await;
        assert_eq!(code, SessionCode::CONTROL_MESSAGE_TIMEOUT, "{reason}");
    }
    healthy.sees(GROUP).await;
    relay
        .snapshot_shows("the healthy two only", |node| {
            node["sessions"].as_array().is_some_and(|sessions| sessions.len() == 2)
        })
        .await;
    healthy.end().await;
}
