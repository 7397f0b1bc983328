//! The terminal: data on stdout, everything else on stderr. Nothing else in the client prints.

use std::io::{self, IsTerminal, Write};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

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

/// An amount of bytes for people.
pub fn bytes(count: u64) -> String {
    HumanBytes(count).to_string()
}

/// Some lines at the bottom of the terminal that change; what is said meanwhile goes above them.
pub struct LiveLines {
    area: MultiProgress,
    lines: Vec<ProgressBar>,
}

impl LiveLines {
    /// No lines yet; they are drawn at most `per_second` times a second.
    pub fn new(per_second: u8) -> Self {
        let area = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(per_second));
        Self { area, lines: Vec::new() }
    }

    /// Shows these lines in the place of those before; what doesn't fit in the terminal's width is cut.
    pub fn set(&mut self, texts: Vec<String>) {
        while self.lines.len() > texts.len() {
            if let Some(line) = self.lines.pop() {
                line.finish_and_clear();
                self.area.remove(&line);
            }
        }
        while self.lines.len() < texts.len() {
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            self.lines.push(self.area.add(ProgressBar::new_spinner().with_style(style)));
        }
        for (line, text) in self.lines.iter().zip(texts) {
            line.set_message(harmless(&text.replace('\n', " ")));
        }
    }

    /// Says something above the lines.
    pub fn say(&self, text: &str) {
        self.area.suspend(|| to_stderr(text));
    }
}

impl Drop for LiveLines {
    fn drop(&mut self) {
        self.set(Vec::new());
    }
}

/// A closed stderr is no reason to fail.
fn to_stderr(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}", harmless(text)));
}

/// Control characters, which could do anything to a terminal, in words: some of what is shown comes from other machines.
pub fn harmless(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_reaches_the_terminal_as_a_command() {
        assert_eq!(harmless("a\u{1b}[2Jb\r\nc ü"), "a\\u{1b}[2Jb\\r\nc ü");
    }
}
