//! The search for keys: where to look, in which order, and when to ask for a passphrase.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{
    AGENT_VARIABLE, DEFAULT_FILES, KEY_VARIABLE, KeyOptions, KeyProblem, KeysError, Loaded, Means, Origin,
    PASSPHRASE_VARIABLE, Signer, Surroundings,
};
use crate::driver::agent::{Agent, AgentError, AgentIdentity};
use crate::format::ssh::{PrivateKeyError, SecretKey, fingerprint, inspect_private, parse_private};
use crate::model::key::PublicKey;
use crate::model::limits;

/// Finds the keys. What `options` names must be usable; of the usual places at least one must have a key.
pub fn load(options: &KeyOptions, surroundings: &dyn Surroundings) -> Result<Loaded, KeysError> {
    let mut search = Search { surroundings, agent: None, signers: Vec::new(), warnings: Vec::new(), found: Vec::new() };
    if options.identity.is_empty() && options.key_from_env.is_empty() {
        search.usual_places()?;
    } else {
        for path in &options.identity {
            search.required(Origin::File(path.clone()))?;
        }
        for name in &options.key_from_env {
            search.required(Origin::Variable(name.clone()))?;
        }
    }
    search.finish()
}

struct Search<'a> {
    surroundings: &'a dyn Surroundings,
    /// What the agent has; asked once, and only when it matters.
    agent: Option<Result<(Agent, Vec<AgentIdentity>), AgentAbsence>>,
    signers: Vec<Signer>,
    warnings: Vec<String>,
    /// Places without a usable key, and why.
    found: Vec<(String, String)>,
}

/// Why there are no keys of an agent.
enum AgentAbsence {
    Unset,
    Failed(AgentError),
}

