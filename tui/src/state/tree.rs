//! The nodes in the order and shape of their tree, whatever parents they claim.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashSet};

/// A node's place in the drawn tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub name: String,
    /// For each level above: whether the branch goes on below this line.
    pub branches: Vec<bool>,
    /// Shown only because a node below it matches the filter.
    pub context: bool,
    /// The nodes below that are folded into this line.
    pub folded: Vec<String>,
    /// Whether there are nodes below, folded or not.
    pub has_children: bool,
}

/// Deepest level that is drawn as such; a deeper node is drawn at it.
const MAX_DEPTH: usize = 16;

/// Lays nodes out: parents before children, siblings by `order`, each node exactly once. A node whose
/// parent is not among them is a root; a circle of parents is cut open.
///
/// `keep` filters: a node that does not match stays if one below it does.
pub fn lay_out(
    parents: &BTreeMap<&str, Option<&str>>,
    order: impl Fn(&str, &str) -> Ordering,
    keep: impl Fn(&str) -> bool,
) -> Vec<Place> {
    let mut children: BTreeMap<Option<&str>, Vec<&str>> = BTreeMap::new();
    for (name, parent) in parents {
        let parent = parent.filter(|parent| parents.contains_key(parent) && parent != name);
        children.entry(parent).or_default().push(name);
    }
    for siblings in children.values_mut() {
        siblings.sort_by(|a, b| order(a, b).then_with(|| a.cmp(b)));
    }
    let mut seen = HashSet::new();
    let mut places = Vec::new();
    let roots = children.get(&None).cloned().unwrap_or_default();
    // What no root leads to hangs on a circle: begin it at its first name.
    for root in roots.into_iter().chain(parents.keys().copied()) {
        walk(root, &children, &mut seen, &mut places);
    }
    prune(places, keep)
}

/// Folds what is below a node into its line where `folds` says so, told the node, its depth and all
/// that is below.
pub fn fold(places: &[Place], folds: impl Fn(&str, usize, &[Place]) -> bool) -> Vec<Place> {
    let mut shown: Vec<Place> = Vec::new();
    let mut at = 0;
    while at < places.len() {
        let depth = places[at].branches.len();
        let below = &places[at + 1..];
        let end = below.iter().position(|it| it.branches.len() <= depth).unwrap_or(below.len());
        let below = &below[..end];
        let mut place = places[at].clone();
        place.has_children = !below.is_empty();
        at += 1;
        if place.has_children && folds(&place.name, depth, below) {
            place.folded = below.iter().map(|it| it.name.clone()).collect();
            at += below.len();
        }
        shown.push(place);
    }
    shown
}

/// Adds a subtree, depth first, without recursion: a feed decides how deep it is.
fn walk<'a>(
    root: &'a str,
    children: &BTreeMap<Option<&str>, Vec<&'a str>>,
    seen: &mut HashSet<&'a str>,
    places: &mut Vec<Place>,
) {
    let mut stack = vec![(root, Vec::new())];
    while let Some((name, branches)) = stack.pop() {
        if !seen.insert(name) {
            continue;
        }
        let below = children.get(&Some(name)).map_or(&[][..], Vec::as_slice);
        for (index, child) in below.iter().enumerate().rev() {
            let mut of_child: Vec<bool> = branches.clone();
            if of_child.len() < MAX_DEPTH {
                of_child.push(index + 1 < below.len());
            }
            stack.push((child, of_child));
        }
        places.push(Place {
            name: name.to_owned(),
            branches,
            context: false,
            folded: Vec::new(),
            has_children: false,
        });
    }
}

/// Keeps what matches and what leads to it.
fn prune(mut places: Vec<Place>, keep: impl Fn(&str) -> bool) -> Vec<Place> {
    // From the end: the levels at which a match waits for its ancestors.
    let mut wanted_above: Option<usize> = None;
    let mut kept = vec![false; places.len()];
    for (index, place) in places.iter_mut().enumerate().rev() {
        let depth = place.branches.len();
        let matches = keep(&place.name);
        let leads = wanted_above.is_some_and(|wanted| depth < wanted);
        place.context = !matches;
        kept[index] = matches || leads;
        if kept[index] {
            wanted_above = (depth > 0).then_some(depth);
        }
    }
    let mut kept = kept.into_iter();
    places.retain(|_| kept.next() == Some(true));
    join_branches(&mut places);
    places
}

