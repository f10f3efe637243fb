//! All that nodes below know of themselves, asked for while somebody looks.
//!
//! Who looks holds a receiver; `feed` subscribes to the node's detail for as long as there is one,
//! and a little longer: people come back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stats::NodeSnapshot;
use tokio::sync::{Notify, watch};

use super::lock;

/// How long it is kept coming after the last one looked.
const LINGER: Duration = Duration::from_secs(5);
/// Nodes that are looked at at once; of more, only the report is known.
const MAX_NODES: usize = 32;

/// What a node last told of itself.
#[derive(Clone, Debug)]
pub(crate) struct Detail {
    /// When it was heard.
    pub(crate) at: Instant,
    pub(crate) node: Arc<NodeSnapshot>,
}

/// The nodes that somebody looks at.
#[derive(Default)]
pub(super) struct Details {
    asked: Mutex<BTreeMap<String, Asked>>,
    /// Somebody looks at another node.
    pub(super) changed: Notify,
}

struct Asked {
    told: watch::Sender<Option<Detail>>,
    /// Since when nobody looks.
    unseen: Option<Instant>,
    /// The node has no detail to give: it is of an older version.
    refused: bool,
}

impl Details {
    /// Looks at a node from now on, until the receiver is dropped.
    pub(super) fn look_at(&self, node: &str) -> watch::Receiver<Option<Detail>> {
        let mut asked = lock(&self.asked);
        if let Some(asked) = asked.get_mut(node) {
            asked.unseen = None;
            return asked.told.subscribe();
        }
        let (told, looks) = watch::channel(None);
        if asked.len() < MAX_NODES {
            asked.insert(node.to_owned(), Asked { told, unseen: None, refused: false });
            self.changed.notify_one();
        }
        looks
    }

    /// The nodes whose details are wanted.
    pub(super) fn wanted(&self, now: Instant) -> Vec<String> {
        let mut asked = lock(&self.asked);
        asked.retain(|_, asked| {
            if asked.told.receiver_count() > 0 {
                asked.unseen = None;
                return true;
            }
            now.saturating_duration_since(*asked.unseen.get_or_insert(now)) < LINGER
        });
        let willing = asked.iter().filter(|(_, asked)| !asked.refused);
        willing.map(|(node, _)| node.clone()).collect()
    }

    /// A node told this.
    pub(super) fn tell(&self, snapshot: NodeSnapshot, at: Instant) {
        if let Some(asked) = lock(&self.asked).get(&snapshot.node) {
            asked.told.send_replace(Some(Detail { at, node: Arc::new(snapshot) }));
        }
    }

    /// A node tells nothing; it is not asked again before somebody looks anew.
    pub(super) fn refuse(&self, node: &str) {
        if let Some(asked) = lock(&self.asked).get_mut(node) {
            asked.refused = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeSnapshot {
        NodeSnapshot { node: name.into(), ..NodeSnapshot::default() }
    }

    #[test]
    fn a_node_is_asked_while_somebody_looks_and_a_little_longer() {
        let details = Details::default();
        let start = Instant::now();
        assert!(details.wanted(start).is_empty());
        let (first, second) = (details.look_at("edge"), details.look_at("edge"));
        details.tell(node("edge"), start);
        details.tell(node("other"), start);
        assert_eq!(second.borrow().as_ref().unwrap().node.node, "edge");
        drop(first);
        assert_eq!(details.wanted(start), ["edge"]);
        drop(second);
        assert_eq!(details.wanted(start), ["edge"]);
        assert_eq!(details.wanted(start + LINGER / 2), ["edge"]);
        // Who comes back finds what was told last, and nobody is asked anew.
        let again = details.look_at("edge");
        assert!(again.borrow().is_some());
        assert_eq!(details.wanted(start + 2 * LINGER), ["edge"]);
        drop(again);
        assert_eq!(details.wanted(start + 2 * LINGER), ["edge"]);
        assert!(details.wanted(start + 3 * LINGER).is_empty());
    }

    #[test]
    fn who_refuses_is_not_asked_again_before_somebody_looks_anew() {
        let details = Details::default();
        let start = Instant::now();
        let looks = details.look_at("old");
        details.refuse("old");
        assert!(details.wanted(start).is_empty());
        drop(looks);
        details.wanted(start);
        details.wanted(start + LINGER);
        let _looks = details.look_at("old");
        assert_eq!(details.wanted(start + LINGER), ["old"]);
    }

    #[test]
    fn only_so_many_are_asked_at_once() {
        let details = Details::default();
        let looks: Vec<_> = (0..2 * MAX_NODES).map(|at| details.look_at(&at.to_string())).collect();
        assert_eq!(details.wanted(Instant::now()).len(), MAX_NODES);
        assert!(looks.last().unwrap().has_changed().is_err(), "says that nothing will come");
    }
}
