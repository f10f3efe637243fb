//! What a relay says of itself.

use stats::{NodeSnapshot, Tree};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Why a relay's admin API did not say what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the admin API at {address}: {reason}")]
pub struct AdminError {
    address: String,
    reason: String,
}

/// Asks the admin API at `address` (`host:port`) for that node's own snapshot.
///
/// # Errors
/// When nobody answers, or not in the form that the API promises.
pub async fn snapshot(address: &str) -> Result<NodeSnapshot, AdminError> {
    let failed = |reason: String| AdminError { address: address.to_owned(), reason };
    let body = get(address).await.map_err(|error| failed(error.to_string()))?;
    let mut tree: Tree =
        serde_json::from_str(&body).map_err(|error| failed(format!("{error}: {body:.200}")))?;
    let own = tree.nodes.iter().position(|node| node.node == tree.node);
    own.map(|own| tree.nodes.swap_remove(own)).ok_or_else(|| failed("does not list itself".into()))
}

async fn get(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!("GET /api/v1/nodes HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(answer))
}
