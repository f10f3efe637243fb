//! The threads of a relay: one worker for each core, each with a run-time, a UDP socket and the
//! sessions that came to it.
//!
//! The first worker also has the sessions to parents and the node's own chores. What is told over
//! HTTP has a thread of its own, so that it never waits for media, nor media for it.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use transport::Listener;

use crate::node::{self, Node};

/// A run-time with one thread, that of a worker.
///
/// It is of the kind that could have several, because that runs next what a task has just woken: a
/// viewer's packets leave before the next viewer's are written, while they are in the cache. In the
/// order of waking half of the viewers would get an object a third later.
pub(crate) fn runtime(worker: usize) -> anyhow::Result<Runtime> {
    one_thread(&format!("worker-{worker}"), move || node::enter(worker))
}

fn one_thread(name: &str, begin: impl Fn() + Send + Sync + 'static) -> anyhow::Result<Runtime> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).thread_name(name).on_thread_start(begin).enable_all();
    builder.build().context("cannot start a thread")
}

/// What runs beside the first worker.
pub(crate) struct Workers {
    over: watch::Sender<bool>,
    running: Vec<(Runtime, JoinHandle<()>)>,
}

impl Workers {
    /// Starts a worker for each listener. Their numbers begin with 1, for the caller is the first.
    pub(crate) fn start(node: &Arc<Node>, listeners: Vec<Listener>) -> anyhow::Result<Self> {
        let mut workers = Self { over: watch::Sender::new(false), running: Vec::new() };
        for (listener, worker) in listeners.into_iter().zip(1..) {
            let (node, over) = (Arc::clone(node), workers.over.subscribe());
            let serving = async move { node.serve(listener, worker, over).await };
            workers.spawn(runtime(worker)?, serving);
        }
        Ok(workers)
    }

    /// Runs something else on a thread of its own until it ends. What it is given becomes true when
    /// it should.
    pub(crate) fn beside<F>(
        &mut self,
        name: &str,
        work: impl FnOnce(watch::Receiver<bool>) -> F,
    ) -> anyhow::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let work = work(self.over.subscribe());
        self.spawn(one_thread(name, || ())?, work);
        Ok(())
    }

    fn spawn(&mut self, runtime: Runtime, work: impl Future<Output = ()> + Send + 'static) {
        let running = runtime.spawn(work);
        self.running.push((runtime, running));
    }

    /// Has all of them end, and waits for it.
    pub(crate) async fn end(self) {
        self.over.send_replace(true);
        for (runtime, running) in self.running {
            // One that panicked has said so.
            let _ = running.await;
            runtime.shutdown_background();
        }
    }
}
