use std::collections::VecDeque;
use std::task::Waker;

use super::*;

const PACKET: usize = 1200;

/// A socket that notes what it is given, and takes nothing while it is blocked.
#[derive(Debug, Default)]
struct Fake {
    sent: Mutex<VecDeque<Sent>>,
    blocked: AtomicBool,
    writable: AtomicWaker,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    port: u16,
    packet: Option<usize>,
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Writable(Arc<Fake>);

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.writable.register(cx.waker());
        if self.0.blocked.load(Ordering::SeqCst) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }
}

impl AsyncUdpSocket for Fake {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable(self))
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.blocked.load(Ordering::SeqCst) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let packets =
            transmit.segment_size.map_or(1, |size| transmit.contents.len().div_ceil(size));
        assert!(packets <= 64 && transmit.contents.len() <= 65_000, "too much for the kernel");
        self.sent.lock().unwrap().push_back(Sent {
            port: transmit.destination.port(),
            packet: transmit.segment_size,
            bytes: transmit.contents.to_vec(),
        });
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([127, 0, 0, 1], 1).into())
    }

    fn max_transmit_segments(&self) -> usize {
        64
    }
}

impl Fake {
    fn take(&self) -> Vec<Sent> {
        self.sent.lock().unwrap().drain(..).collect()
    }

    fn block(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::SeqCst);
        self.writable.wake();
    }
}

fn both() -> (Arc<Fake>, Arc<Batching>) {
    let fake = Arc::<Fake>::default();
    let batching = Batching::new(Arc::clone(&fake) as Arc<dyn AsyncUdpSocket>);
    (fake, batching)
}

/// So many packets of one size to a port, the last one of `last` bytes.
fn give(batching: &Batching, port: u16, packets: usize, last: usize) -> io::Result<()> {
    let bytes = vec![packets as u8; (packets - 1) * PACKET + last];
    batching.try_send(&Transmit {
        destination: ([127, 0, 0, 1], port).into(),
        ecn: None,
        contents: &bytes,
        segment_size: (packets > 1).then_some(PACKET),
        src_ip: None,
    })
}

/// Bytes of each call, and where they went.
fn calls(sent: &[Sent]) -> Vec<(u16, usize)> {
    sent.iter().map(|sent| (sent.port, sent.bytes.len())).collect()
}

/// Lets the task that flushes run.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_follows_a_full_batch_leaves_with_it() {
    let (fake, batching) = both();
    give(&batching, 7, 10, PACKET).unwrap();
    assert!(fake.take().is_empty(), "it waits for what follows");
    give(&batching, 7, 5, 100).unwrap();
    let sent = fake.take();
    assert_eq!(calls(&sent), [(7, 14 * PACKET + 100)]);
    assert_eq!(sent[0].packet, Some(PACKET));
    assert_eq!(sent[0].bytes[..10 * PACKET], [10; 10 * PACKET]);
    assert_eq!(sent[0].bytes[10 * PACKET..], [5; 4 * PACKET + 100]);

    // A last packet alone too, even a short one.
    give(&batching, 7, 10, PACKET).unwrap();
    give(&batching, 7, 1, 30).unwrap();
    assert_eq!(calls(&fake.take()), [(7, 10 * PACKET + 30)]);
}

#[tokio::test]
async fn what_nothing_follows_leaves_by_itself() {
    let (fake, batching) = both();
    give(&batching, 7, 10, PACKET).unwrap();
    settle().await;
    assert_eq!(calls(&fake.take()), [(7, 10 * PACKET)]);
}

#[tokio::test]
async fn small_sends_are_not_kept_back() {
    let (fake, batching) = both();
    give(&batching, 7, 1, 30).unwrap();
    give(&batching, 7, 9, PACKET).unwrap();
    give(&batching, 7, 10, PACKET - 1).unwrap();
    assert_eq!(calls(&fake.take()), [(7, 30), (7, 9 * PACKET), (7, 10 * PACKET - 1)]);
}

#[tokio::test]
async fn what_goes_elsewhere_goes_after() {
    let (fake, batching) = both();
    give(&batching, 7, 10, PACKET).unwrap();
    give(&batching, 8, 2, 10).unwrap();
    assert_eq!(calls(&fake.take()), [(7, 10 * PACKET), (8, PACKET + 10)]);
    // A packet larger than those before it cannot follow them.
    give(&batching, 7, 10, PACKET).unwrap();
    give(&batching, 7, 1, PACKET + 1).unwrap();
    assert_eq!(calls(&fake.take()), [(7, 10 * PACKET), (7, PACKET + 1)]);
}

#[tokio::test]
async fn a_batch_stays_within_what_the_kernel_takes() {
    let (fake, batching) = both();
    for _ in 0..20 {
        give(&batching, 7, 10, PACKET).unwrap();
    }
    settle().await;
    let sent = fake.take();
    assert_eq!(sent.iter().map(|sent| sent.bytes.len()).sum::<usize>(), 200 * PACKET);
    assert_eq!(sent.len(), 4, "50 packets each");
}

#[tokio::test]
async fn nothing_is_lost_while_the_socket_takes_nothing() {
    let (fake, batching) = both();
    give(&batching, 7, 10, PACKET).unwrap();
    fake.block(true);
    // Taken, for it goes with what is kept back; the next is not.
    give(&batching, 7, 3, 5).unwrap();
    let refused = give(&batching, 7, 2, 5).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::WouldBlock);
    settle().await;
    assert!(fake.take().is_empty());
    fake.block(false);
    settle().await;
    give(&batching, 7, 2, 5).unwrap();
    assert_eq!(calls(&fake.take()), [(7, 12 * PACKET + 5), (7, PACKET + 5)]);
}

#[tokio::test]
async fn the_run_time_is_asked_for_room_only_once_there_was_none() {
    let (fake, batching) = both();
    let mut poller = Arc::clone(&batching).create_io_poller();
    let mut has_room = || poller.as_mut().poll_writable(&mut Context::from_waker(Waker::noop()));
    fake.block(true);
    assert!(has_room().is_ready(), "nobody knows better yet");
    give(&batching, 7, 1, 5).unwrap_err();
    assert!(has_room().is_pending());
    fake.block(false);
    assert!(has_room().is_ready());
    give(&batching, 7, 1, 5).unwrap();
    assert!(has_room().is_ready());
}

#[tokio::test]
async fn the_task_ends_with_the_socket() {
    let (fake, batching) = both();
    settle().await;
    drop(batching);
    settle().await;
    assert_eq!(Arc::strong_count(&fake), 1);
}
