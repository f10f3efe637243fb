//! What the peer's data streams call our subscriptions ("Track Alias").

use std::collections::{HashMap, VecDeque};

use crate::{FullTrackName, ProtocolError, RequestId, SessionCode};

/// Whose data a track alias announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Objects of this subscription. Several subscriptions to one track can share an alias since
    /// draft 19; this is the oldest of them, see [`crate::Session::track_alias_requests`].
    Request(RequestId),
    /// A subscription that is over: read nothing more.
    Retired,
    /// Not known yet: the answer that names it may still come.
    Unknown,
}

/// How many ended subscriptions' aliases are remembered, so that their late streams are dropped
/// at once instead of being waited for.
const RETIRED: usize = 256;

#[derive(Debug)]
struct Use {
    track: FullTrackName,
    requests: Vec<RequestId>,
}

#[derive(Debug, Default)]
pub(super) struct Aliases {
    in_use: HashMap<u64, Use>,
    retired: VecDeque<u64>,
}

impl Aliases {
    pub(super) fn find(&self, alias: u64) -> Alias {
        match self.requests(alias).first() {
            Some(id) => Alias::Request(*id),
            None if self.retired.contains(&alias) => Alias::Retired,
            None => Alias::Unknown,
        }
    }

    pub(super) fn requests(&self, alias: u64) -> &[RequestId] {
        self.in_use.get(&alias).map_or(&[], |used| &used.requests)
    }

    pub(super) fn take(
        &mut self,
        alias: u64,
        track: &FullTrackName,
        id: RequestId,
    ) -> Result<(), ProtocolError> {
        let used = self
            .in_use
            .entry(alias)
            .or_insert_with(|| Use { track: track.clone(), requests: Vec::new() });
        if used.track != *track {
            return Err(ProtocolError::new(
                SessionCode::DUPLICATE_TRACK_ALIAS,
                format!("track alias {alias} is in use for {}", used.track),
            ));
        }
        used.requests.push(id);
        self.retired.retain(|retired| *retired != alias);
        Ok(())
    }

    pub(super) fn release(&mut self, alias: u64, id: RequestId) {
        let Some(used) = self.in_use.get_mut(&alias) else { return };
        used.requests.retain(|other| *other != id);
        if used.requests.is_empty() {
            self.in_use.remove(&alias);
            if self.retired.len() == RETIRED {
                self.retired.pop_front();
            }
            self.retired.push_back(alias);
        }
    }
}
