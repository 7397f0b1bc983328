//! Public keys and signatures as values; their text forms and the arithmetic are `format/ssh`'s.

use std::fmt;

/// An ed25519 public key: 32 bytes, not yet known to be a point of the curve.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

/// An ed25519 signature: 64 bytes, not yet checked.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignatureBytes(pub [u8; 64]);

/// One signature of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Signature {
    /// What was signed.
    pub scheme: Scheme,
    /// Who claims to have signed; existing clients don't say.
    pub key: Option<PublicKey>,
    /// The signature itself.
    pub bytes: SignatureBytes,
}

/// What a signature covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// All of the change, behind a domain tag.
    V2,
    /// Only `[path, image, timestamp]`: can be replayed with another verb or on another cluster.
    Legacy,
}

/// A key that a node accepts, and how people call it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The key.
    pub key: PublicKey,
    /// The key file's name without `.key` (`master` for `master.key`), and the key's comment if it has one: `ci2 (bob@desk)`.
    pub name: Box<str>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}…", super::ids::hex(&self.0[..4]))
    }
}

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sig:{}…", super::ids::hex(&self.0[..4]))
    }
}
