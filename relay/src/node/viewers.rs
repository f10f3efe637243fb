//! Takes what viewers report.
//!
//! A player publishes the track `report` in a namespace of its own, `weir/viewers/` and 16 hex
//! digits: one small JSON object a group. Any session may, one such track at a time. The router does
//! not hear of it, so nobody can subscribe to it, here or above: what becomes of it is in
//! [`super::seen`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use moqt::{
    FullTrackName, ObjectScanner, RequestError, RequestErrorCode, RequestId, RequestOk, ResetCode,
    Response, SubgroupHeader,
};
use tokio::task::AbortHandle;
use transport::{CANONICAL, RecvStream};

use super::seen::{Nonsense, Report, ViewerId};
use super::{Node, lock};

const PREFIX: [&[u8]; 2] = [b"weir", b"viewers"];
const TRACK: &[u8] = b"report";
/// Digits that tell viewers apart.
const DIGITS: usize = 16;
/// Bytes of a subgroup that are looked at: a report has some 200.
const MAX_BYTES: usize = 4096;
/// How long a report may take to come.
const PATIENCE: Duration = Duration::from_secs(5);
/// Reports come every 5 s; one a second is still read, and so many at once.
const BURST: f64 = 3.0;

/// Whether a track of this name is a viewer's report.
pub(super) fn is_report(name: &FullTrackName) -> bool {
    let [weir, viewers, digits] = name.namespace().fields() else { return false };
    let is_id = digits.len() == DIGITS && digits.iter().all(u8::is_ascii_hexdigit);
    [&weir[..], &viewers[..]] == PREFIX && is_id && name.name()[..] == *TRACK
}

/// One session's reports.
pub(super) struct Reports {
    node: Arc<Node>,
    since: Instant,
    /// Once it said that it will report.
    viewer: Option<ViewerId>,
    /// Its PUBLISH.
    request: Option<RequestId>,
    allowance: Allowance,
    /// The report that is being read.
    reading: Option<AbortHandle>,
}

impl Reports {
    pub(super) fn new(node: Arc<Node>, now: Instant) -> Self {
        let allowance = Allowance { left: BURST, at: now };
        Self { node, since: now, viewer: None, request: None, allowance, reading: None }
    }

    /// A PUBLISH of a report; returns the answer.
    pub(super) fn begin(&mut self, id: RequestId) -> Response {
        if self.request.is_some() {
            let reason = "this session reports already";
            return Response::Error(RequestError::new(RequestErrorCode::EXCESSIVE_LOAD, reason));
        }
        self.request = Some(id);
        // Counters count from the session's start, whatever was published before.
        self.viewer.get_or_insert_with(|| lock(&self.node.seen).begin(self.since));
        Response::Ok(RequestOk::default())
    }

    /// Whether this PUBLISH is that of the reports.
    pub(super) fn is(&self, id: RequestId) -> bool {
        self.request == Some(id)
    }

    /// That PUBLISH is over.
    pub(super) fn end(&mut self) {
        self.request = None;
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(reading) = self.reading.take() {
            reading.abort();
        }
    }

    /// A subgroup of the reports begins. One that did not come whole yet is given up for it.
    pub(super) fn handle_subgroup(
        &mut self,
        header: SubgroupHeader,
        head: Bytes,
        mut stream: RecvStream,
        now: Instant,
    ) {
        let Some(viewer) = self.viewer else { return };
        if !self.allowance.take(now) {
            return stream.stop(ResetCode::EXCESSIVE_LOAD);
        }
        self.stop();
        let node = Arc::clone(&self.node);
        let reading = tokio::spawn(async move {
            let read = tokio::time::timeout(PATIENCE, read(&header, head, stream)).await;
            let Ok(Some(payload)) = read else {
                return tracing::debug!(
                    group = header.group,
                    "a viewer's report did not come whole"
                );
            };
            if let Err(error) = node.take_report(viewer, header.group, &payload) {
                tracing::debug!(group = header.group, %error, "no report of a viewer's");
            }
        });
        self.reading = Some(reading.abort_handle());
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        self.stop();
        if let Some(viewer) = self.viewer {
            lock(&self.node.seen).end(viewer);
        }
    }
}

impl Node {
    fn take_report(&self, viewer: ViewerId, group: u64, json: &[u8]) -> Result<(), Nonsense> {
        let report = Report::parse(json)?;
        lock(&self.seen).handle_report(viewer, group, &report, Instant::now())
    }
}

/// The first object's payload; `None`: it is none, or too long. The rest of the stream is stopped.
async fn read(header: &SubgroupHeader, head: Bytes, mut stream: RecvStream) -> Option<Bytes> {
    let mut scanner = ObjectScanner::new(header, CANONICAL.int_coding());
    let mut bytes = BytesMut::new();
    let mut object = None;
    let mut chunk = head;
    loop {
        scanner.scan(&chunk, |mark| object = object.take().or(Some(mark))).ok()?;
        bytes.extend_from_slice(&chunk);
        if let Some(mark) = &object {
            if mark.end() > MAX_BYTES as u64 {
                return None;
            }
            if mark.end() <= bytes.len() as u64 {
                let payload = mark.payload_start as usize..mark.end() as usize;
                return Some(bytes.freeze().slice(payload));
            }
        }
        if bytes.len() > MAX_BYTES {
            return None;
        }
        chunk = stream.read_chunk(MAX_BYTES).await.ok()??;
    }
}

/// How many reports may come now.
struct Allowance {
    left: f64,
    at: Instant,
}

impl Allowance {
    /// One more: whether it may.
    fn take(&mut self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at);
        self.left = (self.left + since.as_secs_f64()).min(BURST);
        self.at = now;
        let may = self.left >= 1.0;
        if may {
            self.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use moqt::Namespace;

    use super::*;

    #[test]
    fn a_report_is_known_by_its_whole_name() {
        let name = |path, track: &'static str| {
            FullTrackName::new(Namespace::from_path(path).unwrap(), track).unwrap()
        };
        assert!(is_report(&name("weir/viewers/0123456789abcdef", "report")));
        for (path, track) in [
            ("weir/viewers/0123456789abcdef", "reports"),
            ("weir/viewers/0123456789abcdef/a", "report"),
            ("weir/viewers/0123456789abcde", "report"),
            ("weir/viewers/0123456789abcdeg", "report"),
            ("weir/viewers", "report"),
            ("weir/nodes/0123456789abcdef", "report"),
            ("live/viewers/0123456789abcdef", "report"),
        ] {
            assert!(!is_report(&name(path, track)), "{path} {track}");
        }
    }

    #[test]
    fn a_flood_of_reports_is_not_read() {
        let start = Instant::now();
        let mut allowance = Allowance { left: BURST, at: start };
        let taken = |allowance: &mut Allowance, ms| {
            (0..100).filter(|_| allowance.take(start + Duration::from_millis(ms))).count()
        };
        assert_eq!(taken(&mut allowance, 0), 3);
        assert_eq!(taken(&mut allowance, 900), 0);
        assert_eq!(taken(&mut allowance, 1000), 1);
        assert_eq!(taken(&mut allowance, 60_000), 3);
    }
}