/// Branches go on only to what is left.
fn join_branches(places: &mut [Place]) {
    // From the end: for each level whether a sibling follows.
    let mut follows = [false; MAX_DEPTH];
    for place in places.iter_mut().rev() {
        let depth = place.branches.len();
        place.branches.copy_from_slice(&follows[..depth]);
        follows[depth..].fill(false);
        if let Some(own) = depth.checked_sub(1) {
            follows[own] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn drawn(pairs: &[(&str, Option<&str>)], keep: impl Fn(&str) -> bool) -> Vec<String> {
        let parents = pairs.iter().copied().collect();
        lay_out(&parents, |_, _| Ordering::Equal, keep)
            .iter()
            .map(|place| {
                let mark = if place.context { "?" } else { "" };
                format!("{}{}{mark}", "-".repeat(place.branches.len()), place.name)
            })
            .collect()
    }

    #[test]
    fn children_follow_their_parent() {
        let pairs =
            [("a", None), ("z", Some("a")), ("c", Some("a")), ("d", Some("c")), ("e", None)];
        assert_eq!(drawn(&pairs, |_| true), ["a", "-c", "--d", "-z", "e"]);
    }

    #[test]
    fn a_node_with_an_unknown_parent_is_a_root() {
        assert_eq!(drawn(&[("a", Some("elsewhere"))], |_| true), ["a"]);
    }

    #[test]
    fn circles_are_cut_open() {
        let pairs = [("a", Some("b")), ("b", Some("a")), ("c", Some("c"))];
        assert_eq!(drawn(&pairs, |_| true), ["c", "a", "-b"]);
    }

    #[test]
    fn a_filter_keeps_the_way_to_what_matches() {
        let pairs = [
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("d", Some("a")),
            ("e", Some("d")),
            ("f", None),
        ];
        assert_eq!(drawn(&pairs, |name| name == "c"), ["a?", "-b?", "--c"]);
        assert_eq!(drawn(&pairs, |name| "ce".contains(name)), ["a?", "-b?", "--c", "-d?", "--e"]);
        assert_eq!(drawn(&pairs, |name| name == "a"), ["a"]);
    }

    #[test]
    fn branches_end_at_the_last_that_is_left() {
        let pairs = [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("a"))];
        let parents = pairs.iter().copied().collect();
        let branches = |keep: &str| -> Vec<Vec<bool>> {
            let places = lay_out(&parents, |_, _| Ordering::Equal, |name| keep.contains(name));
            places.into_iter().map(|place| place.branches).collect()
        };
        assert_eq!(branches("abcd"), [vec![], vec![true], vec![true, false], vec![false]]);
        assert_eq!(branches("c"), [vec![], vec![false], vec![false, false]]);
    }

    #[test]
    fn what_is_folded_goes_into_the_line_above() {
        let pairs = [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("a"))];
        let parents = pairs.iter().copied().collect();
        let all = lay_out(&parents, |_, _| Ordering::Equal, |_| true);
        let lines = |folded: &str| -> Vec<String> {
            let places = fold(&all, |name, _, _| name == folded);
            places.iter().map(|it| format!("{}+{}", it.name, it.folded.len())).collect()
        };
        assert_eq!(lines("-"), ["a+0", "b+0", "c+0", "d+0"]);
        assert_eq!(lines("b"), ["a+0", "b+1", "d+0"]);
        assert_eq!(lines("a"), ["a+3"]);
        // Nothing is below it.
        assert_eq!(lines("d"), ["a+0", "b+0", "c+0", "d+0"]);
    }

    proptest! {
        #[test]
        fn whatever_parents_are_claimed_each_node_appears_once(
            claims in prop::collection::btree_map("[a-h]", prop::option::of("[a-k]"), 0..8),
        ) {
            let parents: BTreeMap<&str, Option<&str>> =
                claims.iter().map(|(name, parent)| (name.as_str(), parent.as_deref())).collect();
            let places = lay_out(&parents, |_, _| Ordering::Equal, |_| true);
            let mut names: Vec<&str> = places.iter().map(|place| place.name.as_str()).collect();
            names.sort_unstable();
            prop_assert_eq!(names, parents.keys().copied().collect::<Vec<_>>());
        }

        #[test]
        fn depth_is_bounded(length in 1usize..60) {
            let names: Vec<String> = (0..length).map(|i| format!("{i:03}")).collect();
            let parents: BTreeMap<&str, Option<&str>> = names.iter().enumerate()
                .map(|(i, name)| (name.as_str(), i.checked_sub(1).map(|up| names[up].as_str())))
                .collect();
            let places = lay_out(&parents, |_, _| Ordering::Equal, |_| true);
            prop_assert_eq!(places.len(), length);
            prop_assert!(places.iter().all(|place| place.branches.len() <= MAX_DEPTH));
        }
    }
}
