//! Fingerprints of the relays on this machine, so that local programs trust them with no flag.
//!
//! A relay that made its own certificate leaves the certificate's SHA-256 as the name of an empty
//! file in a directory only this user can write; clients look there. The directory is
//! `WEIR_TRUST_DIR`, or `weir/trust` under the user's state directory.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::Fingerprint;

/// A development certificate lives 13 days; files older than this belong to none.
const MAX_AGE: Duration = Duration::from_secs(14 * 24 * 3600);

fn directory() -> Option<PathBuf> {
    if cfg!(test) {
        // Tests leave the user's own directory alone.
        return Some(std::env::temp_dir().join("weir-test-trust"));
    }
    if let Some(dir) = std::env::var_os("WEIR_TRUST_DIR") {
        return Some(dir.into());
    }
    let state = match std::env::var_os("XDG_STATE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".local/state"),
    };
    Some(state.join("weir/trust"))
}

/// Adds a fingerprint and clears away those too old to matter.
pub(crate) fn remember(fingerprint: &Fingerprint) -> std::io::Result<()> {
    let Some(dir) = directory() else { return Ok(()) };
    std::fs::create_dir_all(&dir)?;
    for entry in std::fs::read_dir(&dir)?.flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if age.is_some_and(|age| age > MAX_AGE) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    std::fs::write(dir.join(fingerprint.to_string()), b"")
}

/// Whether a relay of this user on this machine left this fingerprint.
pub(crate) fn knows(fingerprint: &Fingerprint) -> bool {
    directory().is_some_and(|dir| dir.join(fingerprint.to_string()).is_file())
}
