//! An endless stream over HTTP: MPEG-TS as IPTV servers send it, or fragmented MP4.

use std::error::Error as _;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::ACCEPT;
use tokio::time::timeout;
use url::Url;

use super::live::{self, LiveInput, STALL};
use super::{Outlet, SourceError, Unwanted};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs one connection until it ends, breaks or stalls.
pub(super) async fn run(url: &Url, outlet: &Outlet) -> Result<(), SourceError> {
    let client = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .user_agent(concat!("weir-publisher/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(failed)?;
    let request = client.get(url.clone()).header(ACCEPT, "video/mp2t, video/mp4, */*").send();
    let response =
        timeout(STALL, request).await.map_err(|_| SourceError::Stalled(STALL))?.map_err(failed)?;
    if !response.status().is_success() {
        return Err(SourceError::Status(response.status()));
    }
    let (input, sender) = live::open();
    tokio::join!(read(response, input), sender.run(outlet)).0
}

async fn read(mut response: Response, mut input: LiveInput) -> Result<(), SourceError> {
    loop {
        let chunk = timeout(STALL, response.chunk())
            .await
            .map_err(|_| SourceError::Stalled(STALL))?
            .map_err(failed)?;
        let Some(chunk) = chunk else {
            input.handle_end().await?;
            return Err(SourceError::Ended);
        };
        if let Err(Unwanted) = input.handle_bytes(chunk).await? {
            return Ok(());
        }
    }
}

/// The whole chain of causes: reqwest's own words stop at "error sending request". Whoever reports
/// it names the URL.
fn failed(error: reqwest::Error) -> SourceError {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    SourceError::Http(text)
}
