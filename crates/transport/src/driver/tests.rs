//! Two drivers on loopback, and one against bytes that no driver would send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use moqt::{
    DatagramBody, FullTrackName, Namespace, ObjectHeader, ObjectStatus, Parameters, Properties,
    PublishDone, PublishDoneCode, Role, Setup, SubgroupId, Subscribe, SubscribeOk, Version,
};

use super::*;
use crate::{
    ClientTls, Endpoint, EndpointConfig, EndpointOptions, Identity, SendStream, WriteError,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Two ends of a connection, and what keeps them up.
struct Ends {
    client: Connection,
    server: Connection,
    _endpoints: [Endpoint; 2],
}

async fn ends(version: Version, scheme: &str) -> Ends {
    let state = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(state.path()).unwrap();
    let tls = ClientTls { fingerprints: vec![identity.fingerprint()], disable_verify: false };
    let options = || EndpointOptions::from(EndpointConfig::default()).versions([version]);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let listening = Endpoint::server(any, &identity, options()).unwrap();
    let dialling = Endpoint::client(options()).unwrap();
    let url = format!("{scheme}://{}/", listening.local_addr().unwrap()).parse().unwrap();
    let connect = dialling.connect(&url, &tls);
    let accept = async { listening.accept().await.unwrap().accept().await };
    let (client, server) = Box::pin(async { tokio::join!(connect, accept) }).await;
    Ends { client: client.unwrap(), server: server.unwrap(), _endpoints: [dialling, listening] }
}

fn every() -> impl Iterator<Item = (Version, &'static str)> {
    Version::ALL.iter().flat_map(|version| [(*version, "moqt"), (*version, "https")])
}

fn driver(connection: &Connection, limits: Limits) -> Driver {
    Driver::new(connection.clone(), Setup::default(), limits)
}

/// Runs both until `found` says so of an event of the first.
async fn until<T>(
    first: &mut Driver,
    second: &mut Driver,
    mut found: impl FnMut(DriverEvent) -> Option<T>,
) -> T {
    let run = async {
        loop {
            tokio::select! {
                event = first.next() => if let Some(found) = found(event.unwrap()) {
                    return found;
                },
                event = second.next() => drop(event.unwrap()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, run).await.expect("the event comes")
}

/// Runs a driver to its end and tells its session's code.
async fn end(driver: &mut Driver) -> SessionCode {
    let run = async {
        loop {
            match driver.next().await {
                Ok(_) => {}
                Err(Error::Protocol(error)) => return error.code,
                Err(other) => panic!("{other}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, run).await.expect("the session ends")
}

/// A subscription of the client's with alias 5 at the server, accepted.
async fn subscribed(client: &mut Driver, server: &mut Driver) -> RequestId {
    let track = FullTrackName::new(Namespace::from_path("live").unwrap(), "video").unwrap();
    let subscribe = Subscribe { track, parameters: Parameters::default() };
    client.session_mut().request(Request::Subscribe(subscribe)).unwrap();
    let id = until(server, client, |event| match event {
        DriverEvent::Session(Event::Requested { id, .. }) => Some(id),
        _ => None,
    })
    .await;
    let (parameters, properties) = (Parameters::default(), Properties::default());
    let ok = SubscribeOk { track_alias: 5, parameters, properties };
    server.session_mut().respond(id, Response::SubscribeOk(ok)).unwrap();
    until(client, server, |event| match event {
        DriverEvent::Session(Event::Responded { id, response: Response::SubscribeOk(_) }) => {
            Some(id)
        }
        _ => None,
    })
    .await
}

fn header(alias: u64) -> SubgroupHeader {
    SubgroupHeader {
        track_alias: alias,
        group: 1000,
        subgroup: SubgroupId::Known(0),
        priority: None,
        properties: false,
        end_of_group: false,
        first_object: false,
    }
}

fn header_bytes(alias: u64, version: Version) -> Bytes {
    let mut bytes = BytesMut::new();
    header(alias).encode(&mut bytes, version.int_coding());
    bytes.freeze()
}

/// Writes as it is, whatever the draft.
async fn raw(connection: &Connection, bytes: &[u8]) -> SendStream {
    let mut stream = connection.open_control().await.unwrap();
    stream.write_all(Bytes::copy_from_slice(bytes)).await.unwrap();
    stream
}

#[tokio::test]
async fn a_data_stream_that_never_says_whose_it_is_ends_the_session() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        assert_eq!(ends.server.role(), Role::Server);
        let limits = Limits { header_timeout: Duration::from_millis(50), ..Limits::default() };
        let mut server = driver(&ends.server, limits);
        let header = header_bytes(5, version);
        let _stream = raw(&ends.client, &header[..2]).await;
        assert_eq!(end(&mut server).await, SessionCode::DATA_STREAM_TIMEOUT, "{version}");
    }
}

#[tokio::test]
async fn a_request_stream_that_never_brings_its_request_ends_the_session() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        let limits = Limits { request_timeout: Duration::from_millis(200), ..Limits::default() };
        let mut server = driver(&ends.server, limits);
        let mut client = driver(&ends.client, Limits::default());
        subscribed(&mut client, &mut server).await;
        let (mut stream, _answers) = ends.client.open_bi().await.unwrap();
        stream.write_all(Bytes::from_static(&[0x16])).await.unwrap();
        let code = tokio::select! {
            code = end(&mut server) => code,
            _ = async { while client.next().await.is_ok() {} std::future::pending::<()>().await } => {
                unreachable!()
            }
        };
        assert_eq!(code, SessionCode::CONTROL_MESSAGE_TIMEOUT, "{version}");
    }
}

#[tokio::test]
async fn streams_of_unknown_tracks_wait_up_to_the_limit() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        let limits = Limits { waiting_streams: 1, ..Limits::default() };
        let (mut client, mut server) = (driver(&ends.client, limits), driver(&ends.server, limits));
        let mut streams = Vec::new();
        for _ in 0..2 {
            let mut stream = ends.server.open_data().await.unwrap();
            stream.write_all(header_bytes(5, CANONICAL)).await.unwrap();
            streams.push(stream);
        }
        // One is turned away, whichever came later.
        let [first, second] = &streams[..] else { unreachable!() };
        let turned_away = async {
            tokio::select! {
                code = first.stopped() => code,
                code = second.stopped() => code,
                _ = async { while client.next().await.is_ok() {} } => panic!("the session ended"),
            }
        };
        let code = tokio::time::timeout(PATIENCE, turned_away).await.expect("one is turned away");
        assert_eq!(code.unwrap(), Some(ResetCode::CANCELLED), "{version}");
        // The other is for the subscription that names its alias.
        let track = FullTrackName::new(Namespace::from_path("live").unwrap(), "video").unwrap();
        let subscribe = Subscribe { track, parameters: Parameters::default() };
        let id = client.session_mut().request(Request::Subscribe(subscribe)).unwrap();
        let asked = until(&mut server, &mut client, |event| match event {
            DriverEvent::Session(Event::Requested { id, .. }) => Some(id),
            _ => None,
        });
        let asked = asked.await;
        let (parameters, properties) = (Parameters::default(), Properties::default());
        let ok = SubscribeOk { track_alias: 5, parameters, properties };
        server.session_mut().respond(asked, Response::SubscribeOk(ok)).unwrap();
        let released = until(&mut client, &mut server, |event| match event {
            DriverEvent::Subgroup { request, .. } => Some(request),
            _ => None,
        });
        assert_eq!(released.await, id, "{version}");
    }
}

#[tokio::test]
async fn a_stream_whose_track_nobody_names_does_not_wait_for_ever() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        let limits = Limits { waiting_timeout: Duration::from_millis(20), ..Limits::default() };
        let mut client = driver(&ends.client, limits);
        let _server = driver(&ends.server, Limits::default());
        let mut stream = ends.server.open_data().await.unwrap();
        stream.write_all(header_bytes(5, CANONICAL)).await.unwrap();
        let stopped = async {
            tokio::select! {
                code = stream.stopped() => code,
                _ = async { while client.next().await.is_ok() {} } => panic!("the session ended"),
            }
        };
        let code = tokio::time::timeout(PATIENCE, stopped).await.expect("it is turned away");
        assert_eq!(code.unwrap(), Some(ResetCode::CANCELLED), "{version}");
    }
}

