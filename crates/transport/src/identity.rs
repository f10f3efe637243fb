//! A server's certificate: loaded from files, or made and renewed by ourselves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::client_tls::validity;
use crate::{Fingerprint, cipher, trust};

/// Browsers accept a certificate by its hash only if it is ECDSA P-256 and lives at most 14 days.
const LIFETIME: Duration = Duration::from_secs(13 * 24 * 3600);
/// Renewed once this little is left.
const RENEW_BEFORE: Duration = Duration::from_secs(4 * 24 * 3600);

const CERTIFICATE: &str = "relay.pem";
const KEY: &str = "relay.key";

/// Why there is no certificate to serve with.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {reason}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// Making one failed.
    #[error("cannot make a certificate: {0}")]
    Make(rcgen::Error),
}

/// What a server shows to its clients; handles share it, and a renewal reaches all of them.
#[derive(Clone, Debug)]
pub struct Identity(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: RwLock<Current>,
    /// Where our own certificate is kept; `None` when it was given to us.
    state_dir: Option<PathBuf>,
}

#[derive(Clone, Debug)]
struct Current {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    expires: std::time::SystemTime,
    /// Same for every process that has the key: see [`Identity::reset_seed`].
    reset_seed: [u8; 32],
}

impl Identity {
    /// A certificate chain and key from PEM files. An expired one is refused.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let current = load(certificate, key)?;
        Ok(Self(Arc::new(Inner { current: RwLock::new(current), state_dir: None })))
    }

    /// The self-signed certificate kept in `state_dir`, made when missing or about to end.
    pub fn self_signed(state_dir: &Path) -> Result<Self, IdentityError> {
        let current = load_or_make(state_dir)?;
        let state_dir = Some(state_dir.to_owned());
        Ok(Self(Arc::new(Inner { current: RwLock::new(current), state_dir })))
    }

    /// Renews our own certificate when its end is near. To be called every hour or so.
    pub fn renew(&self) -> Result<(), IdentityError> {
        let Some(state_dir) = &self.0.state_dir else { return Ok(()) };
        let current = load_or_make(state_dir)?;
        *self.0.current.write().unwrap_or_else(|poisoned| poisoned.into_inner()) = current;
        Ok(())
    }

    /// SHA-256 of the current certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.current().fingerprint
    }

    /// When the current certificate ends.
    pub fn expires(&self) -> std::time::SystemTime {
        self.current().expires
    }

    /// Whether we made it: browsers then need its hash.
    pub fn is_self_signed(&self) -> bool {
        self.0.state_dir.is_some()
    }

    /// A TLS configuration for TCP, with these protocols in order of preference.
    pub fn server_config(&self, alpn: &[&[u8]]) -> rustls::ServerConfig {
        let mut config = rustls::ServerConfig::builder_with_provider(cipher::provider())
            .with_safe_default_protocol_versions()
            .expect("ring supports TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        // rustls' own clients ask for AES-256 first.
        config.ignore_client_order = true;
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// A secret derived from the key. A restarted relay derives the same, so its stateless resets
    /// tell peers of the old process at once that their connections are gone.
    pub(crate) fn reset_seed(&self) -> [u8; 32] {
        self.current().reset_seed
    }

    fn current(&self) -> Current {
        self.0.current.read().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().key)
    }
}

fn load_or_make(state_dir: &Path) -> Result<Current, IdentityError> {
    let (certificate, key) = (state_dir.join(CERTIFICATE), state_dir.join(KEY));
    if certificate.exists() && key.exists() {
        let fresh = load(&certificate, &key).ok().filter(|current| {
            let left = current.expires.duration_since(std::time::SystemTime::now());
            left.is_ok_and(|left| left > RENEW_BEFORE)
        });
        if let Some(current) = fresh {
            remember(&current);
            return Ok(current);
        }
    }
    make(&certificate, &key)?;
    let current = load(&certificate, &key)?;
    remember(&current);
    Ok(current)
}

