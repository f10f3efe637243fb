//! The proxy on loopback.

use std::{net::SocketAddr, time::Duration};

use netsim::{LinkConfig, Probability, ProxyConfig, UdpProxy};
use tokio::{net::UdpSocket, time::timeout};

const LOOPBACK: &str = "127.0.0.1:0";
/// Longer than any of this takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that answers each datagram with the sender's port and the datagram.
async fn echo() -> SocketAddr {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((size, from)) = socket.recv_from(&mut buffer).await {
            let mut answer = from.port().to_be_bytes().to_vec();
            answer.extend_from_slice(&buffer[..size]);
            let _ = socket.send_to(&answer, from).await;
        }
    });
    address
}

async fn proxy(config: ProxyConfig) -> UdpProxy {
    UdpProxy::start(LOOPBACK.parse().unwrap(), echo().await, config).await.unwrap()
}

async fn client(proxy: &UdpProxy) -> UdpSocket {
    let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
    socket.connect(proxy.local_addr()).await.unwrap();
    socket
}

/// Sends `text` and gives the port under which the server saw it, and the answer's text.
async fn ask(client: &UdpSocket, text: &str) -> (u16, String) {
    client.send(text.as_bytes()).await.unwrap();
    let mut buffer = [0; 2048];
    let size = timeout(PATIENCE, client.recv(&mut buffer)).await.expect("no answer").unwrap();
    let port = u16::from_be_bytes([buffer[0], buffer[1]]);
    (port, String::from_utf8(buffer[2..size].to_vec()).unwrap())
}

#[tokio::test]
async fn each_client_gets_its_own_answers_from_a_port_of_its_own() {
    let proxy = proxy(ProxyConfig::default()).await;
    let (one, two) = (client(&proxy).await, client(&proxy).await);
    let (port_one, answer_one) = ask(&one, "one").await;
    let (port_two, answer_two) = ask(&two, "two").await;
    assert_eq!((answer_one.as_str(), answer_two.as_str()), ("one", "two"));
    assert_ne!(port_one, port_two);
    assert_eq!(ask(&one, "again").await, (port_one, "again".to_owned()));
    assert_eq!(proxy.up_counters().packets_out, 3);
    assert_eq!(proxy.down_counters().packets_out, 3);
}

#[tokio::test]
async fn delay_applies_each_way() {
    let delay = Duration::from_millis(30);
    let link = LinkConfig { delay, ..LinkConfig::default() };
    let proxy = proxy(ProxyConfig { up: link.clone(), down: link, seed: 0 }).await;
    let client = client(&proxy).await;
    let start = std::time::Instant::now();
    ask(&client, "there and back").await;
    assert!(start.elapsed() >= 2 * delay, "took {:?}", start.elapsed());
}

#[tokio::test]
async fn a_link_changes_while_it_runs() {
    let proxy = proxy(ProxyConfig::default()).await;
    let client = client(&proxy).await;
    ask(&client, "before").await;

    proxy.set_up(LinkConfig { loss: Probability::ALWAYS, ..LinkConfig::default() });
    client.send(b"into the void").await.unwrap();
    timeout(PATIENCE, async {
        while proxy.up_counters().packets_lost == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("nothing was lost");

    proxy.set_up(LinkConfig::default());
    assert_eq!(ask(&client, "after").await.1, "after");
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let holder = UdpSocket::bind(LOOPBACK).await.unwrap();
    let taken = holder.local_addr().unwrap();
    let started = UdpProxy::start(taken, echo().await, ProxyConfig::default()).await;
    let error = started.unwrap_err().to_string();
    assert!(error.contains(&taken.to_string()), "{error}");
}
