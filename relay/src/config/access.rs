//! Who may use the admin API.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use subtle::ConstantTimeEq;
use url::Url;

use super::ConfigError;

/// Longest token, in bytes: it has to fit the head of a request beside everything else.
const MAX_TOKEN: usize = 1024;

/// What `--admin-token` says, before anyone looked at it.
///
/// No parser of the command line's may refuse it: its error would show what was refused.
#[derive(Clone)]
pub(super) struct Secret(String);

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// The password of the admin API, or of a tree of relays: 1 to 1024 visible ASCII characters, never shown.
#[derive(Clone)]
pub(crate) struct AdminToken(String);

impl AdminToken {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the token is empty; `openssl rand -hex 32` makes one".into());
        }
        if text.len() > MAX_TOKEN {
            return Err(format!("the token is longer than {MAX_TOKEN} bytes"));
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("the token has a blank or a character that is not ASCII".into());
        }
        Ok(Self(text.to_owned()))
    }

    /// The first line of a file.
    pub(super) fn read(file: &Path) -> Result<Self, ConfigError> {
        let refuse = |reason| ConfigError::File { file: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
        Self::parse(text.lines().next().unwrap_or_default().trim()).map_err(refuse)
    }

    /// To be sent to who knows it too.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether this is it. How long the answer takes tells nothing but the token's length.
    pub(crate) fn is(&self, presented: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(presented).into()
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// Where a page comes from, as browsers write it in the field Origin: scheme, host, and the port
/// unless it is the scheme's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin(String);

impl Origin {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        const FORM: &str = "use http://host:port or https://host:port";
        let url = Url::parse(text).map_err(|error| format!("{error}; {FORM}"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("pages don't come by {}; {FORM}", url.scheme()));
        }
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(format!("an origin ends with its host or port; {FORM}"));
        }
        Ok(Self(url.origin().ascii_serialization()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked of whoever uses the admin API.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdminAccess {
    /// To be presented with every request, if there is one.
    pub(crate) token: Option<AdminToken>,
    /// Besides the API's own, the origins whose pages may use it.
    pub(crate) origins: Vec<Origin>,
}

impl AdminAccess {
    /// From what the command line's grammar accepted.
    pub(super) fn settle(
        admin: SocketAddr,
        token: Option<Secret>,
        file: Option<PathBuf>,
        origins: Vec<Origin>,
    ) -> Result<Self, ConfigError> {
        let token = match (token, file) {
            (Some(_), Some(_)) => {
                return Err(ConfigError::Conflict(
                    "--admin-token and --admin-token-file both say the token; leave one out",
                ));
            }
            (Some(Secret(text)), None) => {
                let refuse = |reason| ConfigError::Value { origin: "--admin-token".into(), reason };
                Some(AdminToken::parse(&text).map_err(refuse)?)
            }
            (None, Some(file)) => Some(AdminToken::read(&file)?),
            (None, None) => None,
        };
        if token.is_none() && !admin.ip().to_canonical().is_loopback() {
            return Err(ConfigError::Conflict(
                "--admin is an address that others can reach, so it needs a token: \
                 `openssl rand -hex 32 > FILE` and --admin-token-file FILE; \
                 or keep --admin on 127.0.0.1",
            ));
        }
        Ok(Self { token, origins })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_itself_and_nothing_else() {
        let token = AdminToken::parse("s3cret").unwrap();
        assert!(token.is(b"s3cret"));
        for other in ["", "s3cre", "s3cret ", "s3cretS", "S3cret"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        for bad in ["", "two words", "line\n", "tökén", &"x".repeat(MAX_TOKEN + 1)] {
            assert!(AdminToken::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_origin_is_as_browsers_write_it() {
        for (given, origin) in [
            ("https://Grafana.Example", "https://grafana.example"),
            ("https://grafana.example:443/", "https://grafana.example"),
            ("http://[::1]:3000", "http://[::1]:3000"),
        ] {
            assert_eq!(Origin::parse(given).unwrap().as_str(), origin);
        }
        for bad in ["*", "null", "grafana.example", "file:///", "https://a/b", "https://u@a"] {
            assert!(Origin::parse(bad).is_err(), "{bad}");
        }
    }
}
