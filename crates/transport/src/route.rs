//! Which relay to dial next.

use std::time::Duration;

use moqt::{FullTrackName, GoAway, RequestError};
use url::Url;

use crate::Backoff;

/// Moves in a row that are followed before the configured URLs are tried again: relays that send
/// each other's clients in circles must not do so for ever.
const MAX_MOVES: usize = 8;

/// Which URL to dial next and when: the configured ones in turn, waiting longer after each round
/// without success, and in between wherever a GOAWAY or a redirect says ("Graceful Session
/// Migration", "Redirect Structure").
#[derive(Clone, Debug)]
pub struct Route {
    configured: Vec<Url>,
    at: usize,
    moved: Option<Url>,
    moves: usize,
    backoff: Backoff,
}

impl Route {
    /// Dials these in turn.
    ///
    /// # Panics
    /// If there are none.
    pub fn new(configured: Vec<Url>) -> Self {
        assert!(!configured.is_empty(), "there must be a URL to dial");
        Self { configured, at: 0, moved: None, moves: 0, backoff: Backoff::default() }
    }

    /// What to dial now.
    pub fn url(&self) -> &Url {
        self.moved.as_ref().unwrap_or(&self.configured[self.at])
    }

    /// Which of the configured URLs it is; `None`: one that we were sent to.
    pub fn index(&self) -> Option<usize> {
        self.moved.is_none().then_some(self.at)
    }

    /// It worked: the next loss is a new one.
    pub fn connected(&mut self) {
        self.backoff.reset();
        self.moves = 0;
    }

    /// It did not work, or is over. Returns how long to wait before dialling [`Route::url`]: not
    /// at all while there are other URLs to try.
    pub fn failed(&mut self) -> Duration {
        if self.moved.take().is_none() {
            self.at = (self.at + 1) % self.configured.len();
            if self.at > 0 {
                return Duration::ZERO;
            }
        }
        self.backoff.next_delay()
    }

    /// We were sent to `to`, or asked to come again where we are. Returns how long to wait before
    /// dialling [`Route::url`].
    pub fn moved(&mut self, to: Option<Url>) -> Duration {
        self.moves += 1;
        if self.moves > MAX_MOVES {
            self.moves = 0;
            return self.failed();
        }
        self.moved = to.or(self.moved.take());
        if self.moves == 1 { Duration::ZERO } else { self.backoff.next_delay() }
    }
}

/// Where a GOAWAY sends a client: a URL, or `None` for the one it is at. What is no URL of ours
/// counts as none.
pub fn goaway_url(goaway: &GoAway) -> Option<Url> {
    parse(&goaway.uri)
}

/// Where a REQUEST_ERROR with REDIRECT sends a request: the URL (`None`: the same) and the track
/// or namespace (`None`: the same). `None`: it sends nowhere.
pub fn redirected(error: &RequestError) -> Option<(Option<Url>, Option<FullTrackName>)> {
    let redirect = error.redirect.as_ref()?;
    let same = redirect.track.namespace().is_empty() && redirect.track.name().is_empty();
    let to = (parse(&redirect.uri), (!same).then(|| redirect.track.clone()));
    // A URI that we cannot use is no place, and the same again would be refused again.
    let usable = redirect.uri.is_empty() || to.0.is_some();
    (usable && to != (None, None)).then_some(to)
}

fn parse(uri: &[u8]) -> Option<Url> {
    let url = Url::parse(std::str::from_utf8(uri).ok()?).ok()?;
    matches!(url.scheme(), "moqt" | "https").then_some(url)
}

#[cfg(test)]
mod tests {
    use moqt::{Namespace, Redirect, RequestErrorCode};

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn urls_take_turns_and_only_a_whole_round_waits() {
        let mut route = Route::new(vec![url("moqt://a"), url("moqt://b")]);
        assert_eq!(route.url(), &url("moqt://a"));
        assert_eq!(route.failed(), Duration::ZERO);
        assert_eq!((route.url(), route.index()), (&url("moqt://b"), Some(1)));
        assert!(route.failed() > Duration::ZERO);
        assert_eq!(route.url(), &url("moqt://a"));
    }

    #[test]
    fn a_move_is_followed_at_once_and_its_failure_leads_back() {
        let mut route = Route::new(vec![url("moqt://a")]);
        assert_eq!(route.moved(Some(url("moqt://c"))), Duration::ZERO);
        assert_eq!((route.url(), route.index()), (&url("moqt://c"), None));
        route.connected();
        assert_eq!(route.moved(None), Duration::ZERO);
        assert_eq!(route.url(), &url("moqt://c"));
        route.failed();
        assert_eq!(route.url(), &url("moqt://a"));
    }

    #[test]
    fn circles_are_left() {
        let mut route = Route::new(vec![url("moqt://a")]);
        for _ in 0..MAX_MOVES {
            route.moved(Some(url("moqt://c")));
            assert_eq!(route.url(), &url("moqt://c"));
        }
        assert!(route.moved(Some(url("moqt://c"))) > Duration::ZERO);
        assert_eq!(route.url(), &url("moqt://a"));
    }

    #[test]
    fn redirects_name_a_place_or_a_track_or_nothing() {
        let track = FullTrackName::new(Namespace::from_path("x").unwrap(), "y").unwrap();
        let none = FullTrackName::new(Namespace::default(), "").unwrap();
        let to = |uri: &'static str, track: &FullTrackName| {
            let redirect = Redirect { uri: uri.into(), track: track.clone() };
            let error = RequestError::new(RequestErrorCode::REDIRECT, "");
            redirected(&RequestError { redirect: Some(redirect), ..error })
        };
        assert_eq!(to("moqt://b", &none), Some((Some(url("moqt://b")), None)));
        assert_eq!(to("", &track), Some((None, Some(track.clone()))));
        assert_eq!(to("", &none), None);
        assert_eq!(to("ftp://b", &track), None);
        assert_eq!(redirected(&RequestError::new(RequestErrorCode::TIMEOUT, "")), None);
    }
}
