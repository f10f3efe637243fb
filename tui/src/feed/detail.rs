//! All that is known of one node: `GET URL/api/v1/nodes/NODE/watch`, while that node is looked at.
//!
//! The feed of the tree says how every node is, and lists of each only what is worst; this one brings
//! the rest of one node. It says nothing of its own troubles: without it the screen shows what the
//! tree's feed brings, as with a relay that does not know this path yet.

use std::time::Duration;

use tokio::sync::watch;

use super::Sender;
use super::http::{self, Admin};
use super::recording::Recorder;

/// Before a node that could not be had is asked for again.
const RETRY: Duration = Duration::from_secs(3);

/// Follows the node that `looked_at` names, until nobody listens or chooses any more, and writes it
/// down if asked to.
pub async fn run(
    admin: Admin,
    mut looked_at: watch::Receiver<Option<String>>,
    recorder: Option<Recorder>,
    sender: Sender,
) {
    loop {
        let node = looked_at.borrow_and_update().clone();
        let follow = async {
            let Some(node) = node else { return std::future::pending().await };
            loop {
                if let Ok(response) = http::connect(&admin, Some(&node)).await {
                    http::pass_on(response, recorder.as_ref(), &sender, &mut false).await?;
                }
                tokio::time::sleep(RETRY).await;
            }
        };
        let follow = async {
            let ended: Result<(), super::Closed> = follow.await;
            ended
        };
        tokio::select! {
            changed = looked_at.changed() => if changed.is_err() { return },
            Err(super::Closed) = follow => return,
        }
    }
}
