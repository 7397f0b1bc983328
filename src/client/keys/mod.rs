//! Which keys the client signs with: those named by `-i` and `-k`, otherwise `$CIRUELA_KEY`, the usual files and ssh-agent.
//! What is asked of the outside (variables, passphrases) goes through [`Surroundings`]; showing warnings is the caller's.

mod search;
mod surroundings;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use crate::driver::agent::{Agent, AgentError};
use crate::format::signature;
use crate::format::ssh::{PrivateKeyError, SecretKey, fingerprint};
use crate::model::key::{PublicKey, SignatureBytes};

pub use search::load;
pub use surroundings::{Process, Surroundings};

/// The variable that holds a private key's text.
pub const KEY_VARIABLE: &str = "CIRUELA_KEY";
/// The variable that holds the passphrase of encrypted keys.
pub const PASSPHRASE_VARIABLE: &str = "CIRUELA_KEY_PASSPHRASE";
/// The variable that names ssh-agent's socket.
pub const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";
/// Key files below the home directory, in the order in which they are tried.
pub const DEFAULT_FILES: [&str; 3] = [".ssh/id_ed25519", ".ssh/id_ciruela", ".ciruela/id_ed25519"];

/// What the command line says about keys. If both are empty, the usual places are searched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// `-i FILE`: private key files.
    pub identity: Vec<PathBuf>,
    /// `-k VARIABLE`: variables that hold private keys.
    pub key_from_env: Vec<String>,
}

/// Keys to sign with, and what the user should know about those that were left out.
#[derive(Debug)]
pub struct Loaded {
    /// At least one, each public key once, at most [`crate::model::limits::SIGNATURES_MAX`].
    pub signers: Vec<Signer>,
    /// Sentences for the terminal.
    pub warnings: Vec<String>,
}

/// One key that can sign.
#[derive(Debug)]
pub struct Signer {
    key: PublicKey,
    origin: Origin,
    means: Means,
}

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A key file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// ssh-agent; with the key's comment there.
    Agent(String),
}

#[derive(Debug)]
enum Means {
    Secret(SecretKey),
    Agent(Agent),
}

/// Why no key can be used. The client ends with exit status 2.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A key that was asked for can't be used.
    #[error("can't use the key from {origin}: {problem}")]
    Unusable {
        /// Which.
        origin: Origin,
        /// Why.
        problem: KeyProblem,
    },
    /// Nothing was asked for, and nothing was found.
    #[error("{}", no_key(found))]
    NoKey {
        /// All places that were searched, and what was there.
        found: Vec<(String, String)>,
    },
}

/// What is wrong with one key.
#[derive(Debug, thiserror::Error)]
pub enum KeyProblem {
    /// The file can't be read.
    #[error("{0}")]
    Unreadable(#[source] std::io::Error),
    /// Not a regular file: reading it might never end.
    #[error("it is not a regular file")]
    NotAFile,
    /// The variable isn't set, or is empty.
    #[error("the variable is not set")]
    Unset,
    /// Its text isn't a key that we take.
    #[error("{0}")]
    Key(#[from] PrivateKeyError),
    /// There is nobody to ask for the passphrase.
    #[error("the key is encrypted: set CIRUELA_KEY_PASSPHRASE, add the key to ssh-agent, or run on a terminal")]
    NoPassphrase,
    /// The passphrase is wrong, and there is nobody to ask for another.
    #[error("CIRUELA_KEY_PASSPHRASE is not the passphrase of this key")]
    WrongVariable,
    /// The terminal failed.
    #[error("can't ask for the passphrase: {0}")]
    Terminal(#[source] std::io::Error),
    /// A public key was given, which is fine if the agent has the private one.
    #[error("this is a public key, and ssh-agent does not have its private key; name the private key file")]
    PublicOnly,
}

/// Why a signature could not be made.
#[derive(Debug, thiserror::Error)]
#[error("can't sign with {signer}")]
pub struct SignError {
    /// As [`Signer::describe`] says.
    pub signer: String,
    /// The agent's part.
    pub source: AgentError,
}

impl Signer {
    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        self.key
    }

    /// Where the key came from.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Signs `message`. Keys of an agent may ask their user first, so this can take a while.
    pub fn sign(&self, message: &[u8]) -> Result<SignatureBytes, SignError> {
        match &self.means {
            Means::Secret(secret) => Ok(signature::sign(secret, message)),
            Means::Agent(agent) => {
                agent.sign(&self.key, message).map_err(|source| SignError { signer: self.describe(), source })
            }
        }
    }

    /// Fingerprint and origin: `SHA256:… from /home/bob/.ssh/id_ed25519`.
    pub fn describe(&self) -> String {
        format!("{} from {}", fingerprint(&self.key), self.origin)
    }

    /// A key that is at hand.
    pub fn of_secret(secret: SecretKey, origin: Origin) -> Self {
        Self { key: secret.public_key(), origin, means: Means::Secret(secret) }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Variable(name) => write!(f, "${name}"),
            Self::Agent(comment) if comment.is_empty() => f.write_str("ssh-agent"),
            Self::Agent(comment) => write!(f, "ssh-agent ({comment})"),
        }
    }
}

fn no_key(found: &[(String, String)]) -> String {
    let places: Vec<String> = found.iter().map(|(place, what)| format!("  {place}: {what}\n")).collect();
    let advice = "Make one with: ssh-keygen -t ed25519 -f ~/.ssh/id_ciruela";
    format!("no key to sign with. Looked at:\n{}{advice}", places.concat())
}
