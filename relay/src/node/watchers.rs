//! Who is woken when a track has news: the sessions that send it, each on its worker.
//!
//! A task that is woken from another thread costs that thread's run-time a system call. So news for
//! another worker goes to its [`Herald`], once, who wakes the sessions there.

use std::cell::Cell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;

use futures_util::task::AtomicWaker;
use relay_core::SessionId;

use super::{Signal, lock};

thread_local! {
    /// The worker whose thread this is.
    static HERE: Cell<usize> = const { Cell::new(0) };
}

/// Says which worker's thread this is. Threads that are no worker's count as the first one's.
pub(crate) fn enter(worker: usize) {
    HERE.set(worker);
}

/// Wakes a worker's sessions for the other workers.
#[derive(Default)]
pub(super) struct Herald {
    news: Mutex<Vec<Arc<Crowd>>>,
    waker: AtomicWaker,
}

/// The sessions on one worker that watch one track.
#[derive(Default)]
struct Crowd {
    sessions: Mutex<Sessions>,
    /// How many, to be known without the lock.
    count: AtomicUsize,
    /// Its herald has been told and has not done it yet.
    called: AtomicBool,
}

/// Relays have viewers of their own who wait, so they go first.
#[derive(Default)]
struct Sessions {
    relays: HashMap<SessionId, Arc<Signal>>,
    viewers: HashMap<SessionId, Arc<Signal>>,
}

impl Sessions {
    fn len(&self) -> usize {
        self.relays.len() + self.viewers.len()
    }
}

/// The sessions that watch one track.
pub(super) struct Watchers {
    by_worker: Vec<(Arc<Herald>, Arc<Crowd>)>,
}

impl Herald {
    /// Runs for as long as its worker does, on it.
    pub(super) async fn run(&self) {
        poll_fn::<(), _>(|cx| {
            self.waker.register(cx.waker());
            for crowd in std::mem::take(&mut *lock(&self.news)) {
                // Before they are woken: what comes from here on is news again.
                crowd.called.store(false, Ordering::SeqCst);
                crowd.wake();
            }
            Poll::Pending
        })
        .await;
    }

    fn tell(&self, crowd: &Arc<Crowd>) {
        if !crowd.called.swap(true, Ordering::SeqCst) {
            lock(&self.news).push(Arc::clone(crowd));
            self.waker.wake();
        }
    }
}

impl Crowd {
    fn wake(&self) {
        let sessions = lock(&self.sessions);
        for signal in sessions.relays.values().chain(sessions.viewers.values()) {
            signal.0.wake();
        }
    }
}

impl Watchers {
    pub(super) fn new(heralds: &[Arc<Herald>]) -> Self {
        let crowd = |herald| (Arc::clone(herald), Arc::default());
        Self { by_worker: heralds.iter().map(crowd).collect() }
    }

    /// Adds a session of the worker that this is called on.
    pub(super) fn insert(&self, session: SessionId, is_relay: bool, signal: Arc<Signal>) {
        let (_, crowd) = &self.by_worker[HERE.get()];
        let mut sessions = lock(&crowd.sessions);
        let kin = if is_relay { &mut sessions.relays } else { &mut sessions.viewers };
        kin.insert(session, signal);
        crowd.count.store(sessions.len(), Ordering::SeqCst);
    }

    /// Forgets a session of the worker that this is called on.
    pub(super) fn remove(&self, session: SessionId) {
        let (_, crowd) = &self.by_worker[HERE.get()];
        let mut sessions = lock(&crowd.sessions);
        sessions.relays.remove(&session);
        sessions.viewers.remove(&session);
        crowd.count.store(sessions.len(), Ordering::SeqCst);
    }

    /// Wakes all of them.
    pub(super) fn wake(&self) {
        let here = HERE.get();
        for (worker, (herald, crowd)) in self.by_worker.iter().enumerate() {
            if worker == here {
                crowd.wake();
            } else if crowd.count.load(Ordering::SeqCst) > 0 {
                herald.tell(crowd);
            }
        }
    }
}
