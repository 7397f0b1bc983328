//! What the search for keys asks of the outside: variables, the home directory, a passphrase.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// The outside, as the search for keys sees it; tests give their own.
pub trait Surroundings {
    /// An environment variable.
    fn variable(&self, name: &str) -> Option<OsString>;

    /// The user's home directory.
    fn home(&self) -> Option<PathBuf>;

    /// Asks the person at the terminal; `None` if there is no terminal.
    fn ask_passphrase(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>>;
}

/// The real process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn home(&self) -> Option<PathBuf> {
        std::env::home_dir().filter(|home| home.is_absolute())
    }

    fn ask_passphrase(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        // The prompt is written to the terminal itself, whatever stdin and stdout are. Without one this can't be opened.
        if OpenOptions::new().read(true).write(true).open("/dev/tty").is_err() {
            return Ok(None);
        }
        rpassword::prompt_password(prompt).map(|text| Some(Zeroizing::new(text)))
    }
}
