//! The terminal: data on stdout, everything else on stderr. Nothing else in the client prints.

use std::io::{self, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Data could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// Whoever read the output has gone away, as `head` does. Nothing is to be said about it.
    #[error("standard output was closed")]
    Closed,
    /// Anything else.
    #[error("cannot write to standard output: {0}")]
    Io(io::Error),
}

/// Prints bytes on stdout.
pub fn data(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| {
        if error.kind() == io::ErrorKind::BrokenPipe { OutputError::Closed } else { OutputError::Io(error) }
    })
}

/// Prints one line on stdout.
pub fn line(text: &str) -> Result<(), OutputError> {
    data(format!("{text}\n").as_bytes())
}

/// Says something on stderr that isn't data and isn't trouble.
pub fn note(text: &str) {
    to_stderr(text);
}

/// Warns on stderr.
pub fn warn(text: &str) {
    to_stderr(&format!("warning: {text}"));
}

/// Says on stderr why the command failed.
pub fn error(text: &str) {
    to_stderr(&format!("error: {text}"));
}

/// Whether stderr is a terminal, so that something may move on it.
pub fn is_interactive() -> bool {
    io::stderr().is_terminal()
}

/// A bar for an amount of bytes on stderr; invisible unless that is a terminal.
pub fn bytes_bar() -> ProgressBar {
    let template = "{msg:.dim} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr()).with_style(style.progress_chars("=> "))
}

/// A closed stderr is no reason to fail.
fn to_stderr(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
