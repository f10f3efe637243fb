//! Counts for itself what an outbox is offered, to hold its books against: delivered + dropped +
//! queued = offered, byte for byte.
//!
//! What a filter, a timeout or FORWARD 0 leaves out was never offered, and only the outbox knows
//! exactly what that was: a session that has ever had such a subscription is not checked.

use std::collections::BTreeMap;
use std::time::Instant;

use moqt::RequestId;
use relay_core::{DeliveryTimeouts, Outbox, SubgroupSeq, Subscription, Track, TrackId};

/// What one session was offered.
#[derive(Debug, Default)]
pub(crate) struct Offered {
    subscriptions: BTreeMap<RequestId, Account>,
    /// Of subscriptions that are over.
    closed: u64,
    inexact: bool,
}

#[derive(Debug)]
struct Account {
    track: TrackId,
    next: SubgroupSeq,
    /// Bytes of each subgroup, as far as it came.
    subgroups: BTreeMap<SubgroupSeq, u64>,
    datagrams: u64,
}

impl Account {
    fn sum(&self) -> u64 {
        self.subgroups.values().sum::<u64>() + self.datagrams
    }
}

impl Offered {
    /// A subscription begins to be served.
    pub(crate) fn subscribe(
        &mut self,
        request: RequestId,
        id: TrackId,
        track: &Track,
        wanted: &Subscription,
    ) {
        let everything = wanted.start.is_none() && wanted.end.is_none() && wanted.forward;
        self.inexact |= !everything || wanted.timeouts != DeliveryTimeouts::default();
        let (next, subgroups) = (track.join_seq(), BTreeMap::new());
        self.subscriptions.insert(request, Account { track: id, next, subgroups, datagrams: 0 });
    }

    /// A subscription changes.
    pub(crate) fn update(&mut self) {
        self.inexact = true;
    }

    /// A datagram came to a track.
    pub(crate) fn datagram(&mut self, track: TrackId, bytes: u64) {
        for account in self.subscriptions.values_mut().filter(|account| account.track == track) {
            account.datagrams += bytes;
        }
    }

    /// Looks at a track as the outbox is about to.
    pub(crate) fn look(&mut self, id: TrackId, track: &Track) {
        for account in self.subscriptions.values_mut().filter(|account| account.track == id) {
            for seq in account.next..track.next_seq() {
                account.subgroups.insert(seq, 0);
            }
            account.next = track.next_seq();
            for (seq, length) in &mut account.subgroups {
                *length = track.subgroup(*seq).map_or(*length, |held| held.len());
            }
        }
    }

    /// A subscription is over.
    pub(crate) fn close(&mut self, request: RequestId) {
        if let Some(account) = self.subscriptions.remove(&request) {
            self.closed += account.sum();
        }
    }

    /// What is wrong in the outbox's books, if anything.
    pub(crate) fn check<'t>(
        &self,
        outbox: &Outbox,
        tracks: impl Fn(TrackId) -> Option<&'t Track>,
        now: Instant,
    ) -> Option<String> {
        if self.inexact {
            return None;
        }
        let offered = self.closed + self.subscriptions.values().map(Account::sum).sum::<u64>();
        let delivered = outbox.books().bytes_out;
        let dropped = outbox.books().drops.total().bytes;
        let queued = outbox.backlog(tracks, now).bytes;
        (delivered + dropped + queued != offered).then(|| {
            format!(
                "{delivered} delivered + {dropped} dropped + {queued} queued ≠ {offered} offered"
            )
        })
    }
}
