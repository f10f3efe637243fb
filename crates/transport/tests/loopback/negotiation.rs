//! Which draft is spoken, and what is said when there is none.

use moqt::{Role, Transport, Version};
use transport::{Endpoint, Error};

use crate::common::{Server, every, speaking, within};

/// Dials `server` with these versions; both ends' results.
async fn dial(
    server: &Server,
    transport: Transport,
    versions: &[Version],
) -> (Result<Version, Error>, Result<Version, Error>) {
    let client = Endpoint::client(speaking(versions)).unwrap();
    let url = server.url(transport);
    let connect = client.connect(&url, &server.tls);
    let accept = async { server.endpoint.accept().await.unwrap().accept().await };
    let (dialled, accepted) = within("handshake", async { tokio::join!(connect, accept) }).await;
    if let (Ok(ours), Ok(theirs)) = (&dialled, &accepted) {
        assert_eq!((ours.role(), theirs.role()), (Role::Client, Role::Server));
        assert_eq!((ours.transport(), theirs.transport()), (transport, transport));
    }
    (dialled.map(|c| c.version()), accepted.map(|c| c.version()))
}

#[tokio::test]
async fn each_draft_can_be_had_alone() {
    let server = Server::new(speaking(Version::ALL));
    for (version, transport) in every() {
        let (dialled, accepted) = dial(&server, transport, &[version]).await;
        assert_eq!((dialled.unwrap(), accepted.unwrap()), (version, version));
    }
}

#[tokio::test]
async fn draft_18_is_preferred_whatever_the_client_prefers() {
    let server = Server::new(speaking(Version::ALL));
    let offer = [Version::Draft16, Version::Draft22, Version::Draft18];
    for transport in [Transport::RawQuic, Transport::WebTransport] {
        assert_eq!(dial(&server, transport, &offer).await.0.unwrap(), Version::Draft18);
        let offer = &offer[..2];
        assert_eq!(dial(&server, transport, offer).await.0.unwrap(), Version::Draft22);
    }
}

#[tokio::test]
async fn a_refusal_names_what_is_spoken() {
    let server = Server::new(speaking(&[Version::Draft22, Version::Draft16]));
    for transport in [Transport::RawQuic, Transport::WebTransport] {
        let (dialled, accepted) = dial(&server, transport, &[Version::Draft18]).await;
        for (error, ours) in [(dialled.unwrap_err(), "moqt-18"), (accepted.unwrap_err(), "moqt-22")]
        {
            assert!(matches!(error, Error::Version { .. }), "{error}");
            assert!(error.to_string().contains(ours), "{error}");
        }
    }
    let (dialled, accepted) = dial(&server, Transport::WebTransport, &[Version::Draft18]).await;
    // WebTransport has words for it; TLS has an alert only.
    let told = dialled.unwrap_err().to_string();
    assert!(told.contains("speaks moqt-22, moqt-16"), "{told}");
    let heard = accepted.unwrap_err().to_string();
    assert!(heard.contains("offered moqt-18"), "{heard}");
}
