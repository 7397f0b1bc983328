//! Bounded reading of the configuration folder. Absent is told apart from unreadable.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{ConfigurationError, ConfigurationProblem};
use crate::format::config::check_name;
use crate::model::limits;

/// A configuration folder that exists.
pub(super) struct Folder {
    base: PathBuf,
}

/// The files of one subfolder.
#[derive(Default)]
pub(super) struct Listed {
    /// Name without ending, path below the base; sorted.
    pub(super) named: Vec<(String, PathBuf)>,
    pub(super) errors: Vec<ConfigurationError>,
    /// Paths below the base of what is passed over; sorted.
    pub(super) ignored: Vec<PathBuf>,
}

impl Folder {
    pub(super) fn open(base: &Path) -> Result<Self, Vec<ConfigurationError>> {
        let folder = Self { base: base.into() };
        match fs::read_dir(base) {
            Ok(_) => Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(vec![folder.error(Path::new(""), None, ConfigurationProblem::MissingBase)])
            }
            Err(error) => Err(vec![folder.error(Path::new(""), None, ConfigurationProblem::Unreadable(error))]),
        }
    }

    /// An error about `file` below the base.
    pub(super) fn error(&self, file: &Path, line: Option<usize>, problem: ConfigurationProblem) -> ConfigurationError {
        let file = if file.as_os_str().is_empty() { self.base.clone() } else { self.base.join(file) };
        ConfigurationError { file, line, problem }
    }

    /// The text of `file`; `None` if there is no such file. Links are followed: configuration often is a farm of them.
    pub(super) fn read(&self, file: &Path) -> Result<Option<String>, ConfigurationError> {
        let error = |line, problem| Err(self.error(file, line, problem));
        let path = self.base.join(file);
        let bytes = match read_bounded(&path) {
            Ok(bytes) => bytes,
            // A link that leads nowhere is there, and somebody meant it to lead somewhere.
            Err(ConfigurationProblem::Unreadable(source))
                if source.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() =>
            {
                return Ok(None);
            }
            Err(problem) => return error(None, problem),
        };
        String::from_utf8(bytes).map(Some).or_else(|text| {
            let before = &text.as_bytes()[..text.utf8_error().valid_up_to()];
            let lines = before.split(|&byte| byte == b'\n').count();
            error(Some(lines), ConfigurationProblem::NotText)
        })
    }

    /// The files of `folder` whose names end with `.ending`; none if there is no such folder. Hidden files are passed over:
    /// editors leave them.
    pub(super) fn list(&self, folder: &str, ending: &str, wrong: &[&str]) -> Listed {
        let mut listed = Listed::default();
        let path = self.base.join(folder);
        let below = Path::new(folder);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&path).is_err() => {
                return listed;
            }
            Err(error) => {
                listed.errors.push(self.error(below, None, ConfigurationProblem::Unreadable(error)));
                return listed;
            }
        };
        for (index, entry) in entries.enumerate() {
            if index >= limits::CONFIG_FILES_MAX {
                listed.errors.push(self.error(below, None, ConfigurationProblem::TooManyFiles));
                break;
            }
            match entry {
                Ok(entry) => self.sort_in(&mut listed, below.join(entry.file_name()), ending, wrong),
                Err(error) => listed.errors.push(self.error(below, None, ConfigurationProblem::Unreadable(error))),
            }
        }
        listed.named.sort();
        listed.ignored.sort();
        listed.errors.sort_by(|a, b| a.file.cmp(&b.file));
        listed
    }

    /// Decides what one file of a subfolder is.
    fn sort_in(&self, listed: &mut Listed, file: PathBuf, ending: &str, wrong: &[&str]) {
        let has = |ending: &str| file.extension().is_some_and(|extension| extension == ending);
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && has(ending) {
            let stem = file.file_stem().unwrap_or_default();
            let name = stem.to_string_lossy().into_owned();
            match (stem.to_str(), check_name(&name)) {
                (None, _) => listed.errors.push(self.error(&file, None, ConfigurationProblem::NotText)),
                (_, Err(problem)) => {
                    listed.errors.push(self.error(&file, None, ConfigurationProblem::Config(problem)));
                }
                (Some(_), Ok(())) => listed.named.push((name, file)),
            }
        } else if !hidden && wrong.iter().any(|wrong| has(wrong)) {
            let right = file.with_extension(ending).display().to_string();
            listed.errors.push(self.error(&file, None, ConfigurationProblem::WrongEnding(right)));
        } else {
            listed.ignored.push(file);
        }
    }
}

fn read_bounded(path: &Path) -> Result<Vec<u8>, ConfigurationProblem> {
    // Asked first, because opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(ConfigurationProblem::Unreadable)?.is_file() {
        return Err(ConfigurationProblem::NotAFile);
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(ConfigurationProblem::Unreadable)?;
    let read = file.take(limits::CONFIG_FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let len = read.map_err(ConfigurationProblem::Unreadable)?;
    if len as u64 > limits::CONFIG_FILE_BYTES_MAX { Err(ConfigurationProblem::TooLong) } else { Ok(bytes) }
}
