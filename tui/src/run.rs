//! The loop: keys, feed, time and signals in; screens out.

use std::io;
use std::time::{Duration, Instant};

use crossterm::event::{Event, EventStream, KeyEventKind};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;

use crate::feed::FeedEvent;
use crate::state::State;
use crate::terminal::Screen;
use crate::ui::{Flow, Ui};
use crate::view::theme::Theme;
use crate::view::{self, Hits, Scene};

/// How often the ages on the screen move on.
const TICK: Duration = Duration::from_millis(250);
/// Events that are taken at once before the screen is drawn again.
const BATCH: usize = 64;

/// Why the dashboard ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The terminal can't be read or written.
    #[error("lost the terminal")]
    Terminal(#[from] io::Error),
    /// The task that reads the feed is gone.
    #[error("the feed ended unexpectedly")]
    Feed,
}

/// Both ends of a feed.
#[derive(Debug)]
pub struct Feed {
    /// What it has to tell.
    pub events: Receiver<FeedEvent>,
    /// Told which node is on the screen, so that all of that one is asked for.
    pub looked_at: watch::Sender<Option<String>>,
}

/// Shows the dashboard until asked to end: by a key, or by SIGTERM, SIGINT or SIGHUP. Its clock runs
/// `speed` times as fast as the real one, for recordings that are played so.
///
/// # Errors
/// When the terminal or the feed's task is lost.
pub async fn run(
    mut screen: Screen,
    state: State,
    mut feed: Feed,
    mut signals: Signals,
    theme: Theme,
    speed: f64,
) -> Result<(), RunError> {
    let mut app = App { state, ui: Ui::default(), hits: Hits::default() };
    let start = Instant::now();
    let elapsed = || start.elapsed().mul_f64(speed);
    let mut input = EventStream::new();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    // A recording's feed ends by itself; that is no failure.
    let mut feed_ended = false;
    loop {
        let now = elapsed();
        let scene = Scene::new(&app.state, &app.ui, theme, now);
        let mut hits = Hits::default();
        screen.draw(|buffer| hits = view::render(buffer, &scene))?;
        app.hits = hits;
        let node = app.ui.looked_at(&app.state, now);
        feed.looked_at.send_if_modified(|known| {
            let is_other = *known != node;
            *known = node;
            is_other
        });
        tokio::select! {
            () = signals.asked_to_end() => return Ok(()),
            event = input.next() => {
                let mut next = Some(event);
                for _ in 0..BATCH {
                    let Some(event) = next else { break };
                    let event = event.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
                    if matches!(event, Event::Resize(..)) {
                        screen.clear()?;
                    }
                    if app.handle_input(&event, elapsed()) == Flow::Quit {
                        return Ok(());
                    }
                    next = input.next().now_or_never();
                }
            }
            event = feed.events.recv(), if !feed_ended => {
                let Some(event) = event else { return Err(RunError::Feed) };
                let now = elapsed();
                feed_ended = matches!(event, FeedEvent::Ended);
                app.state.handle_feed(event, now);
            }
            _ = tick.tick() => app.state.handle_tick(elapsed()),
        }
    }
}

struct App {
    state: State,
    ui: Ui,
    hits: Hits,
}

impl App {
    fn handle_input(&mut self, event: &Event, now: Duration) -> Flow {
        match event {
            // Terminals with the enhanced protocol report releases, too.
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                self.ui.handle_key(key, &self.state, &self.hits, now)
            }
            Event::Mouse(mouse) => self.ui.handle_mouse(*mouse, &self.state, &self.hits, now),
            _ => Flow::Continue,
        }
    }
}

/// The signals that ask a program to end. Install them before the terminal is taken: one that comes
/// earlier would leave it raw.
#[cfg(unix)]
#[derive(Debug)]
pub struct Signals([tokio::signal::unix::Signal; 3]);

#[cfg(unix)]
impl Signals {
    /// Catches them from now on.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self([
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    async fn asked_to_end(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.0;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// The signal that asks a program to end.
#[cfg(not(unix))]
#[derive(Debug)]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    /// Catches it from now on.
    ///
    /// # Errors
    /// Never here.
    pub fn install() -> io::Result<Self> {
        Ok(Self)
    }

    async fn asked_to_end(&mut self) {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
