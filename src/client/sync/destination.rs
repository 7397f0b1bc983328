//! `SRC:DEST` and `SRC:DEST:OLD_ID`, as people write them on the command line.
//!
//! `SRC` may contain colons (and bytes that aren't UTF-8): it ends before the last `:/` behind which there is a virtual path.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::model::ids::ImageId;
use crate::model::vpath::{VPath, VPathError};

/// A directory and where it shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// The local directory.
    pub(super) source: PathBuf,
    /// Where the machines shall have it.
    pub(super) path: VPath,
}

/// A directory and what it shall replace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Replacement {
    /// What goes where.
    pub(super) destination: Destination,
    /// Only in the place of this image.
    pub(super) old_image: Option<ImageId>,
}

/// Why a text says no destination.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum DestinationError {
    /// There is no `:/` with something before it.
    #[error("expected SRC:DEST, where DEST is a path like /KEY/name")]
    NoDestination,
    /// What follows the colon is no virtual path.
    #[error(transparent)]
    Path(#[from] VPathError),
    /// The destination isn't text.
    #[error("the destination is not UTF-8")]
    NotUtf8,
    /// After the last colon there is something other than an id.
    #[error("{0:?} is not the id of an image: 64 hexadecimal digits, as `ciruela index --id` prints them")]
    BadId(String),
}

impl Destination {
    /// Reads `SRC:DEST`.
    pub(super) fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let bytes = text.as_bytes();
        let mut first_error = None;
        for at in (1..bytes.len()).rev().filter(|at| bytes[*at..].starts_with(b":/")) {
            let path = std::str::from_utf8(&bytes[at + 1..]).map_err(|_| DestinationError::NotUtf8);
            match path.and_then(|path| Ok(path.parse()?)) {
                Ok(path) => {
                    let source = PathBuf::from(OsString::from_vec(bytes[..at].to_vec()));
                    return Ok(Self { source, path });
                }
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or(DestinationError::NoDestination))
    }
}

impl Replacement {
    /// Reads `SRC:DEST` or `SRC:DEST:OLD_ID`. A `DEST` with a colon needs an `OLD_ID`: half an id must not become a path.
    pub(super) fn parse(text: &OsStr) -> Result<Self, DestinationError> {
        let bytes = text.as_bytes();
        let (rest, last) = match bytes.iter().rposition(|byte| *byte == b':') {
            Some(at) if !bytes[at + 1..].starts_with(b"/") => (&bytes[..at], Some(&bytes[at + 1..])),
            _ => (bytes, None),
        };
        // Without a destination before it, the last colon is the source's.
        let destination = match Destination::parse(OsStr::from_bytes(rest)) {
            Err(DestinationError::NoDestination) => Destination::parse(text)?,
            other => other?,
        };
        let id = |last: &[u8]| {
            let text = String::from_utf8_lossy(last);
            text.parse::<ImageId>().map_err(|_| DestinationError::BadId(text.chars().take(100).collect()))
        };
        Ok(Self { destination, old_image: last.map(id).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(String, String), String> {
        let destination = Destination::parse(OsStr::new(text)).map_err(|error| error.to_string())?;
        Ok((destination.source.display().to_string(), destination.path.to_string()))
    }

    #[test]
    fn sources_may_contain_colons() {
        for (text, source, path) in [
            ("dir:/key/x", "dir", "/key/x"),
            ("/a/b:/key", "/a/b", "/key"),
            ("C:dir:/key/x", "C:dir", "/key/x"),
            ("a:/b:/key/x", "a:/b", "/key/x"),
            ("dir:/key/a:b", "dir", "/key/a:b"),
            (".:/key/x", ".", "/key/x"),
            ("dir::/key/x", "dir:", "/key/x"),
        ] {
            assert_eq!(parsed(text), Ok((source.to_owned(), path.to_owned())), "{text}");
        }
        let odd = OsStr::from_bytes(b"\xff:/key/x");
        assert_eq!(Destination::parse(odd).expect("valid").source.as_os_str().as_bytes(), b"\xff");
    }

    #[test]
    fn bad_destinations_say_why() {
        for (text, reason) in [
            ("", "SRC:DEST"),
            ("dir", "SRC:DEST"),
            ("dir:key/x", "SRC:DEST"),
            (":/key/x", "SRC:DEST"),
            ("dir:/", "empty"),
            ("dir:/key//x", "empty"),
            ("dir:/key/../x", "`..`"),
            ("dir:/key/.ciruela-staging", "reserved"),
        ] {
            let error = parsed(text).expect_err(text);
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        assert_eq!(Destination::parse(OsStr::from_bytes(b"dir:/\xff")), Err(DestinationError::NotUtf8));
    }

    #[test]
    fn replacements() {
        let id = "0123456789abcdef".repeat(4);
        let parse = |text: &str| Replacement::parse(OsStr::new(text)).map_err(|error| error.to_string());
        let replacement = parse(&format!("a:b:/key/x:{id}")).expect("valid");
        assert_eq!(replacement.old_image, id.parse().ok());
        assert_eq!(replacement.destination, Destination::parse(OsStr::new("a:b:/key/x")).expect("valid"));
        assert_eq!(parse("a:b:/key/x").expect("valid").old_image, None);
        let colon = parse(&format!("dir:/key/a:b:{id}")).expect("valid");
        assert_eq!(colon.destination.path.as_str(), "/key/a:b");
        for text in ["dir:/key/x:", "dir:/key/x:0123", "dir:/key/a:b", &format!("dir:/key/x:{id}0")] {
            let error = parse(text).expect_err(text);
            assert!(error.contains("64 hexadecimal digits"), "{text}: {error}");
        }
        assert!(parse("dir").expect_err("no path").contains("SRC:DEST"));
        assert!(parse("a:b").expect_err("no path").contains("SRC:DEST"));
    }
}
