use std::sync::atomic::{AtomicUsize, Ordering};

use quinn::crypto::rustls::QuicClientConfig;

use super::*;
use crate::{ClientTls, Endpoint, EndpointConfig};

const WORKERS: usize = 4;
const CLIENTS: usize = 200;

fn any() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

struct Server {
    addr: SocketAddr,
    identity: Identity,
    accepted: Arc<[AtomicUsize; WORKERS]>,
}

/// Workers that count what comes to them, and send back whatever they get.
fn serve() -> Server {
    let state = tempfile::tempdir().unwrap();
    let identity = Identity::self_signed(state.path()).unwrap();
    let config = EndpointConfig { bidi_streams: 8, ..EndpointConfig::default() };
    let listeners = Listener::bind(any(), &identity, config, WORKERS).unwrap();
    assert_eq!(listeners.len(), WORKERS);
    let addr = listeners[0].socket.local_addr().unwrap();
    let accepted: Arc<[AtomicUsize; WORKERS]> = Arc::default();
    for (worker, listener) in listeners.into_iter().enumerate() {
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            let endpoint = Endpoint::serve(listener).unwrap();
            while let Some(incoming) = endpoint.accept().await {
                accepted[worker].fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let connection = incoming.accept().await?;
                    loop {
                        let (mut send, mut recv) = connection.accept_bi().await?;
                        if let Ok(Some(bytes)) = recv.read_chunk(64).await {
                            let _ = send.write_all(bytes).await;
                            send.finish();
                        }
                    }
                    #[expect(unreachable_code, reason = "says what the errors above are")]
                    Ok::<(), Error>(())
                });
            }
        });
    }
    Server { addr, identity, accepted }
}

async fn echo(connection: &quinn::Connection, said: &[u8]) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(said).await.unwrap();
    send.finish().unwrap();
    assert_eq!(recv.read_to_end(64).await.unwrap(), said);
}

#[tokio::test]
async fn connections_spread_over_workers_and_stay_there_when_their_address_changes() {
    let server = serve();
    let tls = ClientTls { fingerprints: vec![server.identity.fingerprint()], ..Default::default() };
    let crypto = QuicClientConfig::try_from(tls.config(&["moqt-18"])).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    // All from one address: by addresses, one worker would get them all.
    let client = quinn::Endpoint::client(any()).unwrap();
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        let connecting = client.connect_with(config.clone(), server.addr, "localhost").unwrap();
        connections.push(connecting.await.unwrap());
    }
    let accepted = || server.accepted.each_ref().map(|count| count.load(Ordering::Relaxed));
    // 50 each but for chance, whose standard deviation is 6.
    assert!(accepted().iter().all(|count| *count >= 20), "uneven: {:?}", accepted());

    for round in 0..3u8 {
        client.rebind(UdpSocket::bind(any()).unwrap()).unwrap();
        for connection in &connections {
            let said = [round; 5];
            let echo = echo(connection, &said);
            let echo = tokio::time::timeout(Duration::from_secs(10), echo);
            echo.await.expect("a moved connection goes on");
        }
    }
    assert_eq!(accepted().iter().sum::<usize>(), CLIENTS, "nobody had to come again");
}

#[tokio::test]
async fn a_shared_port_is_not_given_to_a_second_server() {
    let server = serve();
    let options = EndpointConfig::default();
    let error = Listener::bind(server.addr, &server.identity, options, WORKERS).unwrap_err();
    assert!(matches!(error, Error::Bind { addr, .. } if addr == server.addr), "{error}");
}

#[test]
fn connection_ids_are_known_to_every_worker() {
    let id_of = |worker| {
        let ids = HashedConnectionIdGenerator::from_key(7);
        OwnIds { ids, share: Share { worker, of: 3 } }
    };
    for worker in 0..3 {
        let id = id_of(worker).generate_cid();
        assert_eq!(id[0] % 3, worker);
        assert!((0..3).all(|other| id_of(other).validate(&id).is_ok()));
    }
}
