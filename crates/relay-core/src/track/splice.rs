//! One feed's bytes into one subgroup: what comes next on the feed against what is held.

use moqt::{Location, ObjectStatus, SubgroupHeader};

use super::feed::{Feed, Mark};
use super::{ObjectEntry, Subgroup, SubgroupEnd, TrackError};

/// How a feed's next object stands to what is held.
#[derive(Clone, Copy)]
pub(super) enum Next {
    /// It is held whole, or was passed over; the entry, if it can be compared.
    Known(Option<ObjectEntry>),
    /// It is held in part.
    Partly(ObjectEntry),
    /// It comes right after what is held.
    Follows,
    /// It may not follow what is held: objects are missing before it.
    Early,
    /// Its head is gone, which nobody else has brought either.
    Lost,
}

/// A feed and the subgroup it goes to.
pub(super) struct Splice<'a> {
    feed: &'a mut Feed,
    held: &'a mut Subgroup,
    /// Offset in the feed up to which its bytes will be given, all at once so that chunks stay
    /// whole.
    run: u64,
}

impl<'a> Splice<'a> {
    pub(super) fn new(feed: &'a mut Feed, held: &'a mut Subgroup) -> Self {
        let run = feed.start();
        Self { feed, held, run }
    }

    /// Offset in the subgroup after all that is held or about to be.
    fn len(&self) -> u64 {
        self.held.len() + (self.run - self.feed.start())
    }

    /// What is to be done with the feed's next object, if one came.
    pub(super) fn next(&self) -> Option<Next> {
        let mark = self.feed.queue.front()?;
        let (id, len) = (mark.object.id, self.len());
        if mark.lost {
            return Some(Next::Lost);
        }
        let Some(last) = self.held.newest() else {
            let first = self.feed.at_first_object() || !self.held.header.first_object;
            return Some(if first && !self.held.is_over() { Next::Follows } else { Next::Early });
        };
        let whole = len >= last.end;
        if id < last.id || id == last.id && whole {
            return Some(Next::Known(self.held.find(id).copied()));
        }
        if self.held.is_over() {
            // Of an object that broke off inside, only a whole copy is of use.
            let head = self.run <= mark.object.start;
            return Some(if head { Next::Early } else { Next::Lost });
        }
        if id == last.id {
            return Some(Next::Partly(*last));
        }
        // One is after the other on the feed, or no Object ID lies between.
        let adjoins = self.feed.previous == Some(last.id) || last.id.checked_add(1) == Some(id);
        let alike = self.held.header.properties == self.feed.header.properties;
        Some(if whole && adjoins && alike { Next::Follows } else { Next::Early })
    }

    /// Where the next object is, and its status.
    pub(super) fn object(&self) -> Option<(Location, ObjectStatus)> {
        let object = &self.feed.queue.front()?.object;
        let location = Location { group: self.held.header.group, object: object.id };
        Some((location, object.status))
    }

    /// Says why there can be no such object in the subgroup, if a source has told its end.
    pub(super) fn check_end(&self, at: Location) -> Result<(), TrackError> {
        let beyond = self.held.last.is_some_and(|last| at.object > last);
        if beyond || self.held.end == SubgroupEnd::Finished {
            return Err(TrackError::Malformed(format!(
                "object {at} follows the end of subgroup {}",
                self.held.id()
            )));
        }
        Ok(())
    }

    /// Checks the next object against the copy held, once.
    pub(super) fn compare(&mut self, entry: &ObjectEntry) -> Result<(), TrackError> {
        let Some(mark) = self.feed.queue.front_mut() else { return Ok(()) };
        if std::mem::replace(&mut mark.compared, true) {
            return Ok(());
        }
        // The copy's header may be on its way still.
        self.flush();
        let Some(Mark { object, .. }) = self.feed.queue.front() else { return Ok(()) };
        match self.held.differs(entry, object.payload_len, object.status, &object.properties) {
            None => Ok(()),
            Some(what) => Err(TrackError::Malformed(format!(
                "object {}:{} came twice with different {what}",
                self.held.header.group, object.id
            ))),
        }
    }

    /// Drops what came of the next object; it is returned once that is all of it.
    pub(super) fn skip(&mut self) -> Option<Mark> {
        self.flush();
        let arrived = self.arrived()?;
        self.feed.drop_to(arrived);
        self.run = self.feed.start();
        self.pop(arrived)
    }

    /// Gives what is not held yet of the next object; it is returned once that is all of it.
    pub(super) fn go_on(&mut self, entry: &ObjectEntry) -> Option<Mark> {
        let arrived = self.arrived()?;
        let payload_start = self.feed.queue.front()?.object.payload_start;
        // Where in the feed the first byte is that is not held.
        let next = payload_start + (self.len() - entry.payload_start);
        if self.run < next {
            self.flush();
            self.feed.drop_to(next.min(arrived));
            self.run = self.feed.start();
        }
        self.run = self.run.max(arrived);
        self.pop(arrived)
    }

    /// Gives what came of an object that follows what is held; it is returned once that is all of
    /// it.
    pub(super) fn begin(&mut self) -> Option<Mark> {
        let previous = self.held.newest().map(|last| last.id);
        if previous.is_none() {
            // Nobody has seen the header yet, and this source tells what it brings.
            self.held.header = SubgroupHeader {
                subgroup: self.held.header.subgroup,
                first_object: self.feed.at_first_object(),
                ..self.feed.header
            };
        }
        let (arrived, start) = (self.arrived()?, self.len());
        let mark = self.feed.queue.front_mut()?;
        (mark.begun, mark.compared) = (true, true);
        let (object, received) = (mark.object.clone(), mark.received);
        let mut header = object.payload_start - object.start;
        if self.feed.previous != previous {
            self.flush();
            let (field, replaced) = self.feed.respell(object.id, previous);
            header = header - replaced + field.len() as u64;
            self.held.push(field);
            self.feed.drop_to(object.start + replaced);
        }
        let payload_start = start + header;
        self.held.begin(ObjectEntry {
            id: object.id,
            start,
            payload_start,
            end: payload_start.saturating_add(object.payload_len),
            received,
            status: object.status,
        });
        self.run = arrived;
        self.pop(arrived)
    }

    /// Gives all that is due.
    pub(super) fn flush(&mut self) {
        self.feed.move_to(self.run, self.held);
    }

    /// Offset in the feed up to which the next object came.
    fn arrived(&self) -> Option<u64> {
        Some(self.feed.queue.front()?.object.end().min(self.feed.offset()))
    }

    /// The next object is done with if it came up to its end.
    fn pop(&mut self, arrived: u64) -> Option<Mark> {
        (self.feed.queue.front()?.object.end() <= arrived).then(|| self.feed.pop()).flatten()
    }
}
