//! The operating system's errors → what they mean for a directory, with a text that says what, where and the system's words.

use std::io;
use std::path::Path;

use rustix::io::Errno;

use super::place::Place;
use crate::model::failure::{Failure, FailureKind};

/// Whether `error` is this error number.
pub fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Whether the file system doesn't know the operation or the flag.
pub(super) fn unsupported(error: &io::Error) -> bool {
    [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP].into_iter().any(|errno| is(error, errno))
}

/// What kind of trouble an error is, wherever it happened.
pub fn kind_of(error: &io::Error) -> FailureKind {
    let Some(errno) = Errno::from_io_error(error) else { return FailureKind::Io };
    match errno {
        Errno::NOSPC | Errno::DQUOT => FailureKind::NoSpace,
        Errno::ACCESS | Errno::PERM | Errno::ROFS => FailureKind::NotWritable,
        Errno::LOOP | Errno::XDEV | Errno::NOTDIR => FailureKind::Hostile,
        _ => FailureKind::Io,
    }
}

/// A failure at `path` below the place's base; `what` reads on after "can't ", as in "create a file".
pub(super) fn at(place: &Place, what: &str, path: &Path, error: &io::Error) -> Failure {
    below(place.base(), what, path, error)
}

/// The same where no path is concerned, only a base directory.
pub(super) fn below(base: &Path, what: &str, path: &Path, error: &io::Error) -> Failure {
    let kind = kind_of(error);
    Failure { kind, text: format!("can't {what} {}: {}", base.join(path).display(), words(error)) }
}

/// The same with a kind that follows from the operation and not from the error.
pub(super) fn as_kind(kind: FailureKind, place: &Place, what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure { kind, ..at(place, what, path, error) }
}

/// The base directory can't be opened: not being there is its own state, never "empty".
pub(super) fn base(base: &Path, error: &io::Error) -> Failure {
    let kind = if is(error, Errno::NOENT) { FailureKind::MissingBase } else { kind_of(error) };
    Failure { kind, text: format!("can't open the base directory {}: {}", base.display(), words(error)) }
}

/// A failing sync: what was written before it can't be trusted any more.
pub(super) fn poisoned(place: &Place, what: &str, path: &Path, error: &io::Error) -> Failure {
    as_kind(FailureKind::Poisoned, place, what, path, error)
}

/// Something isn't what it should be, though no operation failed.
pub(super) fn found(kind: FailureKind, place: &Place, path: &Path, what: &str) -> Failure {
    found_below(kind, place.base(), path, what)
}

/// The same where no path is concerned, only a base directory.
pub(super) fn found_below(kind: FailureKind, base: &Path, path: &Path, what: &str) -> Failure {
    Failure { kind, text: format!("{}: {what}", base.join(path).display()) }
}

/// The system's words without Rust's "(os error N)", which says nothing to people.
pub(super) fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kinds() {
        for (errno, kind) in [
            (Errno::NOSPC, FailureKind::NoSpace),
            (Errno::DQUOT, FailureKind::NoSpace),
            (Errno::ACCESS, FailureKind::NotWritable),
            (Errno::PERM, FailureKind::NotWritable),
            (Errno::ROFS, FailureKind::NotWritable),
            (Errno::LOOP, FailureKind::Hostile),
            (Errno::XDEV, FailureKind::Hostile),
            (Errno::NOTDIR, FailureKind::Hostile),
            (Errno::IO, FailureKind::Io),
            (Errno::NOENT, FailureKind::Io),
        ] {
            assert_eq!(kind_of(&errno.into()), kind, "{errno:?}");
        }
        assert_eq!(kind_of(&io::Error::other("crashed")), FailureKind::Io);
        let missing = base(Path::new("/srv/x"), &Errno::NOENT.into());
        assert_eq!(missing.kind, FailureKind::MissingBase);
        assert_eq!(missing.text, "can't open the base directory /srv/x: No such file or directory");
    }
}
