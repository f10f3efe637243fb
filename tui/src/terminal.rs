//! The terminal: taken when the dashboard opens and given back however it ends.

use std::io::{self, IsTerminal, Stdout, Write, stdin, stdout};
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::event::{DisableMouseCapture, EnableMouseCapture};
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::buffer::Buffer;

/// Whether there is something to give back.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// A terminal in raw mode on its alternate screen. Dropping it gives it back.
#[derive(Debug)]
pub struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Why there is no terminal to draw on.
#[derive(Debug, thiserror::Error)]
pub enum NoTerminal {
    /// A pipe, a file, a service.
    #[error("standard input and output are no terminal; use --once for a table in plain text")]
    NotATerminal,
    /// The terminal refuses.
    #[error("cannot use the terminal")]
    Io(#[from] io::Error),
}

impl Screen {
    /// Takes the terminal. A panic anywhere gives it back before it is reported.
    ///
    /// # Errors
    /// When there is none, or it refuses.
    pub fn take(mouse: bool) -> Result<Self, NoTerminal> {
        if !stdin().is_terminal() || !stdout().is_terminal() {
            return Err(NoTerminal::NotATerminal);
        }
        let report = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            report(panic);
        }));
        TAKEN.store(true, Ordering::SeqCst);
        let taken = enter(mouse);
        if taken.is_err() {
            give_back();
        }
        Ok(Self { terminal: taken? })
    }

    /// Draws a screen; only what changed is sent.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn draw(&mut self, render: impl FnOnce(&mut Buffer)) -> io::Result<()> {
        self.terminal.draw(|frame| render(frame.buffer_mut())).map(|_| ())
    }

    /// Draws everything anew at the next [`Screen::draw`].
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn clear(&mut self) -> io::Result<()> {
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter(mouse: bool) -> io::Result<Terminal<CrosstermBackend<Stdout>>> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, cursor::Hide)?;
    if mouse {
        execute!(stdout(), EnableMouseCapture)?;
    }
    Terminal::new(CrosstermBackend::new(stdout()))
}

/// Gives the terminal back, once. Errors are of no use: it may be gone.
fn give_back() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let _ = execute!(stdout(), DisableMouseCapture, LeaveAlternateScreen, cursor::Show);
        let _ = disable_raw_mode();
        let _ = stdout().flush();
    }
}