impl Search<'_> {
    fn usual_places(&mut self) -> Result<(), KeysError> {
        if self.variable(KEY_VARIABLE).is_some() {
            self.required(Origin::Variable(KEY_VARIABLE.into()))?;
        } else {
            self.found.push((format!("${KEY_VARIABLE}"), "not set".into()));
        }
        match self.surroundings.home() {
            Some(home) => {
                for file in DEFAULT_FILES {
                    self.usual_file(&home.join(file));
                }
            }
            None => self.found.push(("~/.ssh".into(), "the home directory is unknown".into())),
        }
        self.usual_agent();
        Ok(())
    }

    /// A file that may be missing; one that can't be used is a warning.
    fn usual_file(&mut self, path: &Path) {
        let origin = Origin::File(path.into());
        let place = origin.to_string();
        match self.signer(origin) {
            Ok(signer) => self.add(signer),
            Err(KeyProblem::Unreadable(error)) if error.kind() == io::ErrorKind::NotFound => {
                self.found.push((place, "no such file".into()));
            }
            Err(problem) => {
                self.warnings.push(format!("{place} is left out: {problem}"));
                self.found.push((place, problem.to_string()));
            }
        }
    }

    /// All keys of the agent.
    fn usual_agent(&mut self) {
        let place = format!("ssh-agent (${AGENT_VARIABLE})");
        let signers: Vec<Signer> = match self.agent() {
            Ok((agent, identities)) => identities.iter().map(|identity| agent_signer(agent, identity)).collect(),
            Err(AgentAbsence::Unset) => {
                self.found.push((place, "not set".into()));
                return;
            }
            Err(AgentAbsence::Failed(error)) => {
                let problem = error.to_string();
                self.warnings.push(format!("{place} is left out: {problem}"));
                self.found.push((place, problem));
                return;
            }
        };
        if signers.is_empty() {
            self.found.push((place, "holds no ssh-ed25519 key".into()));
        }
        for signer in signers {
            self.add(signer);
        }
    }

    fn required(&mut self, origin: Origin) -> Result<(), KeysError> {
        let signer = self.signer(origin.clone()).map_err(|problem| KeysError::Unusable { origin, problem })?;
        self.add(signer);
        Ok(())
    }

    fn add(&mut self, signer: Signer) {
        if self.signers.iter().all(|known| known.key != signer.key) {
            self.signers.push(signer);
        }
    }

    fn finish(mut self) -> Result<Loaded, KeysError> {
        if self.signers.is_empty() {
            return Err(KeysError::NoKey { found: self.found });
        }
        for dropped in self.signers.drain(limits::SIGNATURES_MAX.min(self.signers.len())..) {
            let max = limits::SIGNATURES_MAX;
            self.warnings.push(format!("{} is left out: a change has at most {max} signatures", dropped.describe()));
        }
        Ok(Loaded { signers: self.signers, warnings: self.warnings })
    }

    /// The key at `origin`, which is a file or a variable.
    fn signer(&mut self, origin: Origin) -> Result<Signer, KeyProblem> {
        let text = match &origin {
            Origin::File(path) => read_file(path)?,
            Origin::Variable(name) => self.variable(name).ok_or(KeyProblem::Unset)?,
            Origin::Agent(_) => return Err(KeyProblem::Unset),
        };
        let info = match inspect_private(&text) {
            Ok(info) => info,
            Err(PrivateKeyError::PublicKey(key)) => return self.of_agent(&key).ok_or(KeyProblem::PublicOnly),
            Err(error) => return Err(error.into()),
        };
        if !info.encrypted {
            return Ok(Signer::of_secret(parse_private(&text, None)?, origin));
        }
        // Somebody opened it already: no need to ask again.
        if let Some(signer) = self.of_agent(&info.key) {
            return Ok(signer);
        }
        let secret = self.open(&text, &info.key, &origin)?;
        Ok(Signer::of_secret(secret, origin))
    }

    /// Opens an encrypted key with the variable's passphrase, else with the one that is typed.
    fn open(&self, text: &[u8], key: &PublicKey, origin: &Origin) -> Result<SecretKey, KeyProblem> {
        let given = self.variable(PASSPHRASE_VARIABLE).and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        let given = given.map(Zeroizing::new);
        let mut refused = false;
        if let Some(passphrase) = &given {
            match parse_private(text, Some(passphrase)) {
                Err(PrivateKeyError::WrongPassphrase) => refused = true,
                result => return Ok(result?),
            }
        }
        let prompt = format!("Passphrase of {origin} ({}): ", fingerprint(key));
        for _ in 0..limits::PASSPHRASE_TRIES_MAX {
            let Some(passphrase) = self.surroundings.ask_passphrase(&prompt).map_err(KeyProblem::Terminal)? else {
                return Err(if refused { KeyProblem::WrongVariable } else { KeyProblem::NoPassphrase });
            };
            match parse_private(text, Some(&passphrase)) {
                Err(PrivateKeyError::WrongPassphrase) => {}
                result => return Ok(result?),
            }
        }
        Err(PrivateKeyError::WrongPassphrase.into())
    }

    /// A signer for `key` if the agent holds it.
    fn of_agent(&mut self, key: &PublicKey) -> Option<Signer> {
        let (agent, identities) = self.agent().as_ref().ok()?;
        identities.iter().find(|identity| identity.key == *key).map(|identity| agent_signer(agent, identity))
    }

    fn agent(&mut self) -> &Result<(Agent, Vec<AgentIdentity>), AgentAbsence> {
        let surroundings = self.surroundings;
        self.agent.get_or_insert_with(|| {
            let socket = surroundings.variable(AGENT_VARIABLE).filter(|socket| !socket.is_empty());
            let agent = Agent::new(PathBuf::from(socket.ok_or(AgentAbsence::Unset)?));
            let identities = agent.identities().map_err(AgentAbsence::Failed)?;
            Ok((agent, identities))
        })
    }

    /// A variable's bytes; one that is empty counts as not set.
    fn variable(&self, name: &str) -> Option<Zeroizing<Vec<u8>>> {
        let value = self.surroundings.variable(name)?;
        let bytes = Zeroizing::new(value.into_encoded_bytes());
        (!bytes.trim_ascii().is_empty()).then_some(bytes)
    }
}

fn agent_signer(agent: &Agent, identity: &AgentIdentity) -> Signer {
    let origin = Origin::Agent(identity.comment.clone());
    Signer { key: identity.key, origin, means: Means::Agent(agent.clone()) }
}

/// The file's bytes, one more than a key may have at most. Who else may read the file is its owner's concern.
fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let metadata = std::fs::metadata(path).map_err(KeyProblem::Unreadable)?;
    if !metadata.is_file() {
        return Err(KeyProblem::NotAFile);
    }
    let file = File::open(path).map_err(KeyProblem::Unreadable)?;
    // Reserved at once: growing would leave copies of the key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limits::PRIVATE_KEY_BYTES_MAX + 2));
    let max = u64::try_from(limits::PRIVATE_KEY_BYTES_MAX + 1).unwrap_or(u64::MAX);
    file.take(max).read_to_end(&mut bytes).map_err(KeyProblem::Unreadable)?;
    Ok(bytes)
}
