//! What is wrong and what to do about it: rules over the data, nothing else.
//!
//! A rule looks at one node and says what it sees, or nothing. Add one by adding a line to [`RULES`].

use std::time::Duration;

use stats::{DropReason, NodeState};

use super::events::Level;
use super::node::{Node, SILENT, is_trouble, level_of};
use crate::format;

/// A finding of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub node: String,
    /// How bad.
    pub level: Level,
    /// What, with figures.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
}

/// One rule.
pub struct Rule {
    /// What to do when it fires.
    pub advice: &'static str,
    check: fn(&Node, Duration) -> Option<(Level, String)>,
}

/// A viewer this far behind sees the past.
const FAR_BEHIND_MS: u64 = 2_000;
const FLAPPING: Duration = Duration::from_secs(60);
const FLAPPING_LOSSES: usize = 3;
const RESTART_SHOWN: Duration = Duration::from_secs(60);
/// Drops for longer than this are no hiccup.
const DROPPING: Duration = Duration::from_secs(3);

/// All rules, the worst first: the first that fires is shown where there is room for one.
pub const RULES: &[Rule] = &[
    Rule {
        advice: "look whether the machine and the process live, and at its log",
        check: |node, _| {
            node.gone_at()?;
            Some((Level::Down, "is no longer reported by the nodes above it".to_owned()))
        },
    },
    Rule {
        advice: "follow the reason; its log says more",
        check: |node, now| {
            let level = level_of(node.reported_state());
            // A node that is cut off says no more than the next rule.
            let worth = level > Level::Ok
                && node.reported_state() != NodeState::Draining
                && !node.is_cut_off(now);
            let reason = node.snapshot().reason.as_deref().unwrap_or("gives no reason");
            worth.then(|| (level, format!("says {}: {reason}", level.as_str())))
        },
    },
    Rule {
        advice: "check the parent's address, its UDP port, firewall and certificate",
        check: |node, now| {
            let since = now.saturating_sub(node.cut_off_since()?);
            let upstream = node.main_upstream()?;
            let error = upstream.error.as_deref().unwrap_or(upstream.state.as_str());
            let text = format!("cut off from {} for {}: {error}", upstream.url, format::age(since));
            node.is_cut_off(now).then_some((Level::Down, text))
        },
    },
    Rule {
        advice: "look for loss or a full link between the node and its parent",
        check: |node, now| {
            let losses = node.losses_since(now.saturating_sub(FLAPPING));
            let text = format!("upstream flapping: lost {losses} times within a minute");
            (losses >= FLAPPING_LOSSES).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "look at the machine's load and the way from it to here",
        check: |node, now| {
            let silent = node.silent_for(now);
            let text = format!("sent nothing new for {}", format::age(silent));
            (silent > SILENT).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "if many viewers: the node's own link or CPU is full; if few: their links are thin",
        check: |node, now| {
            let (reason, since) = DropReason::ALL
                .into_iter()
                .filter(|reason| is_trouble(*reason))
                .filter_map(|reason| Some((reason, node.episode(reason)?.since)))
                .min_by_key(|(_, since)| *since)?;
            let lasting = now.saturating_sub(since);
            let rate = node.rates(now).map(|rates| rates.drops.of(reason));
            let text = format!(
                "has dropped objects for {}: {reason}, {}/s",
                format::age(lasting),
                format::drops(rate)
            );
            (lasting >= DROPPING).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "see which in the viewers' screen, sorted by how far behind",
        check: |node, _| {
            let behind = node.snapshot().sessions.iter().filter_map(|session| session.behind_ms);
            let far = behind.clone().filter(|behind| *behind >= FAR_BEHIND_MS).count();
            let worst = behind.max()? as f64;
            let text = format!("{far} behind by up to {}", format::millis(Some(worst)));
            (far > 0).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "if nobody restarted it, its log says why",
        check: |node, now| {
            let ago = now.saturating_sub(node.restarted_at()?);
            let text = format!("restarted {} ago", format::age(ago));
            (ago < RESTART_SHOWN).then_some((Level::Warning, text))
        },
    },
];

/// All that the rules find about one node, the worst first.
pub fn check<'a>(
    name: &'a str,
    node: &'a Node,
    now: Duration,
) -> impl Iterator<Item = Warning> + 'a {
    RULES.iter().filter_map(move |rule| {
        let (level, text) = (rule.check)(node, now)?;
        Some(Warning { node: name.to_owned(), level, text, advice: rule.advice })
    })
}
