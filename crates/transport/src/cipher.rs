//! Who encrypts, and with what.

use std::sync::Arc;

use rustls::CipherSuite;
use rustls::crypto::{CryptoProvider, ring};

/// ring, with AES-128-GCM before all others: every TLS 1.3 peer has it, and it has 10 rounds where
/// AES-256 has 14. That is 5 % of a relay's CPU time at 5 Mbit/s.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = ring::default_provider();
    provider
        .cipher_suites
        .sort_by_key(|suite| suite.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    Arc::new(provider)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use rustls::{ClientConnection, Connection, ServerConnection};

    use super::*;
    use crate::{ClientTls, Identity};

    /// What a handshake between these two chooses.
    fn chosen(client: rustls::ClientConfig, server: rustls::ServerConfig) -> CipherSuite {
        let name = "localhost".try_into().expect("a name");
        let mut client: Connection =
            ClientConnection::new(Arc::new(client), name).expect("a client").into();
        let mut server: Connection = ServerConnection::new(Arc::new(server)).expect("one").into();
        while client.is_handshaking() || server.is_handshaking() {
            pass(&mut client, &mut server);
            pass(&mut server, &mut client);
        }
        server.negotiated_cipher_suite().expect("the handshake is over").suite()
    }

    fn pass(from: &mut Connection, to: &mut Connection) {
        let mut bytes = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut bytes).expect("memory takes all");
        }
        let mut bytes = Cursor::new(bytes);
        while to.read_tls(&mut bytes).expect("memory gives all") > 0 {
            to.process_new_packets().expect("they understand each other");
        }
    }

    #[test]
    fn aes_128_is_chosen_whatever_else_the_client_asks_for_first() {
        let state = tempfile::tempdir().expect("a directory");
        let identity = Identity::self_signed(state.path()).expect("an identity");
        let tls = ClientTls { disable_verify: true, ..ClientTls::default() };
        for provider in [provider(), Arc::new(ring::default_provider())] {
            let client = tls.config_with(provider, &["a"]);
            let suite = chosen(client, identity.server_config(&[b"a"]));
            assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
        }
    }

    #[test]
    fn who_has_aes_256_only_is_served_too() {
        let state = tempfile::tempdir().expect("a directory");
        let identity = Identity::self_signed(state.path()).expect("an identity");
        let tls = ClientTls { disable_verify: true, ..ClientTls::default() };
        let mut strict = ring::default_provider();
        strict.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
        let client = tls.config_with(Arc::new(strict), &["a"]);
        let suite = chosen(client, identity.server_config(&[b"a"]));
        assert_eq!(suite, CipherSuite::TLS13_AES_256_GCM_SHA384);
    }
}
