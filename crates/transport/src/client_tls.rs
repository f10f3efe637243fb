//! What a client trusts.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256};

use crate::{cipher, trust};

/// SHA-256 of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// As 64 lower-case hex digits.
impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

/// Hex digits, with or without colons between the bytes.
impl std::str::FromStr for Fingerprint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits: String = text.trim().chars().filter(|c| *c != ':').collect();
        let wrong = || "a fingerprint is 64 hex digits, the SHA-256 of a certificate".to_owned();
        if digits.len() != 64 || !digits.is_ascii() {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte =
                u8::from_str_radix(&digits[2 * index..2 * index + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Self(bytes))
    }
}

/// What a client trusts: the system's authorities and this machine's relays, or only the
/// certificates it is told.
#[derive(Clone, Debug, Default)]
pub struct ClientTls {
    /// When not empty, a server must show one of these certificates.
    pub fingerprints: Vec<Fingerprint>,
    /// Trust whatever the server shows. Anyone on the path can then read and change the stream.
    pub disable_verify: bool,
}

impl ClientTls {
    pub(crate) fn config(&self, alpn: &[&str]) -> rustls::ClientConfig {
        self.config_with(cipher::provider(), alpn)
    }

    pub(crate) fn config_with(
        &self,
        provider: Arc<CryptoProvider>,
        alpn: &[&str],
    ) -> rustls::ClientConfig {
        let mut roots = RootCertStore::empty();
        if !self.disable_verify && self.fingerprints.is_empty() {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        let verifier = Verifier {
            tls: self.clone(),
            authorities: rustls::client::WebPkiServerVerifier::builder_with_provider(
                Arc::new(roots),
                Arc::clone(&provider),
            )
            .build()
            .ok(),
            provider: Arc::clone(&provider),
        };
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("ring supports TLS 1.3")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

#[derive(Debug)]
struct Verifier {
    tls: ClientTls,
    /// `None` when there is not one authority to trust.
    authorities: Option<Arc<rustls::client::WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

/// What is wrong with a certificate, in words that reach the user through quinn.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

fn refuse(reason: String) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(Refused(reason)))).into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.tls.disable_verify {
            return Ok(ServerCertVerified::assertion());
        }
        let fingerprint = Fingerprint::of(end_entity);
        let pinned = self.tls.fingerprints.contains(&fingerprint);
        if !self.tls.fingerprints.is_empty() && !pinned {
            return Err(refuse(format!(
                "the certificate's fingerprint is {fingerprint}, not the one given"
            )));
        }
        if pinned || trust::knows(&fingerprint) {
            let span = validity(end_entity).map_err(refuse)?;
            let at = UNIX_EPOCH + Duration::from_secs(now.as_secs());
            return match span.problem(at) {
                Some(problem) => Err(refuse(problem)),
                None => Ok(ServerCertVerified::assertion()),
            };
        }
        let by_authority = self.authorities.as_ref().map(|authorities| {
            authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            )
        });
        match by_authority {
            Some(Ok(verified)) => Ok(verified),
            Some(Err(error)) => Err(refuse(format!(
                "the certificate is not trusted ({error}); if the relay made it itself, give \
                 --tls-fingerprint {fingerprint} after checking that the relay shows the same"
            ))),
            None => Err(refuse(format!(
                "the certificate is not trusted, and this machine has no authorities to ask; \
                 give --tls-fingerprint {fingerprint} after checking that the relay shows the same"
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// When a certificate may be used.
pub(crate) struct Validity {
    pub(crate) from: SystemTime,
    pub(crate) until: SystemTime,
}

impl Validity {
    /// What is wrong with using it at `now`, in words.
    pub(crate) fn problem(&self, now: SystemTime) -> Option<String> {
        let days = |span: Duration| span.as_secs_f64() / 86_400.0;
        if let Ok(late) = now.duration_since(self.until) {
            return Some(format!("the certificate expired {:.1} days ago", days(late)));
        }
        let early = self.from.duration_since(now).ok().filter(|early| !early.is_zero())?;
        Some(format!(
            "the certificate is valid only in {:.1} days; is the clock right?",
            days(early)
        ))
    }
}

/// Reads when a certificate may be used.
pub(crate) fn validity(certificate: &[u8]) -> Result<Validity, String> {
    let (_, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    let at = |time: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    Ok(Validity { from: at(parsed.validity().not_before), until: at(parsed.validity().not_after) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_with_and_without_colons() {
        let print = Fingerprint::of(b"certificate");
        let hex = print.to_string();
        let colons = hex.as_bytes().chunks(2).map(|b| std::str::from_utf8(b).unwrap());
        let colons = colons.collect::<Vec<_>>().join(":").to_uppercase();
        assert_eq!(hex.parse(), Ok(print));
        assert_eq!(colons.parse(), Ok(print));
        assert!(
            "abcd".parse::<Fingerprint>().is_err()
                && "é".repeat(32).parse::<Fingerprint>().is_err()
        );
    }

    #[test]
    fn validity_names_what_is_wrong() {
        let day = Duration::from_secs(86_400);
        let span = Validity { from: UNIX_EPOCH + 10 * day, until: UNIX_EPOCH + 20 * day };
        assert!(span.problem(UNIX_EPOCH + 15 * day).is_none());
        assert!(span.problem(UNIX_EPOCH + 22 * day).unwrap().contains("expired 2.0 days ago"));
        assert!(span.problem(UNIX_EPOCH + 9 * day).unwrap().contains("only in 1.0 days"));
    }
}
