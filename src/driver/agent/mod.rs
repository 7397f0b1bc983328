//! A client of ssh-agent: which ed25519 keys it has, and signatures by them. Blocking, with timeouts; messages are bounded
//! before they are allocated. The protocol is draft-miller-ssh-agent's. Whether and when to ask is the client's decision.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ssh_encoding::{Decode, Encode, Reader};

use crate::format::signature;
use crate::format::ssh::{KEY_TYPE, printable, public_key_blob, public_key_of_blob};
use crate::model::key::{PublicKey, SignatureBytes};
use crate::model::limits;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// Why the agent didn't help. Nothing changes in the agent whatever happens here.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Nobody listens at the socket.
    #[error("no ssh-agent at {}", socket.display())]
    Absent { socket: PathBuf, source: io::Error },
    /// The agent said no: locked, the key is gone, or its user declined.
    #[error("ssh-agent refused to {0}")]
    Refused(&'static str),
    /// The connection broke.
    #[error("lost the connection to ssh-agent while waiting for it to {task}")]
    Broken { task: &'static str, source: io::Error },
    /// No answer in time.
    #[error("ssh-agent didn't {task} within {} s", after.as_secs_f32())]
    Timeout { task: &'static str, after: Duration },
    /// What came isn't an answer.
    #[error("ssh-agent gave a malformed answer: {0}")]
    Malformed(String),
    /// The signature doesn't fit the key.
    #[error("ssh-agent gave a wrong signature")]
    WrongSignature,
}

/// A key that an agent holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The public half.
    pub key: PublicKey,
    /// Made printable, maybe empty.
    pub comment: String,
}

/// An agent's socket. Each question is one connection, so a broken one never harms the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    socket: PathBuf,
    list_timeout: Duration,
    sign_timeout: Duration,
}

impl Agent {
    /// The agent at `socket` (`$SSH_AUTH_SOCK`). Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        let (list_timeout, sign_timeout) = (limits::AGENT_LIST_TIMEOUT, limits::AGENT_SIGN_TIMEOUT);
        Self { socket: socket.into(), list_timeout, sign_timeout }
    }

    /// The same agent with other timeouts.
    pub fn with_timeouts(self, list_timeout: Duration, sign_timeout: Duration) -> Self {
        Self { list_timeout, sign_timeout, ..self }
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its ssh-ed25519 keys, in its order. Keys of other types are left out.
    pub fn identities(&self) -> Result<Vec<AgentIdentity>, AgentError> {
        let answer = self.ask("list its keys", self.list_timeout, &[REQUEST_IDENTITIES])?;
        let mut reader = body(&answer, IDENTITIES_ANSWER, "list its keys")?;
        let count = u32::decode(&mut reader).map_err(malformed)?;
        let mut identities = Vec::new();
        for _ in 0..count {
            let blob = Vec::<u8>::decode(&mut reader).map_err(malformed)?;
            let comment = Vec::<u8>::decode(&mut reader).map_err(malformed)?;
            if let Some(key) = public_key_of_blob(&blob) {
                identities.push(AgentIdentity { key, comment: printable(String::from_utf8_lossy(&comment).trim()) });
            }
        }
        reader.ensure_finished().map_err(malformed)?;
        Ok(identities)
    }

    /// A signature of `message` by `key`, which the agent holds. It is checked before it is handed on.
    pub fn sign(&self, key: &PublicKey, message: &[u8]) -> Result<SignatureBytes, AgentError> {
        let mut request = vec![SIGN_REQUEST];
        public_key_blob(key).encode(&mut request).map_err(malformed)?;
        message.encode(&mut request).map_err(malformed)?;
        0_u32.encode(&mut request).map_err(malformed)?;
        let answer = self.ask("sign", self.sign_timeout, &request)?;
        let mut reader = body(&answer, SIGN_RESPONSE, "sign")?;
        let blob = Vec::<u8>::decode(&mut reader).map_err(malformed)?;
        reader.ensure_finished().map_err(malformed)?;
        let mut reader = blob.as_slice();
        let kind = Vec::<u8>::decode(&mut reader).map_err(malformed)?;
        if kind != KEY_TYPE.as_bytes() {
            let kind = printable(&String::from_utf8_lossy(&kind));
            return Err(AgentError::Malformed(format!("a signature of type {kind:?}")));
        }
        let bytes = Vec::<u8>::decode(&mut reader).map_err(malformed)?;
        reader.ensure_finished().map_err(malformed)?;
        let bytes = SignatureBytes(
            bytes.try_into().map_err(|_| AgentError::Malformed("a signature that isn't 64 bytes long".into()))?,
        );
        if signature::verify(key, message, &bytes) { Ok(bytes) } else { Err(AgentError::WrongSignature) }
    }

    /// Sends one message and reads the answer, both without their length.
    fn ask(&self, task: &'static str, timeout: Duration, request: &[u8]) -> Result<Vec<u8>, AgentError> {
        let broken = |source: io::Error| {
            // Which of the two a timeout gives depends on the platform.
            if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
                AgentError::Timeout { task, after: timeout }
            } else {
                AgentError::Broken { task, source }
            }
        };
        let mut stream = UnixStream::connect(&self.socket)
            .map_err(|source| AgentError::Absent { socket: self.socket.clone(), source })?;
        stream.set_read_timeout(Some(timeout)).map_err(broken)?;
        stream.set_write_timeout(Some(timeout)).map_err(broken)?;
        let mut framed = Vec::with_capacity(request.len() + 4);
        request.encode(&mut framed).map_err(malformed)?;
        stream.write_all(&framed).map_err(broken)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(broken)?;
        let length = u32::from_be_bytes(length);
        let bounded = usize::try_from(length).ok().filter(|&length| length <= limits::AGENT_MESSAGE_BYTES_MAX);
        let length = bounded.ok_or_else(|| AgentError::Malformed(format!("a message of {length} bytes")))?;
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).map_err(broken)?;
        Ok(answer)
    }
}

/// What follows the answer's type, if that is `expected`.
fn body<'a>(answer: &'a [u8], expected: u8, task: &'static str) -> Result<&'a [u8], AgentError> {
    match answer.split_first() {
        Some((&kind, body)) if kind == expected => Ok(body),
        Some((&FAILURE, _)) => Err(AgentError::Refused(task)),
        Some((kind, _)) => Err(AgentError::Malformed(format!("a message of type {kind} instead of {expected}"))),
        None => Err(AgentError::Malformed("an empty message".into())),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to `map_err`")]
fn malformed(error: ssh_encoding::Error) -> AgentError {
    AgentError::Malformed(error.to_string())
}
