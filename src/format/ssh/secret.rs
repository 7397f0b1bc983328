//! Private keys: OpenSSH's text ↔ [`SecretKey`], plain or encrypted. Asking for the passphrase is the client's.

use std::fmt;

use ed25519_dalek::SigningKey;
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use ssh_key::public::Ed25519PublicKey;
use ssh_key::{Kdf, LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::model::key::PublicKey;
use crate::model::limits;

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
/// Characters of base64 in a line, as OpenSSH writes it.
const LINE_CHARS: usize = 70;

/// An ed25519 private key. Its memory is wiped when it goes, and it is never shown.
#[derive(Clone)]
pub struct SecretKey(pub(in crate::format) SigningKey);

/// Why a private key can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// No passphrase was given.
    #[error("the key is encrypted: it needs a passphrase")]
    Encrypted,
    /// The passphrase doesn't open it.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Another type of key.
    #[error("a private key of type {0}; only ssh-ed25519 is supported")]
    NotEd25519(String),
    /// The public half was given.
    #[error("a public key; the private key is needed")]
    PublicKey(PublicKey),
    /// Longer than [`limits::PRIVATE_KEY_BYTES_MAX`].
    #[error("longer than {} bytes: not a private key", limits::PRIVATE_KEY_BYTES_MAX)]
    TooLong,
    /// Not a private key at all, or damaged.
    #[error("not an OpenSSH private key: {0}")]
    Malformed(String),
}

/// What can be told about a private key without its passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PrivateKeyInfo {
    /// The public key that the file names.
    pub key: PublicKey,
    /// A passphrase is needed.
    pub encrypted: bool,
}

impl SecretKey {
    /// The key made from 32 random bytes.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// The text of an unencrypted key file, as `ssh-keygen` writes it.
    pub fn to_openssh(&self, comment: &str) -> Result<Zeroizing<String>, PrivateKeyError> {
        let pair = Ed25519Keypair {
            public: Ed25519PublicKey(self.public_key().0),
            private: Ed25519PrivateKey::from_bytes(self.0.as_bytes()),
        };
        let malformed = |error: ssh_key::Error| PrivateKeyError::Malformed(error.to_string());
        let key = PrivateKey::new(KeypairData::Ed25519(pair), super::printable(comment)).map_err(malformed)?;
        key.to_openssh(LineEnding::LF).map_err(malformed)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", super::fingerprint(&self.public_key()))
    }
}

/// Reads a private key. `passphrase` is used only if the key is encrypted.
pub fn parse_private(text: &[u8], passphrase: Option<&str>) -> Result<SecretKey, PrivateKeyError> {
    let key = decode(text)?;
    if !key.is_encrypted() {
        return secret_of(&key);
    }
    let passphrase = passphrase.ok_or(PrivateKeyError::Encrypted)?;
    if let Kdf::Bcrypt { rounds, .. } = key.kdf()
        && *rounds > limits::KEY_BCRYPT_ROUNDS_MAX
    {
        return Err(PrivateKeyError::Malformed(format!(
            "{rounds} rounds of bcrypt, more than {}",
            limits::KEY_BCRYPT_ROUNDS_MAX
        )));
    }
    match key.decrypt(passphrase) {
        Ok(key) => secret_of(&key),
        Err(ssh_key::Error::PublicKey) => Err(mismatch()),
        Err(_) => Err(PrivateKeyError::WrongPassphrase),
    }
}

/// Reads what stands in clear: the public key, and whether a passphrase is needed.
pub fn inspect_private(text: &[u8]) -> Result<PrivateKeyInfo, PrivateKeyError> {
    let key = decode(text)?;
    let public = key.public_key().key_data().ed25519().ok_or_else(mismatch)?;
    Ok(PrivateKeyInfo { key: PublicKey(public.0), encrypted: key.is_encrypted() })
}

/// An ed25519 key, maybe still encrypted.
fn decode(text: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    if text.len() > limits::PRIVATE_KEY_BYTES_MAX {
        return Err(PrivateKeyError::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| PrivateKeyError::Malformed("it isn't text".into()))?;
    let pem = rewrap(text)?;
    let key =
        PrivateKey::from_openssh(pem.as_bytes()).map_err(|error| PrivateKeyError::Malformed(error.to_string()))?;
    if key.public_key().key_data().is_ed25519() {
        Ok(key)
    } else {
        Err(PrivateKeyError::NotEd25519(super::printable(key.algorithm().as_str())))
    }
}

/// The key's text with lines of the usual length. In variables line ends often become spaces, get `\r`, or are lost.
fn rewrap(text: &str) -> Result<Zeroizing<String>, PrivateKeyError> {
    let Some((_, rest)) = text.split_once(BEGIN) else { return Err(other_text(text)) };
    let Some((body, _)) = rest.split_once(END) else {
        return Err(PrivateKeyError::Malformed("its last line is missing".into()));
    };
    // Reserved at once: growing would leave copies of the key behind.
    let mut pem = Zeroizing::new(String::with_capacity(text.len() * 2 + 200));
    pem.push_str(BEGIN);
    for (index, c) in body.chars().filter(|c| !c.is_ascii_whitespace()).enumerate() {
        if index % LINE_CHARS == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push('\n');
    pem.push_str(END);
    pem.push('\n');
    Ok(pem)
}

/// What a text is that isn't a key of OpenSSH's own format.
fn other_text(text: &str) -> PrivateKeyError {
    let label = text.split_once("-----BEGIN ").and_then(|(_, rest)| rest.split_once("-----")).map(|(label, _)| label);
    match label {
        Some("RSA PRIVATE KEY") => PrivateKeyError::NotEd25519("ssh-rsa".into()),
        Some("DSA PRIVATE KEY") => PrivateKeyError::NotEd25519("ssh-dss".into()),
        Some("EC PRIVATE KEY") => PrivateKeyError::NotEd25519("ecdsa".into()),
        Some(label) => PrivateKeyError::Malformed(format!(
            "it is a {:?}; `ssh-keygen -t ed25519` makes a fitting one",
            super::printable(label)
        )),
        None => match super::parse_public_key(text.trim()) {
            Ok((key, _)) => PrivateKeyError::PublicKey(key),
            Err(super::PublicKeyError::Unsupported(kind)) => PrivateKeyError::NotEd25519(kind),
            Err(_) => PrivateKeyError::Malformed(format!("the line `{BEGIN}` is missing")),
        },
    }
}

fn secret_of(key: &PrivateKey) -> Result<SecretKey, PrivateKeyError> {
    let pair = key.key_data().ed25519().ok_or_else(mismatch)?;
    let secret = SecretKey(SigningKey::from_bytes(pair.private.as_ref()));
    // Signing with a public key that doesn't belong to the private one would give the private one away.
    if secret.public_key().0 == pair.public.0 { Ok(secret) } else { Err(mismatch()) }
}

fn mismatch() -> PrivateKeyError {
    PrivateKeyError::Malformed("its public part doesn't belong to its private part".into())
}