#[tokio::test]
async fn a_stream_that_publish_done_overtook_still_arrives() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        let (mut client, mut server) =
            (driver(&ends.client, Limits::default()), driver(&ends.server, Limits::default()));
        let id = subscribed(&mut client, &mut server).await;
        let code = PublishDoneCode::TRACK_ENDED;
        let done = PublishDone { code, stream_count: 1, reason: Bytes::new() };
        server.session_mut().respond(id, Response::PublishDone(done.clone())).unwrap();
        let heard = until(&mut client, &mut server, |event| match event {
            DriverEvent::Session(Event::Responded {
                response: Response::PublishDone(done),
                ..
            }) => Some(done),
            _ => None,
        });
        assert_eq!(heard.await, done, "{version}");
        let mut stream = ends.server.open_data().await.unwrap();
        stream.write_all(header_bytes(5, CANONICAL)).await.unwrap();
        let late = until(&mut client, &mut server, |event| match event {
            DriverEvent::Subgroup { request, header, .. } => Some((request, header)),
            _ => None,
        });
        assert_eq!(late.await, (id, header(5)), "{version}");
    }
}

#[tokio::test]
async fn datagrams_have_one_layout_too() {
    for (version, scheme) in every() {
        let ends = ends(version, scheme).await;
        let (mut client, mut server) =
            (driver(&ends.client, Limits::default()), driver(&ends.server, Limits::default()));
        let id = subscribed(&mut client, &mut server).await;
        let mut properties = Properties::new();
        properties.push_int(0x10, 90_000);
        let sent = Datagram {
            track_alias: 5,
            group: 1 << 40,
            object: 200,
            priority: Some(3),
            properties: properties.to_bytes(CANONICAL.int_coding()),
            end_of_group: false,
            body: DatagramBody::Payload(Bytes::from_static(b"payload")),
        };
        assert!(ends.server.send_datagram(sent.to_bytes(CANONICAL.int_coding())));
        let received = until(&mut client, &mut server, |event| match event {
            DriverEvent::Datagram { request, datagram } => Some((request, datagram)),
            _ => None,
        });
        assert_eq!(received.await, (id, sent), "{version}");
    }
}