/// Local programs will find it; without a home directory they need the fingerprint as a flag.
fn remember(current: &Current) {
    if let Err(error) = trust::remember(&current.fingerprint) {
        tracing::warn!(%error, "programs on this machine will need --tls-fingerprint");
    }
}

fn make(certificate: &Path, key: &Path) -> Result<(), IdentityError> {
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.extend(hostname());
    let mut params = rcgen::CertificateParams::new(names).map_err(IdentityError::Make)?;
    let now = std::time::SystemTime::now();
    // An hour back, for viewers whose clock is behind ours.
    params.not_before = (now - Duration::from_secs(3600)).into();
    params.not_after = (now + LIFETIME).into();
    params.distinguished_name.push(rcgen::DnType::CommonName, "Weir relay");
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)
        .map_err(IdentityError::Make)?;
    let pem = params.self_signed(&pair).map_err(IdentityError::Make)?.pem();
    if let Some(dir) = certificate.parent() {
        std::fs::create_dir_all(dir)
            .map_err(|error| IdentityError::File { path: dir.to_owned(), error })?;
    }
    // The key first: a certificate is only looked at when both are there.
    replace(key, pair.serialize_pem().as_bytes(), true)?;
    replace(certificate, pem.as_bytes(), false)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, content: &[u8], secret: bool) -> Result<(), IdentityError> {
    use std::io::Write;
    let failed = |error| IdentityError::File { path: path.to_owned(), error };
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    #[cfg(not(unix))]
    let _ = secret;
    let mut file = options.open(&temporary).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)
}

fn hostname() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim().to_owned();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    (!name.is_empty() && name.chars().all(plain)).then_some(name)
}

fn load(certificate: &Path, key: &Path) -> Result<Current, IdentityError> {
    let invalid =
        |path: &Path, reason: String| IdentityError::Invalid { path: path.to_owned(), reason };
    let read = |path: &Path| {
        std::fs::read(path).map_err(|error| IdentityError::File { path: path.to_owned(), error })
    };
    let pem = read(certificate)?;
    let chain = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(certificate, format!("not a PEM certificate: {error}")))?;
    let Some(leaf) = chain.first() else {
        return Err(invalid(certificate, "holds no certificate".into()));
    };
    let fingerprint = Fingerprint::of(leaf);
    let span = validity(leaf)
        .map_err(|error| invalid(certificate, format!("not an X.509 certificate: {error}")))?;
    if let Some(problem) = span.problem(std::time::SystemTime::now()) {
        return Err(invalid(certificate, format!("{problem}; renew it, or leave --tls-cert out")));
    }
    let key_der = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|error| invalid(key, format!("not a PEM private key: {error}")))?;
    let reset_seed = Fingerprint::of(key_der.secret_der()).0;
    let signer = any_supported_type(&key_der).map_err(|error| invalid(key, error.to_string()))?;
    let certified = CertifiedKey::new(chain, signer);
    // "Unknown" is a key type that cannot tell; only a certain mismatch is one.
    let mismatch = rustls::InconsistentKeys::KeyMismatch;
    if certified.keys_match() == Err(rustls::Error::InconsistentKeys(mismatch)) {
        return Err(invalid(key, format!("is not the key of {}", certificate.display())));
    }
    Ok(Current { key: Arc::new(certified), fingerprint, expires: span.until, reset_seed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::self_signed(dir.path()).unwrap();
        let again = Identity::self_signed(dir.path()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.reset_seed(), again.reset_seed());
        let left = first.expires().duration_since(std::time::SystemTime::now()).unwrap();
        assert!(left <= Duration::from_secs(14 * 24 * 3600), "browsers take 14 days at most");
    }

    #[test]
    fn a_damaged_state_is_made_anew_but_given_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = Identity::self_signed(dir.path()).unwrap().fingerprint();
        std::fs::write(dir.path().join(CERTIFICATE), "nonsense").unwrap();
        assert_ne!(Identity::self_signed(dir.path()).unwrap().fingerprint(), first);
        let key = dir.path().join(KEY);
        let error = Identity::from_files(&key, &key).unwrap_err().to_string();
        assert!(error.contains("holds no certificate"), "{error}");
    }
}
