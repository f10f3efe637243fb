//! The live feed: `GET URL/api/v1/nodes/watch`, a line a second, with reconnection.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use super::lines::{Line, Lines};
use super::recording::Recorder;
use super::{Closed, FeedEvent, Sender, parse};

/// A line comes each second; this long without any, the connection is as good as gone.
const SILENCE: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// The base URL of a relay's admin API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUrl(reqwest::Url);

/// Why a text is no [`AdminUrl`].
#[derive(Debug, thiserror::Error)]
pub enum BadUrl {
    /// Not a URL at all.
    #[error("{0}; give the admin address of a relay, as http://HOST:4480")]
    Syntax(String),
    /// Neither HTTP nor HTTPS.
    #[error(
        "scheme {0:?} is not supported; give the admin address of a relay, as http://HOST:4480"
    )]
    Scheme(String),
}

impl FromStr for AdminUrl {
    type Err = BadUrl;

    /// Takes `http://host:port` or `https://…`, and `host:port` for the former.
    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = reqwest::Url::parse(&full).map_err(|error| BadUrl::Syntax(error.to_string()))?;
        match url.scheme() {
            "http" | "https" => Ok(Self(url)),
            other => Err(BadUrl::Scheme(other.to_owned())),
        }
    }
}

impl std::fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl AdminUrl {
    fn watch(&self) -> String {
        format!("{self}/api/v1/nodes/watch")
    }
}

/// Follows the feed until nobody listens, and writes it down if asked to.
pub async fn run(url: AdminUrl, mut recorder: Option<Recorder>, sender: Sender) {
    let mut retry = FIRST_RETRY;
    loop {
        let mut got_line = false;
        let error = match follow(&url, recorder.as_mut(), &sender, &mut got_line).await {
            Ok(error) => error,
            Err(Closed) => return,
        };
        // Only a source that delivered starts over with short waits.
        retry = if got_line { FIRST_RETRY } else { retry };
        let lost = FeedEvent::Lost { error: stats::sanitize(&error), retry_in: retry };
        if sender.send(lost).await.is_err() {
            return;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

/// One connection, to its end. Returns what ended it.
async fn follow(
    url: &AdminUrl,
    mut recorder: Option<&mut Recorder>,
    sender: &Sender,
    got_line: &mut bool,
) -> Result<String, Closed> {
    sender.send(FeedEvent::Connecting).await?;
    let mut response = match connect(url).await {
        Ok(response) => response,
        Err(error) => return Ok(error),
    };
    sender.send(FeedEvent::Connected).await?;
    let mut lines = Lines::default();
    loop {
        let end = match tokio::time::timeout(SILENCE, response.chunk()).await {
            Err(_) => Some(format!("nothing came for {} s", SILENCE.as_secs())),
            Ok(Err(error)) => Some(innermost(&error)),
            Ok(Ok(None)) => Some("the relay closed the feed".to_owned()),
            Ok(Ok(Some(bytes))) => {
                lines.handle_bytes(&bytes);
                None
            }
        };
        while let Some(line) = lines.poll_line() {
            let event = parse(&line);
            *got_line |= matches!(event, FeedEvent::Tree(_));
            if let (Some(recorder), Line::Whole(bytes)) = (recorder.as_deref_mut(), &line)
                && let Err(error) = recorder.write(bytes)
            {
                sender.send(FeedEvent::Nonsense(error.to_string())).await?;
            }
            sender.send(event).await?;
        }
        if let Some(error) = end {
            return Ok(error);
        }
    }
}

async fn connect(url: &AdminUrl) -> Result<reqwest::Response, String> {
    // Only the first call installs it; without any, TLS has no cryptography to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // The admin API is on loopback or a private network: a proxy would only be in the way.
        .no_proxy()
        .user_agent(concat!("weir-tui/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| innermost(&error))?;
    let response = tokio::time::timeout(CONNECT_TIMEOUT, client.get(url.watch()).send())
        .await
        .map_err(|_| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| innermost(&error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(format!("HTTP {status}: this is no admin address of a relay")),
    }
}

/// The cause at the bottom of a chain: "Connection refused" rather than "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_scheme_is_http() {
        let url: AdminUrl = "edge:4480".parse().unwrap();
        assert_eq!(url.to_string(), "http://edge:4480");
        assert_eq!(url.watch(), "http://edge:4480/api/v1/nodes/watch");
    }

    #[test]
    fn a_path_before_the_api_is_kept() {
        let url: AdminUrl = "http://host/weir/".parse().unwrap();
        assert_eq!(url.watch(), "http://host/weir/api/v1/nodes/watch");
    }

    #[test]
    fn other_schemes_and_nonsense_are_refused_with_a_way_out() {
        for (text, word) in [("moqt://host:4433", "4480"), ("http://", "4480"), ("a b", "4480")] {
            let error = text.parse::<AdminUrl>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
