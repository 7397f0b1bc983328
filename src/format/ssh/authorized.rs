//! Lists of public keys in the format of `authorized_keys`. Options before a key are refused rather than ignored: whoever
//! wrote `from="…"` or `expiry-time="…"` meant to restrict the key, and nothing here would.

use crate::model::key::NamedKey;
use crate::model::limits;

use super::PublicKeyError;

/// What is wrong with one line of a key file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct AuthorizedKeysError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: KeyLineProblem,
}

/// Why a line isn't taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyLineProblem {
    /// The line isn't a supported key.
    #[error(transparent)]
    Key(#[from] PublicKeyError),
    /// Too many lines with keys.
    #[error("more than {} keys", limits::KEYS_PER_DIRECTORY_MAX)]
    TooMany,
}

/// Reads every key of `text`, each once; `name` is how people call the file. Empty lines and those that start with `#`
/// are skipped. All lines are looked at, so the errors are complete (up to [`limits::CONFIG_PROBLEMS_MAX`]).
pub fn parse_authorized_keys(name: &str, text: &str) -> Result<Vec<NamedKey>, Vec<AuthorizedKeysError>> {
    let mut keys = Vec::<NamedKey>::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut errors = Vec::new();
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    for (line, content) in lines.filter(|(_, content)| !content.is_empty() && !content.starts_with('#')) {
        match super::parse_public_key(content) {
            Ok((key, comment)) if seen.insert(key) => {
                let name = if comment.is_empty() { name.into() } else { format!("{name} ({comment})").into() };
                keys.push(NamedKey { key, name });
            }
            Ok(_) => {}
            Err(problem) => errors.push(AuthorizedKeysError { line, problem: problem.into() }),
        }
        if keys.len() > limits::KEYS_PER_DIRECTORY_MAX {
            errors.push(AuthorizedKeysError { line, problem: KeyLineProblem::TooMany });
        }
        if keys.len() > limits::KEYS_PER_DIRECTORY_MAX || errors.len() >= limits::CONFIG_PROBLEMS_MAX {
            break;
        }
    }
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}
