//! A terminal for a process: a pseudo-terminal, and a screen that does what the few commands say which progress lines need.

use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};

use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::patience;

/// Pieces of output that wait to be looked at.
const CHUNKS_MAX: usize = 100_000;

/// A process on a terminal.
pub(crate) struct Terminal {
    child: Child,
    output: Receiver<Vec<u8>>,
    screen: Screen,
}

/// What is to be seen, as lines that never scroll away.
struct Screen {
    columns: usize,
    lines: Vec<Vec<char>>,
    line: usize,
    column: usize,
    /// Bytes of a command or character that aren't complete.
    rest: Vec<u8>,
}

impl Terminal {
    /// Starts it with standard output and error on a terminal of so many columns.
    pub(crate) fn start(mut command: Command, columns: u16) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&ours).and_then(|()| unlockpt(&ours)).expect("ours");
        let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&ours, size).expect("a size");
        let name = ptsname(&ours, Vec::new()).expect("a name");
        let theirs = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("the other end");
        let theirs_too = theirs.try_clone().expect("cloned");
        command.env("TERM", "xterm").stdin(Stdio::null()).stdout(theirs_too).stderr(theirs);
        let child = command.spawn().expect("starts");
        // It holds the other end, which must be closed when the process ends.
        drop(command);
        let screen = Screen { columns: columns.into(), lines: vec![Vec::new()], line: 0, column: 0, rest: Vec::new() };
        Self { child, output: read(ours), screen }
    }

    /// The lines on the screen, without blanks at their ends.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.screen.lines.iter().map(|line| line.iter().collect::<String>().trim_end().to_owned()).collect()
    }

    /// Waits until the screen is so.
    pub(crate) fn wait_until(&mut self, wanted: impl Fn(&[String]) -> bool) {
        while !wanted(&self.lines()) {
            let chunk = patience::next(&self.output, || self.lines().join("\n"));
            let Some(chunk) = chunk else { panic!("it ended with:\n{}", self.lines().join("\n")) };
            self.screen.show(&chunk);
        }
    }

    /// Waits for its end; what then is on the screen.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        while let Some(chunk) = patience::next(&self.output, || self.lines().join("\n")) {
            self.screen.show(&chunk);
        }
        let lines = self.lines();
        (self.child.wait().expect("it is ours"), lines)
    }

    pub(crate) fn id(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }
}

fn read(from: OwnedFd) -> Receiver<Vec<u8>> {
    let (send, output) = sync_channel(CHUNKS_MAX);
    std::thread::spawn(move || {
        let mut from = std::fs::File::from(from);
        let mut buffer = [0; 4096];
        // When the last process with the other end is gone, reading fails.
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            if send.send(buffer[..len].to_vec()).is_err() {
                return;
            }
        }
    });
    output
}

impl Screen {
    fn show(&mut self, bytes: &[u8]) {
        self.rest.extend(bytes);
        let text = match std::str::from_utf8(&self.rest) {
            Ok(text) => text.to_owned(),
            Err(error) => String::from_utf8_lossy(&self.rest[..error.valid_up_to()]).into_owned(),
        };
        let mut chars = text.chars();
        let mut used = 0;
        while let Some(char) = chars.next() {
            if char == '\u{1b}' {
                let Some(end) = chars.as_str().find(|c: char| c.is_ascii_alphabetic()) else { break };
                let (command, after) = chars.as_str().split_at(end + 1);
                self.obey(command);
                chars = after.chars();
            } else {
                self.put(char);
            }
            used = text.len() - chars.as_str().len();
        }
        self.rest.drain(..used);
    }

    fn put(&mut self, char: char) {
        match char {
            '\r' => self.column = 0,
            '\n' => self.go_to(self.line + 1),
            // The first character behind the last column is in the next line.
            _ => {
                if self.column == self.columns {
                    self.column = 0;
                    self.go_to(self.line + 1);
                }
                let line = &mut self.lines[self.line];
                line.resize(line.len().max(self.column + 1), ' ');
                line[self.column] = char;
                self.column += 1;
            }
        }
    }

    fn go_to(&mut self, line: usize) {
        self.line = line;
        self.lines.resize(self.lines.len().max(line + 1), Vec::new());
    }

    /// `[` number letter.
    fn obey(&mut self, command: &str) {
        let (number, letter) =
            command.trim_start_matches(['[', '?']).split_at(command.trim_start_matches(['[', '?']).len() - 1);
        let count = number.parse().unwrap_or(1);
        match letter {
            "A" => self.line = self.line.saturating_sub(count),
            "B" => self.go_to(self.line + count),
            "K" if number == "2" => self.lines[self.line].clear(),
            "K" => self.lines[self.line].truncate(self.column),
            "J" => {
                self.lines[self.line].truncate(self.column);
                self.lines.truncate(self.line + 1);
            }
            // Colours, and whether there is a cursor.
            "m" | "h" | "l" => {}
            _ => panic!("a command that this screen doesn't know: {command:?}"),
        }
    }
}

#[test]
fn a_screen() {
    let mut screen = Screen { columns: 4, lines: vec![Vec::new()], line: 0, column: 0, rest: Vec::new() };
    screen.show("abcdefgh\r\nx\u{1b}[1".as_bytes());
    screen.show("A\rü\r\n\u{1b}[2K\u{1b}[31my".as_bytes());
    let lines: Vec<String> = screen.lines.iter().map(|line| line.iter().collect()).collect();
    assert_eq!(lines, ["abcd", "üfgh", "y"]);
}
