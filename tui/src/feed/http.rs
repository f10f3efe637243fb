//! The live feed: `GET URL/api/v1/nodes/watch`, a line a second, with reconnection.

use std::error::Error;
use std::str::FromStr;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{AUTHORIZATION, HeaderValue};

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
    /// The feed of the tree, or of one of its nodes.
    fn watch(&self, node: Option<&str>) -> reqwest::Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // Without an empty one at the end; a name may hold anything.
            path.pop_if_empty().extend(["api", "v1", "nodes"]).extend(node).push("watch");
        }
        url
    }
}

/// A relay's admin API, and what it asks for.
#[derive(Debug, Clone)]
pub struct Admin {
    url: AdminUrl,
    token: Option<HeaderValue>,
}

/// A token that no relay has.
#[derive(Debug, thiserror::Error)]
#[error("the admin token is empty or has a line break or another control character in it")]
pub struct BadToken;

impl Admin {
    /// With the token that the relay was given, if it was; blanks around it don't count.
    ///
    /// # Errors
    /// When no header can carry the token.
    pub fn new(url: AdminUrl, token: Option<&str>) -> Result<Self, BadToken> {
        let header = |token: &str| {
            let token = Some(token.trim()).filter(|token| !token.is_empty()).ok_or(BadToken)?;
            let mut value =
                HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| BadToken)?;
            // So that nothing prints it.
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(Self { url, token: token.map(header).transpose()? })
    }

    /// Where it is.
    pub const fn url(&self) -> &AdminUrl {
        &self.url
    }
}

/// Why the feed can't be had.
#[derive(Debug)]
pub(super) struct Refusal {
    error: String,
    advice: Option<&'static str>,
}

impl From<String> for Refusal {
    fn from(error: String) -> Self {
        Self { error, advice: None }
    }
}

/// Follows the feed until nobody listens, and writes it down if asked to.
pub async fn run(admin: Admin, recorder: Option<Recorder>, sender: Sender) {
    let mut retry = FIRST_RETRY;
    loop {
        let mut got_line = false;
        let refusal = match follow(&admin, recorder.as_ref(), &sender, &mut got_line).await {
            Ok(refusal) => refusal,
            Err(Closed) => return,
        };
        // Only a source that delivered starts over with short waits.
        retry = if got_line { FIRST_RETRY } else { retry };
        let Refusal { error, advice } = refusal;
        let lost = FeedEvent::Lost { error: stats::sanitize(&error), advice, retry_in: retry };
        if sender.send(lost).await.is_err() {
            return;
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(LONGEST_RETRY);
    }
}

/// One connection, to its end. Returns what ended it.
async fn follow(
    admin: &Admin,
    recorder: Option<&Recorder>,
    sender: &Sender,
    got_line: &mut bool,
) -> Result<Refusal, Closed> {
    sender.send(FeedEvent::Connecting).await?;
    let response = match connect(admin, None).await {
        Ok(response) => response,
        Err(refusal) => return Ok(refusal),
    };
    sender.send(FeedEvent::Connected).await?;
    pass_on(response, recorder, sender, got_line).await.map(Refusal::from)
}

/// Sends what a relay answers on, line by line, to its end. Returns what ended it.
pub(super) async fn pass_on(
    mut response: reqwest::Response,
    recorder: Option<&Recorder>,
    sender: &Sender,
    got_line: &mut bool,
) -> Result<String, Closed> {
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
            *got_line |= matches!(event, FeedEvent::Tree(_) | FeedEvent::Detail(_));
            if let (Some(recorder), Line::Whole(bytes)) = (recorder, &line)
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

/// Asks for the feed of the tree, or of one of its nodes.
pub(super) async fn connect(
    admin: &Admin,
    node: Option<&str>,
) -> Result<reqwest::Response, Refusal> {
    // Only the first call installs it; without any, TLS has no cryptography to use.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        // The admin API is on loopback or a private network: a proxy would only be in the way.
        .no_proxy()
        // The token is for this relay.
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("weir-tui/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| innermost(&error))?;
    let mut request = client.get(admin.url.watch(node));
    if let Some(token) = &admin.token {
        request = request.header(AUTHORIZATION, token);
    }
    let response = tokio::time::timeout(CONNECT_TIMEOUT, request.send())
        .await
        .map_err(|_| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| innermost(&error))?;
    match response.status() {
        status if status.is_success() => Ok(response),
        status => Err(admin.refusal(status)),
    }
}

impl Admin {
    /// What a status other than success means, and what to do about it.
    fn refusal(&self, status: StatusCode) -> Refusal {
        let (what, advice) = match (status, &self.token) {
            (StatusCode::UNAUTHORIZED, None) => {
                ("the relay asks for its admin token", Some(NO_TOKEN))
            }
            (StatusCode::UNAUTHORIZED, Some(_)) => {
                ("the relay has another admin token than the one given here", Some(WRONG_TOKEN))
            }
            (StatusCode::FORBIDDEN, _) => ("the relay refuses this address", Some(FORBIDDEN)),
            (StatusCode::SERVICE_UNAVAILABLE, _) => ("the relay does not answer itself", None),
            _ => ("this is no admin address of a relay", None),
        };
        Refusal { error: format!("HTTP {status}: {what}"), advice }
    }
}

const NO_TOKEN: &str =
    "set WEIR_ADMIN_TOKEN to it, or WEIR_ADMIN_TOKEN_FILE to the file that holds it";
const WRONG_TOKEN: &str =
    "set WEIR_ADMIN_TOKEN or WEIR_ADMIN_TOKEN_FILE as the relay has it (--admin-token-file)";
const FORBIDDEN: &str = "on the relay's own machine use 127.0.0.1 or localhost, and no other name";

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
        assert_eq!(url.watch(None).as_str(), "http://edge:4480/api/v1/nodes/watch");
    }

    #[test]
    fn a_path_before_the_api_is_kept() {
        let url: AdminUrl = "http://host/weir/".parse().unwrap();
        assert_eq!(url.watch(None).as_str(), "http://host/weir/api/v1/nodes/watch");
    }

    #[test]
    fn the_name_of_a_node_is_one_part_of_the_path_whatever_it_holds() {
        let url: AdminUrl = "http://host".parse().unwrap();
        let watch = |node| url.watch(Some(node)).to_string();
        assert_eq!(watch("edge-1"), "http://host/api/v1/nodes/edge-1/watch");
        assert_eq!(watch("a/b ?#ü"), "http://host/api/v1/nodes/a%2Fb%20%3F%23%C3%BC/watch");
    }

    #[test]
    fn a_token_is_checked_before_it_is_sent_and_never_printed() {
        let url: AdminUrl = "http://host".parse().unwrap();
        let admin = Admin::new(url.clone(), Some(" s3cret\n")).unwrap();
        assert_eq!(admin.token.as_ref().unwrap(), "Bearer s3cret");
        assert!(!format!("{admin:?}").contains("s3cret"));
        for bad in ["", " \n", "a\nb", "a\u{1}"] {
            assert!(Admin::new(url.clone(), Some(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn other_schemes_and_nonsense_are_refused_with_a_way_out() {
        for (text, word) in [("moqt://host:4433", "4480"), ("http://", "4480"), ("a b", "4480")] {
            let error = text.parse::<AdminUrl>().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
