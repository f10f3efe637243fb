//! What is wrong and what to do about it: rules over the data, nothing else.
//!
//! A rule looks at one node and says what it sees, or nothing. Add one by adding a line to [`RULES`].

use std::time::Duration;

use stats::{DropReason, NodeState};

use super::events::Level;
use super::node::{Node, SILENT, Sufferers, Trend, is_trouble, level_of};
use crate::format;

/// A finding of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub node: String,
    /// How bad.
    pub level: Level,
    /// Which rule: the place in [`RULES`], so that what is worse stands first.
    pub rule: usize,
    /// What, with figures.
    pub text: String,
    /// What to do.
    pub advice: &'static str,
}

/// When a rule looks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The time since the program began.
    pub now: Duration,
    /// Seconds since 1970, by the clock of the node that was asked.
    pub unix_s: i64,
}

/// One rule.
pub struct Rule {
    /// What to do when it fires.
    pub advice: &'static str,
    check: fn(&Node, Moment) -> Option<(Level, String)>,
}

const FLAPPING: Duration = Duration::from_secs(60);
const FLAPPING_LOSSES: usize = 3;
const RESTART_SHOWN: Duration = Duration::from_secs(60);
/// Drops for longer than this are no hiccup.
const DROPPING: Duration = Duration::from_secs(3);
/// Behind for longer than this is no hiccup.
const BEHIND_FOR: Duration = Duration::from_secs(5);
/// A relay renews its own certificate when four days are left: with less, nobody does.
const CERTIFICATE_S: i64 = 3 * 24 * 3600;
/// Clocks that keep the time are nearer to each other than this.
const CLOCK_SKEW_MS: f64 = 100.0;
/// Who joins waits for the next group, and who falls behind loses the rest of one.
const LONG_GROUP_MS: f64 = 5_000.0;
/// A line that is in order takes its delay and little more.
const SLOW_HOP_MS: f64 = 500.0;
/// So many stalls at one node are no single viewer's bad day.
const STALLS: u64 = 3;

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
        advice: "look whether machine and process live, then at the line between it and its parent",
        check: |node, _| {
            let reason = node.snapshot().reason.as_deref().unwrap_or("no reason is given");
            (node.snapshot().state == NodeState::Down)
                .then(|| (Level::Down, format!("is down: {reason}")))
        },
    },
    Rule {
        advice: "follow the reason; its log says more",
        check: |node, at| {
            let level = level_of(node.reported_state());
            // A node that is cut off says no more than the next rule.
            let worth = level == Level::Warning
                && node.reported_state() != NodeState::Draining
                && !node.is_cut_off(at.now);
            let reason = node.snapshot().reason.as_deref().unwrap_or("gives no reason");
            worth.then(|| (level, format!("says {}: {reason}", level.as_str())))
        },
    },
    Rule {
        advice: "check the parent's address, its UDP port, firewall and certificate",
        check: |node, at| {
            let since = at.now.saturating_sub(node.cut_off_since()?);
            let upstream = node.main_upstream()?;
            let error = upstream.error.as_deref().unwrap_or(upstream.state.as_str());
            let text = format!("cut off from {} for {}: {error}", upstream.url, format::age(since));
            (node.is_cut_off(at.now) && !node.is_down()).then_some((Level::Down, text))
        },
    },
    Rule {
        advice: "look for loss or a full link between the node and its parent",
        check: |node, at| {
            let losses = node.losses_since(at.now.saturating_sub(FLAPPING));
            let text = format!("upstream flapping: lost {losses} times within a minute");
            (losses >= FLAPPING_LOSSES).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "look at the machine's load and the way from it to here",
        check: |node, at| {
            let silent = node.silent_for(at.now);
            let text = format!("sent nothing new for {}", format::age(silent));
            (silent > SILENT && !node.is_down()).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "cut before it came here: see what the parent drops, and the line between the two",
        check: |node, at| drops(node, at, |_, reason| reason == DropReason::UpstreamReset),
    },
    Rule {
        advice: "so many at once: the node's own link out or its CPU is full; move viewers to another",
        check: |node, at| {
            drops(node, at, |to, reason| reason != DropReason::UpstreamReset && most(to))
        },
    },
    Rule {
        advice: "only these: their own links are too thin; the viewers' screen shows which",
        check: |node, at| {
            drops(node, at, |to, reason| reason != DropReason::UpstreamReset && !most(to))
        },
    },
    Rule {
        advice: "the line from its parent is full or loses: see the parent's drops for it; none: CPU",
        check: |node, _| {
            let hop = node.hop_p95()?;
            let text = format!("media takes {} from its parent", format::millis(Some(hop)));
            (hop >= SLOW_HOP_MS && !node.is_down()).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "the viewers' screen shows who, sorted by how far; all of them: the node's link",
        check: |node, at| {
            let far = node.behind_for(BEHIND_FOR, at.now);
            let behind = node.snapshot().sessions.iter().filter_map(|session| session.behind_ms);
            let worst = format::millis(Some(behind.max()? as f64));
            let long = format::age(BEHIND_FOR);
            let text = format!("{} behind for over {long}, up to {worst}", of_viewers(far));
            (far.count > 0).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "compare drops and how far viewers are behind; none: their players or devices",
        check: |node, at| {
            let stalls = node.stalls()?;
            let took = format::age(at.now.saturating_sub(stalls.since));
            let text = format!("viewers saw {} stalls in {took}", format::count(stalls.count));
            (stalls.count >= STALLS).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "renew the certificate before it ends: then nobody can join any more",
        check: |node, at| {
            let left = node.snapshot().certificate_expires?.as_second() - at.unix_s;
            let found = match left {
                ..=0 => (Level::Down, "certificate has ended".to_owned()),
                _ => {
                    let left = format::duration(left as f64);
                    (Level::Warning, format!("certificate ends in {left}"))
                }
            };
            (left < CERTIFICATE_S).then_some(found)
        },
    },
    Rule {
        advice: "set the clock (chrony, NTP): latencies are corrected for it, its logs are not",
        check: |node, _| {
            let offset = node.snapshot().clock_offset_ms?;
            let error = node.snapshot().clock_error_ms.unwrap_or(0.0);
            let way = if offset < 0.0 { "behind" } else { "ahead of" };
            let by = format::millis(Some(offset.abs()));
            let text = format!("clock is {by} {way} its parent's");
            (offset.abs() - error > CLOCK_SKEW_MS).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "raise net.core.rmem_max and net.core.wmem_max (sysctl), then restart the node",
        check: |node, _| {
            let buffers = node.snapshot().udp_buffers?;
            let least = buffers.receive.min(buffers.send);
            let text = format!(
                "kernel socket buffers too small: {}, wanted {}",
                format::bytes(Some(least)),
                format::bytes(Some(buffers.wanted))
            );
            (least < buffers.wanted).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "set the encoder to a keyframe every second or two: joining and catching up wait for one",
        check: |node, _| {
            // Said once, where the publisher is, and not at each node below.
            let publishers = node.snapshot().publishers;
            let tracks = node.snapshot().tracks.iter().filter(|track| is_media(&track.name));
            let (every, name) = tracks
                .filter_map(|track| Some((track.group_ms?, &track.name)))
                .max_by(|a, b| a.0.total_cmp(&b.0))?;
            let text = format!("keyframes of {name} are {} apart", format::millis(Some(every)));
            (publishers > 0 && every >= LONG_GROUP_MS).then_some((Level::Warning, text))
        },
    },
    Rule {
        advice: "if nobody restarted it, its log says why",
        check: |node, at| {
            let ago = at.now.saturating_sub(node.restarted_at()?);
            let text = format!("restarted {} ago", format::age(ago));
            (ago < RESTART_SHOWN).then_some((Level::Warning, text))
        },
    },
];

/// What lasting drops look like; to how many they happen, and why, decides what to do.
fn drops(
    node: &Node,
    at: Moment,
    is_meant: fn(Sufferers, DropReason) -> bool,
) -> Option<(Level, String)> {
    let to = node.droppers(at.now);
    let (reason, episode) = DropReason::ALL
        .into_iter()
        .filter(|reason| is_trouble(*reason))
        .filter_map(|reason| Some((reason, node.episode(reason)?)))
        .min_by_key(|(_, episode)| episode.since)?;
    let lasting = at.now.saturating_sub(episode.since);
    // Groups are cut now and then: at the moment there may be none, while it goes on.
    let mean = episode.count as f64 / lasting.as_secs_f64().max(1.0);
    let rate = format::drops(node.rates(at.now).map(|rates| match rates.drops.of(reason) {
        now if now > 0.0 => now,
        _ => mean,
    }));
    let trend = match node.trend() {
        Trend::Rising => ", rising",
        Trend::Falling => ", falling",
        Trend::Steady => "",
    };
    let whom = if to.count > 0 { format!(" to {}", of_viewers(to)) } else { String::new() };
    let (why, count, long) = (reason.short(), format::count(episode.count), format::age(lasting));
    let text = format!("drops {rate}/s{whom}: {why}{trend}, {count} in {long}");
    let fires = lasting >= DROPPING && !node.is_down() && is_meant(to, reason);
    fires.then_some((Level::Warning, text))
}

/// Whether nearly everybody suffers, so that it is no matter of single links.
const fn most(who: Sufferers) -> bool {
    who.at_least || (who.of > 1 && who.count * 2 > who.of)
}

fn of_viewers(who: Sufferers) -> String {
    let more = if who.at_least { "+" } else { "" };
    format!("{}{more} of {}", format::count(who.count), format::counted(who.of, who.noun))
}

/// A catalog has a group when something changes; what nodes report is no media.
fn is_media(track: &str) -> bool {
    !track.ends_with("/catalog") && !track.starts_with("weir/")
}

/// All that the rules find about one node, the worst first.
pub fn check<'a>(name: &'a str, node: &'a Node, at: Moment) -> impl Iterator<Item = Warning> + 'a {
    RULES.iter().enumerate().filter_map(move |(index, rule)| {
        let (level, text) = (rule.check)(node, at)?;
        Some(Warning { node: name.to_owned(), level, rule: index, text, advice: rule.advice })
    })
}