#[tokio::test]
async fn what_breaks_draft_16_is_not_rewritten_into_something_else() {
    // An unknown Object Status, and an end inside an object's header.
    for (objects, fin) in [(&[0x00, 0x00, 0x07][..], false), (&[0x00][..], true)] {
        let ends = ends(Version::Draft16, "moqt").await;
        let (mut client, mut server) =
            (driver(&ends.client, Limits::default()), driver(&ends.server, Limits::default()));
        subscribed(&mut client, &mut server).await;
        let bytes = [&header_bytes(5, Version::Draft16)[..], objects].concat();
        let mut stream = raw(&ends.server, &bytes).await;
        if fin {
            stream.finish();
        }
        let mut received = until(&mut client, &mut server, |event| match event {
            DriverEvent::Subgroup { stream, .. } => Some(stream),
            _ => None,
        })
        .await;
        let result = tokio::time::timeout(PATIENCE, received.read_chunk(100)).await.unwrap();
        assert!(matches!(result, Err(ReadError::Gone(_))), "{result:?}");
        match tokio::time::timeout(PATIENCE, ends.server.closed()).await.unwrap() {
            Error::Closed { code, .. } => assert_eq!(code, SessionCode::PROTOCOL_VIOLATION),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn what_draft_16_cannot_say_costs_its_stream_only() {
    // On WebTransport a stream that is reset this early may never be seen at all.
    let ends = ends(Version::Draft16, "moqt").await;
    let mut stream = ends.server.open_data().await.unwrap();
    let mut object = BytesMut::new();
    ObjectHeader {
        id: 1 << 62,
        previous: None,
        properties: None,
        payload: 1,
        status: ObjectStatus::Normal,
    }
    .encode(&mut object, CANONICAL.int_coding());
    stream.write_all(header_bytes(5, CANONICAL)).await.unwrap();
    let result = stream.write_all(object.freeze()).await;
    assert!(matches!(result, Err(WriteError::Stopped(ResetCode::INTERNAL_ERROR))), "{result:?}");
    let accepted = tokio::time::timeout(PATIENCE, ends.client.accept_uni()).await;
    let mut received = accepted.expect("a stream comes").unwrap();
    let rest = async {
        while received.read_chunk(100).await?.is_some() {}
        Ok::<_, ReadError>(())
    };
    let reset = tokio::time::timeout(PATIENCE, rest).await.unwrap();
    assert!(matches!(reset, Err(ReadError::Reset(ResetCode::INTERNAL_ERROR))), "{reset:?}");
}
