//! QUIC connections with no MoQT session on them, to say anything at all.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::{Relay, within};

/// The certificate that a relay made itself.
pub(crate) fn certificate(relay: &Relay) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(relay.state_dir.join("relay.pem")).unwrap()
}

/// A TLS client that trusts this relay only.
pub(crate) fn tls(relay: &Relay, alpn: &str) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(relay)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
    config
}

/// A connection as the first step of a raw QUIC session; the endpoint carries it.
pub(crate) async fn connect_raw(
    relay: &Relay,
    endpoint: &quinn::Endpoint,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let crypto = QuicClientConfig::try_from(tls(relay, moqt::Version::Draft18.alpn())).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(std::time::Duration::from_secs(1)));
    config.transport_config(Arc::new(transport));
    let connecting = endpoint.connect_with(config, relay.listen, "localhost").unwrap();
    within("a QUIC connection", connecting).await
}

/// SETUP with no options, as the start of a control stream.
pub(crate) fn setup() -> Vec<u8> {
    let setup = moqt::Message::Setup(moqt::Setup::default());
    moqt::codec::to_bytes(moqt::Version::Draft18, &setup).unwrap().to_vec()
}

/// Waits until the relay closes the connection: its code and words.
pub(crate) async fn closed_with(connection: &quinn::Connection) -> (moqt::SessionCode, String) {
    match within("the relay to close the session", connection.closed()).await {
        quinn::ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            (moqt::SessionCode(close.error_code.into_inner()), reason)
        }
        other => panic!("the connection ended without a code: {other}"),
    }
}
