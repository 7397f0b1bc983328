//! Datagrams sealed with the cluster's key: `magic, nonce, ciphertext`; or plain, behind another magic.
//!
//! The nonce is the session, drawn at random for each start of a node, and a counter, so none is used twice. Whether a datagram was
//! seen before is for the receiver to remember: `engine/gossip`.

use bytes::Bytes;
use chacha20poly1305::aead::AeadInOut as _;
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};

use crate::model::limits;
use crate::model::peer::ClusterKey;

const SEALED: &[u8] = b"CRG\x01";
const PLAIN: &[u8] = b"CRG\x00";
const NONCE: usize = 24;
const TAG: usize = 16;

/// Bytes that sealing adds to a text.
pub(super) const OVERHEAD: usize = SEALED.len() + NONCE + TAG;

/// One start of a sender.
pub type SessionId = [u8; 16];

/// Seals and opens with the cluster's key.
#[derive(Clone)]
pub struct Seal(XChaCha20Poly1305);

/// A datagram that somebody with the key has sealed.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    /// By which start of which sender.
    pub session: SessionId,
    /// As which of its datagrams.
    pub counter: u64,
    /// What it holds.
    pub text: Vec<u8>,
}

/// Why a datagram can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Shorter or longer than any of ours, or other bytes in front.
    #[error("not one of ours")]
    Foreign,
    /// Sealed with another key, changed on its way, or not sealed at all.
    #[error("not sealed with this cluster's key")]
    Unsealable,
}

impl Seal {
    /// With the cluster's key.
    pub fn new(key: &ClusterKey) -> Self {
        Self(XChaCha20Poly1305::new(&key.0.into()))
    }

    /// Seals `text` as datagram number `counter` of `session`; `None` if it is beyond any size.
    pub fn seal(&self, session: &SessionId, counter: u64, mut text: Vec<u8>) -> Option<Bytes> {
        let nonce = nonce(session, counter);
        self.0.encrypt_in_place(&nonce, SEALED, &mut text).ok()?;
        let mut datagram = Vec::with_capacity(SEALED.len() + NONCE + text.len());
        datagram.extend(SEALED);
        datagram.extend(nonce);
        datagram.extend(text);
        Some(datagram.into())
    }

    /// Opens a datagram.
    pub fn open(&self, datagram: &[u8]) -> Result<Opened, OpenError> {
        let rest = body(datagram, SEALED)?;
        let (front, ciphertext) = rest.split_at_checked(NONCE).ok_or(OpenError::Foreign)?;
        let (session, counter) = front.split_at(16);
        let mut opened = Opened { session: [0; 16], counter: 0, text: ciphertext.to_vec() };
        opened.session.copy_from_slice(session);
        opened.counter = counter.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
        let nonce = nonce(&opened.session, opened.counter);
        self.0.decrypt_in_place(&nonce, SEALED, &mut opened.text).map_err(|_| OpenError::Unsealable)?;
        Ok(opened)
    }
}

/// A datagram of a cluster without a key.
pub fn plain(text: &[u8]) -> Bytes {
    [PLAIN, text].concat().into()
}

/// Opens a datagram of a cluster without a key.
pub fn open_plain(datagram: &[u8]) -> Result<Vec<u8>, OpenError> {
    body(datagram, PLAIN).map(<[u8]>::to_vec)
}

fn body<'a>(datagram: &'a [u8], magic: &[u8]) -> Result<&'a [u8], OpenError> {
    if datagram.len() > limits::DATAGRAM_BYTES_MAX {
        return Err(OpenError::Foreign);
    }
    let (found, rest) = datagram.split_at_checked(magic.len()).ok_or(OpenError::Foreign)?;
    match found {
        found if found == magic => Ok(rest),
        found if found == SEALED || found == PLAIN => Err(OpenError::Unsealable),
        _ => Err(OpenError::Foreign),
    }
}

fn nonce(session: &SessionId, counter: u64) -> XNonce {
    let mut nonce = [0; NONCE];
    nonce[..16].copy_from_slice(session);
    nonce[16..].copy_from_slice(&counter.to_be_bytes());
    nonce.into()
}

impl std::fmt::Debug for Seal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seal(…)")
    }
}
