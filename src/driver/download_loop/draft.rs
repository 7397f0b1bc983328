//! A place for content on its way: a folder of one's own, which is removed, and what is complete gets its name in one step.

use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat, renameat_with, syncfs};
use rustix::io::Errno;
use tempfile::TempDir;

use super::Content;
use crate::model::escape::escaped;

/// Begins the names of such folders beside what they become.
const PREFIX: &str = ".ciruela-download-";

/// Something that is being written.
#[derive(Debug)]
pub struct Draft {
    folder: TempDir,
    /// The name that it gets.
    dest: PathBuf,
    /// `dest` is a directory that was there.
    into: bool,
    /// Why it can't become a directory.
    no_tree: Option<String>,
}

/// Why it can't be kept. What was there before still is.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct DraftError {
    path: String,
    problem: Problem,
}

type Problem = Box<dyn std::error::Error + Send + Sync>;

impl DraftError {
    fn new(path: &Path, problem: impl Into<Problem>) -> Self {
        Self { path: escaped(path.as_os_str().as_encoded_bytes()), problem: problem.into() }
    }
}

impl Draft {
    /// For something that is to be at `dest`, where nothing is, or a directory: a tree needs an empty one.
    pub fn beside(dest: &Path) -> Result<Self, DraftError> {
        let found = match std::fs::symlink_metadata(dest) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(DraftError::new(dest, error)),
            Ok(_) => Some(std::fs::read_dir(dest)),
        };
        let (dest, parent, into, no_tree) = match found {
            None => (dest.to_owned(), parent(dest), false, None),
            Some(Err(error)) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(DraftError::new(dest, "it exists already, and nothing is overwritten"));
            }
            Some(Err(error)) => return Err(DraftError::new(dest, error)),
            Some(Ok(mut entries)) => {
                let dest = dest.canonicalize().map_err(|error| DraftError::new(dest, error))?;
                if entries.next().is_none() {
                    let parent = parent(&dest);
                    (dest, parent, true, None)
                } else {
                    let problem = "the directory isn't empty, and nothing is overwritten";
                    let no_tree = DraftError::new(&dest, problem).to_string();
                    (dest.clone(), dest, true, Some(no_tree))
                }
            }
        };
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&parent);
        let folder =
            folder.map_err(|error| DraftError::new(&parent, format!("can't make a directory in it: {error}")))?;
        Ok(Self { folder, dest, into, no_tree })
    }

    /// For a file that gets no name: it is gone with this.
    pub fn for_a_file() -> Result<Self, DraftError> {
        let no_tree = Some("a directory can't go to standard output: name a file in it".to_owned());
        Ok(Self { no_tree, ..Self::temporary()? })
    }

    /// For a tree that gets no name: it is gone with this.
    pub fn temporary() -> Result<Self, DraftError> {
        let folder = tempfile::Builder::new().prefix("ciruela-").tempdir();
        let folder = folder.map_err(|error| DraftError::new(&std::env::temp_dir(), error))?;
        Ok(Self { dest: folder.path().join("settled"), folder, into: false, no_tree: None })
    }

    /// Where it is written.
    pub fn place(&self) -> PathBuf {
        self.folder.path().join("content")
    }

    /// To be filled.
    pub fn content(&self) -> Content {
        Content::new(self.place(), self.no_tree.clone())
    }

    /// It is complete: gives it its name, once it is on the disk. `file`: it is a file, which has that name if it goes into a
    /// directory.
    pub fn settle(self, file: Option<&str>) -> Result<(), DraftError> {
        let from = self.place();
        let dest = match file {
            Some(name) if self.into => self.dest.join(name),
            _ => self.dest.clone(),
        };
        let here = std::fs::File::open(self.folder.path());
        here.and_then(|here| Ok(syncfs(here)?)).map_err(|error| DraftError::new(&from, error))?;
        let moved = if file.is_some() {
            move_file(&from, &dest)
        } else {
            // Only an empty directory is replaced by a directory.
            renameat(CWD, &from, CWD, &dest)
        };
        moved.map_err(|errno| match errno {
            Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR => {
                DraftError::new(&dest, "it exists already, and nothing is overwritten")
            }
            other => DraftError::new(&dest, io::Error::from(other)),
        })
    }
}

/// Never over something that is there.
fn move_file(from: &Path, dest: &Path) -> Result<(), Errno> {
    match renameat_with(CWD, from, CWD, dest, RenameFlags::NOREPLACE) {
        // The file system doesn't know how.
        Err(Errno::INVAL | Errno::NOSYS) => rustix::fs::link(from, dest),
        other => other,
    }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => PathBuf::from("."),
        Some(parent) => parent.to_owned(),
        None => PathBuf::from("/"),
    }
}
