//! Figures for however many ask, read for all of them at once.
//!
//! Reading figures takes the locks of the media path for a moment. So one thread does it at a time,
//! with a pause between two readings: what clients of the API do costs the media path nothing more.
//! Nor do they wait for it: when a reading takes too long, they get the one before.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// From the start of one reading to the start of the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long a reading is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What was read.
pub(super) struct Reading<T> {
    pub(super) figures: Arc<T>,
    begun: Instant,
}

impl<T> Reading<T> {
    /// How old the figures may be.
    pub(super) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether the node told nothing newer though it was asked.
    pub(super) fn is_old(&self) -> bool {
        self.age() > PATIENCE
    }
}

impl<T> Clone for Reading<T> {
    fn clone(&self) -> Self {
        Self { figures: Arc::clone(&self.figures), begun: self.begun }
    }
}

/// One kind of figures and how they are read.
pub(super) struct Paced<T> {
    read: Arc<dyn Fn() -> T + Send + Sync>,
    state: Mutex<State<T>>,
}

struct State<T> {
    latest: Option<Reading<T>>,
    /// One that has begun and is not known to have ended.
    running: Option<(Instant, JoinHandle<T>)>,
}

impl<T: Send + Sync + 'static> Paced<T> {
    pub(super) fn new(read: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let state = Mutex::new(State { latest: None, running: None });
        Self { read: Arc::new(read), state }
    }

    /// Figures read after this was called; older ones if the node takes too long to tell; `None` if
    /// it never told any.
    pub(super) async fn latest(&self) -> Option<Reading<T>> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        let fresh = tokio::time::timeout_at(asked + PATIENCE, self.read_since(asked, &mut state));
        let _ = fresh.await;
        state.latest.clone()
    }

    /// Reads until there is something newer than `asked`. Can be dropped at any await.
    async fn read_since(&self, asked: Instant, state: &mut State<T>) {
        while state.latest.as_ref().is_none_or(|latest| latest.begun < asked) {
            if state.running.is_none() {
                if let Some(latest) = &state.latest {
                    tokio::time::sleep_until(latest.begun + PAUSE).await;
                }
                let read = Arc::clone(&self.read);
                state.running = Some((Instant::now(), tokio::task::spawn_blocking(move || read())));
            }
            let Some((begun, running)) = &mut state.running else { continue };
            match running.await {
                Ok(figures) => {
                    state.latest = Some(Reading { figures: Arc::new(figures), begun: *begun });
                }
                Err(error) => {
                    tracing::error!(%error, "figures could not be read");
                    state.running = None;
                    return;
                }
            }
            state.running = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;

    use super::*;

    /// Figures that count how often they were read.
    fn counting() -> (Paced<u64>, Arc<AtomicU64>) {
        let count = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&count);
        (Paced::new(move || counted.fetch_add(1, Ordering::SeqCst) + 1), count)
    }

    #[tokio::test]
    async fn each_answer_is_newer_than_its_question() {
        let (figures, count) = counting();
        for _ in 0..4 {
            let before = count.load(Ordering::SeqCst);
            assert!(*figures.latest().await.unwrap().figures > before);
        }
    }

    #[tokio::test]
    async fn who_asks_at_once_is_answered_at_once_by_few_readings() {
        let (figures, count) = counting();
        let asked: Vec<_> = (0..500).map(|_| figures.latest()).collect();
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(Option::is_some));
        // The first reading may have begun before the last of them asked.
        assert!(count.load(Ordering::SeqCst) <= 2, "{count:?}");
    }

    #[tokio::test]
    async fn readings_pause() {
        let (figures, _) = counting();
        let began = Instant::now();
        for _ in 0..4 {
            figures.latest().await.unwrap();
        }
        assert!(began.elapsed() >= 3 * PAUSE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_node_that_is_stuck_is_answered_for_with_what_it_said_before() {
        let (unblock, blocked) = mpsc::channel::<()>();
        let blocked = std::sync::Mutex::new(blocked);
        let (count, reading) = (AtomicU64::new(0), Arc::new(AtomicU64::new(0)));
        let at_once = Arc::clone(&reading);
        let figures = Paced::new(move || {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "one reading at a time");
            let nth = count.fetch_add(1, Ordering::SeqCst);
            if nth > 0 {
                let _ = blocked.lock().unwrap().recv();
            }
            at_once.fetch_sub(1, Ordering::SeqCst);
            nth
        });
        assert_eq!(*figures.latest().await.unwrap().figures, 0);
        for _ in 0..2 {
            let reading = figures.latest().await.unwrap();
            assert!(*reading.figures == 0 && reading.is_old());
        }
        drop(unblock);
        assert!(*figures.latest().await.unwrap().figures > 1, "goes on once the node does");
    }

    #[tokio::test]
    async fn a_node_that_never_said_a_thing_leaves_the_answer_open() {
        let (unblock, blocked) = mpsc::channel::<()>();
        let blocked = std::sync::Mutex::new(blocked);
        let figures = Paced::new(move || {
            let _ = blocked.lock().unwrap().recv();
        });
        assert!(figures.latest().await.is_none());
        drop(unblock);
    }
}
