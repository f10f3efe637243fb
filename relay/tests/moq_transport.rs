//! Somebody else's MoQT-18 and somebody else's WebTransport against our relay.
//!
//! `moq-transport` subscribes to what we publish and publishes what we subscribe to; every object
//! must come out bit by bit as it went in, as soon as it went in.

mod common;

use bytes::{Bytes, BytesMut};
use common::{Heard, Machine, Relay, Subscriber, object, within};
use moq_transport::coding::{TrackNamespace, Value};
use moq_transport::data::ExtensionHeaders;
use moq_transport::serve;
use moq_transport::session::transport::quinn as theirs;
use moq_transport::session::{self, Publisher, Session};
use moqt::{Message, Namespace, Properties, PropertyValue, PublishDoneCode, Version};
use rustls::pki_types::CertificateDer;
use tokio::sync::mpsc;
use transport::publish::{Broadcast, TrackOptions};

const NAMESPACE: &str = "live/camera";
const TRACK: &str = "video";

/// Groups, subgroups in each and objects in each of those.
const GROUPS: u64 = 5;
const SUBGROUPS: u64 = 2;
const OBJECTS: u64 = 6;

/// Group, subgroup, object.
type Place = (u64, u64, u64);

/// Every object of a group, as they are written: subgroups take turns.
fn places(group: u64) -> impl Iterator<Item = Place> {
    (0..OBJECTS).flat_map(move |id| (0..SUBGROUPS).map(move |subgroup| (group, subgroup, id)))
}

/// A session of `moq-transport`'s and the task that runs it.
async fn connect(relay: &Relay, transport: session::Transport) -> (Publisher, session::Subscriber) {
    let session = match transport {
        session::Transport::RawQuic => {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
            let connection = common::connect_raw(relay, &endpoint).await.unwrap();
            let response = theirs::proto::ConnectResponse::OK.with_protocol("moqt-18");
            theirs::Session::raw(connection, relay.url(), response)
        }
        session::Transport::WebTransport => {
            let certificate: CertificateDer<'static> = common::certificate(relay);
            let client =
                theirs::ClientBuilder::new().with_server_certificates(vec![certificate]).unwrap();
            let request = theirs::proto::ConnectRequest::new(relay.web_transport_url())
                .with_protocol("moqt-18");
            let session = within("a WebTransport session", client.connect(request)).await.unwrap();
            assert_eq!(session.response().protocol.as_deref(), Some("moqt-18"));
            session
        }
    };
    let connecting = Session::connect(session.into(), None, transport);
    let (session, publisher, subscriber) = within("SETUP", connecting).await.unwrap();
    tokio::spawn(session.run());
    (publisher, subscriber)
}

/// What `moq-transport` read of one object.
type Read = (Place, Properties, Bytes);

/// Reads a track to its end, objects in the order they become whole.
async fn read_track(track: serve::TrackReader, read: mpsc::UnboundedSender<Read>) {
    let serve::TrackReaderMode::Subgroups(mut subgroups) = track.mode().await.unwrap() else {
        panic!("our streams are taken for something else than subgroups");
    };
    while let Ok(Some(mut subgroup)) = subgroups.next().await {
        let read = read.clone();
        tokio::spawn(async move {
            let (group, id) = (subgroup.group_id, subgroup.subgroup_id);
            while let Some(mut object) = subgroup.next().await.unwrap() {
                let place = (group, id, object.object_id);
                let payload = object.read_all().await.unwrap();
                let _ = read.send((place, properties(&object.extension_headers), payload));
            }
        });
    }
}

fn properties(extensions: &ExtensionHeaders) -> Properties {
    let mut properties = Properties::new();
    for pair in &extensions.0 {
        match &pair.value {
            Value::IntValue(value) => properties.push_int(pair.key, *value),
            Value::BytesValue(value) => properties.push_bytes(pair.key, value.clone()),
        }
    }
    properties
}

fn extensions(properties: &Properties) -> ExtensionHeaders {
    let mut extensions = ExtensionHeaders::new();
    for (kind, value) in properties.iter() {
        match value {
            PropertyValue::Int(value) => extensions.set_intvalue(kind, *value),
            PropertyValue::Bytes(value) => extensions.set_bytesvalue(kind, value.to_vec()),
        }
    }
    extensions
}

