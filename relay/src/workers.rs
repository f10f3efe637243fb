//! The threads of a relay: one worker for each core, each with a run-time, a UDP socket and the
//! sessions that came to it.
//!
//! The first worker is the main thread, which also has the sessions to parents and the node's own
//! chores. What is told over HTTP has a thread of its own, so that it never waits for media, nor
//! media for it.

use std::future::Future;
use std::sync::Arc;
use std::thread::JoinHandle;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use transport::Listener;

use crate::node::{self, Node};

/// A run-time for the thread that it is made on.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a run-time")
}

/// The workers beside the main thread.
pub(crate) struct Workers {
    over: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts a worker for each listener but the first, whose worker the caller is.
    pub(crate) fn start(node: &Arc<Node>, listeners: Vec<Listener>) -> anyhow::Result<Self> {
        let mut workers = Self { over: watch::Sender::new(false), threads: Vec::new() };
        for (listener, worker) in listeners.into_iter().zip(1..) {
            let (node, over) = (Arc::clone(node), workers.over.subscribe());
            workers.spawn(format!("worker-{worker}"), move || {
                node::enter(worker);
                async move { node.serve(listener, worker, over).await }
            })?;
        }
        Ok(workers)
    }

    /// Runs something on a thread and in a run-time of its own until it ends.
    pub(crate) fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> anyhow::Result<()> {
        let runtime = runtime()?;
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || runtime.block_on(async { work().await }));
        self.threads.push(thread.context("cannot start a thread")?);
        Ok(())
    }

    /// Becomes true when all are to end.
    pub(crate) fn over(&self) -> watch::Receiver<bool> {
        self.over.subscribe()
    }

    /// Has all of them end, and waits for it.
    pub(crate) fn end(self) {
        self.over.send_replace(true);
        for thread in self.threads {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
    }
}
