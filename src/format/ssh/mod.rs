//! OpenSSH's ed25519 keys: text ↔ values. Public keys and their fingerprints stand here, lists of them in
//! [`authorized`], private keys in [`secret`]. Signing is [`super::signature`]'s; where keys are found, the client's.

pub mod authorized;
pub mod secret;
#[cfg(test)]
mod tests;

use ed25519_dalek::VerifyingKey;
use ssh_key::HashAlg;
use ssh_key::public::{Ed25519PublicKey, KeyData};

use crate::model::key::PublicKey;
use crate::model::limits;

pub use authorized::{AuthorizedKeysError, parse_authorized_keys};
pub use secret::{PrivateKeyError, PrivateKeyInfo, SecretKey, inspect_private, parse_private};

/// The only type of key that is supported, as OpenSSH writes it.
pub const KEY_TYPE: &str = "ssh-ed25519";

/// Why a text isn't an ed25519 public key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Another type of key.
    #[error("a key of type {0}; only ssh-ed25519 is supported")]
    Unsupported(String),
    /// Something stands before the key's type.
    #[error("options before the key ({0}) are not supported: remove them")]
    Options(String),
    /// No key at all.
    #[error("expected `ssh-ed25519 AAAA… comment`, found {0:?}")]
    NotAKey(String),
    /// The base64 part is broken.
    #[error("the key after `ssh-ed25519` is damaged: {0}")]
    Damaged(String),
    /// The bytes are not a point of the curve, or one that verifies anything.
    #[error("the key is not a valid ed25519 key")]
    Invalid,
}

/// Reads one line `ssh-ed25519 AAAA… comment`; the second value is the comment, made printable and short.
pub fn parse_public_key(line: &str) -> Result<(PublicKey, String), PublicKeyError> {
    let line = line.trim();
    let (kind, rest) = line.split_once([' ', '\t']).unwrap_or((line, ""));
    if kind != KEY_TYPE {
        return Err(other_line(line, kind));
    }
    let rest = rest.trim_start();
    let (body, comment) = rest.split_once([' ', '\t']).unwrap_or((rest, ""));
    let parsed = ssh_key::PublicKey::from_openssh(&format!("{KEY_TYPE} {body}"))
        .map_err(|error| PublicKeyError::Damaged(error.to_string()))?;
    let key = parsed.key_data().ed25519().map(|key| PublicKey(key.0)).ok_or(PublicKeyError::Invalid)?;
    check_point(&key)?;
    Ok((key, printable(comment.trim())))
}

/// The line that [`parse_public_key`] reads, without a line end.
pub fn public_key_line(key: &PublicKey, comment: &str) -> String {
    let line = ssh_key::PublicKey::new(key_data(key), "").to_openssh().unwrap_or_default();
    let comment = printable(comment);
    if comment.is_empty() { line } else { format!("{line} {comment}") }
}

/// `SHA256:…`, as `ssh-keygen -l` shows it.
pub fn fingerprint(key: &PublicKey) -> String {
    key_data(key).fingerprint(HashAlg::Sha256).to_string()
}

/// The key as ssh's protocols write it: `string "ssh-ed25519"`, `string bytes`.
pub fn public_key_blob(key: &PublicKey) -> Vec<u8> {
    let mut blob = Vec::with_capacity(51);
    for part in [KEY_TYPE.as_bytes(), &key.0] {
        blob.extend(u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        blob.extend(part);
    }
    blob
}

/// The inverse of [`public_key_blob`]: `None` for other types of keys and for what isn't a key.
pub fn public_key_of_blob(blob: &[u8]) -> Option<PublicKey> {
    let key = PublicKey(blob.get(19..)?.try_into().ok()?);
    (public_key_blob(&key) == blob && check_point(&key).is_ok()).then_some(key)
}

/// `text` without anything that could disturb a terminal or a line, at most [`limits::KEY_COMMENT_CHARS_MAX`] long.
pub fn printable(text: &str) -> String {
    let clean = |c: char| if is_printable(c) { c } else { '\u{fffd}' };
    text.chars().map(clean).take(limits::KEY_COMMENT_CHARS_MAX).collect()
}

/// No control, no line break, nothing invisible that turns or hides the text around it.
pub(super) fn is_printable(c: char) -> bool {
    let invisible =
        matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    !c.is_control() && !invisible
}

fn key_data(key: &PublicKey) -> KeyData {
    KeyData::Ed25519(Ed25519PublicKey(key.0))
}

/// A key of small order verifies signatures that nobody made.
fn check_point(key: &PublicKey) -> Result<(), PublicKeyError> {
    match VerifyingKey::from_bytes(&key.0) {
        Ok(point) if !point.is_weak() => Ok(()),
        Ok(_) | Err(_) => Err(PublicKeyError::Invalid),
    }
}

/// What a line is that doesn't start with [`KEY_TYPE`].
fn other_line(line: &str, kind: &str) -> PublicKeyError {
    let is_type = |word: &str| {
        word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-") || word.starts_with("sk-") && word.contains('@')
    };
    let short = |text: &str| printable(&text.chars().take(60).collect::<String>());
    if is_type(kind) {
        PublicKeyError::Unsupported(short(kind))
    } else if line.starts_with("-----BEGIN ") {
        PublicKeyError::NotAKey(short(line))
    } else if let Some(at) = line.find(" ssh-").or_else(|| line.find(" ecdsa-sha2-")).or_else(|| line.find(" sk-")) {
        PublicKeyError::Options(short(&line[..at]))
    } else {
        PublicKeyError::NotAKey(short(line))
    }
}