/// We publish, `moq-transport` subscribes: it joins inside a group, gets that group from its start
/// and everything after as it is written.
async fn they_read_what_we_publish(transport: session::Transport) {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let broadcast = Broadcast::new(Namespace::from_path(NAMESPACE).unwrap());
    let mut track = broadcast.create_track(TRACK, TrackOptions { priority: 7 });
    let _publication = common::publish(&broadcast, &relay.address()).await;

    let (early, late) = (places(0).take(5), places(0).skip(5));
    track.begin_group(0);
    early.for_each(|place| common::write(&mut track, place));

    let (_publisher, mut subscriber) = connect(&relay, transport).await;
    let name = TrackNamespace::from_utf8_path(NAMESPACE);
    let (writer, reader) = serve::Track::new(name, TRACK).produce();
    let subscription =
        within("SUBSCRIBE_OK", subscriber.subscribe_open(writer)).await.expect("subscribed");
    let (read, mut objects) = mpsc::unbounded_channel();
    tokio::spawn(read_track(reader, read));
    let mut next = async || within("the next object", objects.recv()).await.expect("an object");

    // What was there before comes by two streams at once, so in any order.
    let mut joined = Vec::new();
    for _ in 0..5 {
        let (place, properties, payload) = next().await;
        assert!((properties, payload) == object(place), "object {place:?} differs");
        joined.push(place);
    }
    joined.sort_unstable_by_key(|(_, subgroup, id)| (*id, *subgroup));
    assert_eq!(joined, places(0).take(5).collect::<Vec<_>>());

    // From here on each object must arrive before the next one is written.
    for place in late.chain((1..GROUPS).flat_map(places)) {
        if (place.1, place.2) == (0, 0) {
            track.begin_group(place.0);
        }
        common::write(&mut track, place);
        let (arrived, properties, payload) = next().await;
        let (wanted_properties, wanted) = object(place);
        assert_eq!((arrived, properties), (place, wanted_properties));
        assert!(payload == wanted, "the payload of {place:?} differs");
    }

    track.end();
    let _ = within("the track to end", subscription.closed()).await;
    let done = subscription.publish_done().expect("PUBLISH_DONE");
    assert_eq!(done.status_code, PublishDoneCode::TRACK_ENDED.0);
    assert_eq!(done.stream_count, GROUPS * SUBGROUPS);
}

#[tokio::test]
async fn an_independent_subscriber_reads_every_object_over_quic() {
    they_read_what_we_publish(session::Transport::RawQuic).await;
}

#[tokio::test]
async fn an_independent_subscriber_reads_every_object_over_web_transport() {
    they_read_what_we_publish(session::Transport::WebTransport).await;
}

/// `moq-transport` publishes, we subscribe.
async fn we_read_what_they_publish(transport: session::Transport) {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let (mut publisher, _subscriber) = connect(&relay, transport).await;
    let name = TrackNamespace::from_utf8_path(NAMESPACE);
    let (mut tracks, _requests, reader) = serve::Tracks::new(name).produce();
    let mut subgroups = tracks.create(TRACK).expect("a new track").subgroups().unwrap();
    tokio::spawn(async move { publisher.publish_namespace(reader).await });
    relay.snapshot_shows("the publisher", |node| node["publishers"].as_u64() == Some(1)).await;

    let track = common::track_name(NAMESPACE, TRACK);
    let mut subscriber = Subscriber::subscribe(&relay, &track).await;
    for group in 0..GROUPS {
        let mut open: Vec<_> = (0..SUBGROUPS)
            .map(|subgroup_id| {
                let subgroup = serve::Subgroup { group_id: group, subgroup_id, priority: 9 };
                subgroups.create(subgroup).unwrap()
            })
            .collect();
        for place in places(group) {
            let (properties, payload) = object(place);
            let mut object = open[place.1 as usize]
                .create_with_id(place.2, payload.len(), Some(extensions(&properties)))
                .unwrap();
            // In two pieces, as an encoder might hand it over.
            let half = payload.len() / 2;
            object.write(payload.slice(..half)).unwrap();
            object.write(payload.slice(half..)).unwrap();
            drop(object);
            subscriber.expect(place).await;
        }
        open.into_iter().for_each(|subgroup| subgroup.finish().unwrap());
    }
    drop((subgroups, tracks));
    match subscriber.next().await {
        Heard::Done(done) => assert_eq!(done.code, PublishDoneCode::TRACK_ENDED),
        other => panic!("heard {other:?} at the end of the track"),
    }
}

#[tokio::test]
async fn an_independent_publisher_is_read_bit_by_bit_over_quic() {
    we_read_what_they_publish(session::Transport::RawQuic).await;
}

#[tokio::test]
async fn an_independent_publisher_is_read_bit_by_bit_over_web_transport() {
    we_read_what_they_publish(session::Transport::WebTransport).await;
}

#[tokio::test]
async fn how_long_objects_take_whose_publisher_tells_no_clock_is_not_known() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let mut stamp = Properties::new();
    stamp.push_int(moqt::property::LOC_TIMESTAMP, transport::clock::unix_us());

    let (mut publisher, _subscriber) = connect(&relay, session::Transport::RawQuic).await;
    let name = TrackNamespace::from_utf8_path(NAMESPACE);
    let (mut tracks, _requests, reader) = serve::Tracks::new(name).produce();
    let mut subgroups = tracks.create(TRACK).expect("a new track").subgroups().unwrap();
    tokio::spawn(async move { publisher.publish_namespace(reader).await });
    relay.snapshot_shows("the publisher", |node| node["publishers"].as_u64() == Some(1)).await;
    let foreign = common::track_name(NAMESPACE, TRACK);
    let mut theirs = Subscriber::subscribe(&relay, &foreign).await;

    let ours = Broadcast::new(Namespace::from_path("live/ours").unwrap());
    let mut track = ours.create_track(TRACK, TrackOptions::default());
    let _publication = common::publish(&ours, &relay.address()).await;
    let _watched = Subscriber::subscribe(&relay, &common::track_name("live/ours", TRACK)).await;

    track.begin_group(0);
    track.write(0, 0, &stamp, Bytes::from_static(b"frame"));
    let subgroup = serve::Subgroup { group_id: 0, subgroup_id: 0, priority: 9 };
    let mut open = subgroups.create(subgroup).unwrap();
    let mut object = open.create_with_id(0, 5, Some(extensions(&stamp))).unwrap();
    object.write(Bytes::from_static(b"frame")).unwrap();
    drop(object);
    assert!(matches!(theirs.next().await, Heard::Object { .. }));

    let track_of = |node: &serde_json::Value, name: &str| {
        let mut tracks = node["tracks"].as_array().unwrap().iter();
        tracks.find(|track| track["name"] == name).cloned().unwrap_or_default()
    };
    relay
        .snapshot_shows("how long ours took", |node| {
            track_of(node, "live/ours/video")["latency_ms"].is_object()
        })
        .await;
    let track = track_of(&relay.snapshot().await, "live/camera/video");
    assert_eq!(track["largest"], serde_json::json!([0, 0]));
    for figure in ["latency_ms", "latency_error_ms", "hop_latency_ms"] {
        assert!(track.get(figure).is_none(), "{figure}: {track:#}");
    }
}

/// A WebTransport client of `wtransport`'s that offers these protocols.
async fn dial(
    relay: &Relay,
    protocols: Option<&str>,
) -> Result<wtransport::Connection, wtransport::error::ConnectingError> {
    let config = wtransport::ClientConfig::builder()
        .with_bind_address(([127, 0, 0, 1], 0).into())
        .with_custom_tls(common::tls(relay, "h3"))
        .build();
    let endpoint = wtransport::Endpoint::client(config).unwrap();
    let mut options = wtransport::endpoint::ConnectOptions::builder(relay.web_transport_url());
    if let Some(protocols) = protocols {
        options = options.add_header("wt-available-protocols", protocols);
    }
    within("an answer to CONNECT", endpoint.connect(options.build())).await
}

#[tokio::test]
async fn an_independent_web_transport_client_gets_our_setup() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    let connection = dial(&relay, Some("\"moqt-99\", \"moqt-18\"")).await.unwrap();
    let mut control = within("a stream of the relay's", connection.accept_uni()).await.unwrap();
    let mut bytes = BytesMut::new();
    let mut buffer = [0; 1024];
    let message = loop {
        let read = within("SETUP", control.read(&mut buffer)).await.unwrap();
        bytes.extend_from_slice(&buffer[..read.expect("a control stream is never finished")]);
        if let Some(message) = moqt::codec::decode(Version::Draft18, &mut bytes).unwrap() {
            break message;
        }
    };
    let Message::Setup(setup) = message else { panic!("{message:?} instead of SETUP") };
    assert!(setup.path.is_none() && setup.authority.is_none(), "only clients send these");
}

#[tokio::test]
async fn a_web_transport_client_without_our_protocol_gets_no_session() {
    let machine = Machine::new();
    let relay = machine.relay("relay", &[]);
    for protocols in [None, Some("\"moqt-99\"")] {
        let refused = dial(&relay, protocols).await;
        assert!(refused.is_err(), "{protocols:?} got a session");
    }
}
