//! The search for keys among files of `ssh-keygen`, variables, and a real `ssh-agent`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::format::ssh::parse_public_key;
use crate::model::limits;

/// A home directory, variables, and a terminal whose answers are known beforehand.
struct Fake {
    folder: TempDir,
    variables: BTreeMap<String, OsString>,
    /// `None`: there is no terminal. Taken from the end.
    answers: Option<RefCell<Vec<&'static str>>>,
    prompts: RefCell<Vec<String>>,
    agent: Option<Child>,
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<OsString> {
        self.variables.get(name).cloned()
    }

    fn home(&self) -> Option<PathBuf> {
        Some(self.folder.path().into())
    }

    fn ask_passphrase(&self, prompt: &str) -> io::Result<Option<Zeroizing<String>>> {
        let Some(answers) = &self.answers else { return Ok(None) };
        self.prompts.borrow_mut().push(prompt.into());
        let answer = answers.borrow_mut().pop().ok_or_else(|| io::Error::other("nobody answers"))?;
        Ok(Some(Zeroizing::new(answer.into())))
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.kill().ok();
            agent.wait().ok();
        }
    }
}

impl Fake {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in [".ssh", ".ciruela"] {
            fs::create_dir(folder.path().join(name)).expect("folder");
        }
        Self { folder, variables: BTreeMap::new(), answers: None, prompts: RefCell::default(), agent: None }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.into(), value.into());
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("key file")
    }

    /// Makes a key file with ssh-keygen, and gives its public key.
    fn make(&self, name: &str, passphrase: &str, kind: &str) -> Option<PublicKey> {
        let file = self.path(name);
        let arguments = ["-q", "-C", name, "-N", passphrase, "-t", kind];
        run(Command::new("ssh-keygen").args(arguments).arg("-f").arg(&file));
        // The private file must be enough.
        let public = format!("{}.pub", file.display());
        let line = fs::read_to_string(&public).expect("public key");
        fs::remove_file(public).expect("removed");
        parse_public_key(&line).ok().map(|(key, _)| key)
    }

    fn ed25519(&self, name: &str) -> PublicKey {
        self.make(name, "", "ed25519").expect("ed25519")
    }

    fn encrypted(&self, name: &str) -> PublicKey {
        self.make(name, "secret", "ed25519").expect("ed25519")
    }

    /// Starts an ssh-agent, if none runs, and adds key files that aren't encrypted.
    fn add_to_agent(&mut self, names: &[&str]) {
        let socket = self.path("agent");
        if self.agent.is_none() {
            let mut command = Command::new("ssh-agent");
            let mut agent = command
                .args(["-D", "-a"])
                .arg(&socket)
                .stdout(Stdio::piped())
                .spawn()
                .expect("ssh-agent must be installed (openssh-client)");
            // It prints its variables after it has bound the socket.
            agent.stdout.as_mut().expect("piped").read_exact(&mut [0; 14]).expect("the agent's first line");
            self.agent = Some(agent);
            self.set(AGENT_VARIABLE, &socket);
        }
        for name in names {
            run(Command::new("ssh-add").arg("-q").arg(self.path(name)).env(AGENT_VARIABLE, &socket));
        }
    }

    /// Encrypts a key file with the passphrase `secret`.
    fn encrypt(&self, name: &str) {
        run(Command::new("ssh-keygen").args(["-q", "-p", "-P", "", "-N", "secret", "-f"]).arg(self.path(name)));
    }

    fn load(&self, options: &KeyOptions) -> Result<Loaded, String> {
        let loaded = load(options, self).map_err(|error| error.to_string())?;
        for signer in &loaded.signers {
            let signature = signer.sign(b"message").map_err(|error| error.to_string())?;
            assert!(signature::verify(&signer.public_key(), b"message", &signature), "{}", signer.describe());
        }
        Ok(loaded)
    }

    fn usual(&self) -> Result<Loaded, String> {
        self.load(&KeyOptions::default())
    }

    fn identity(&self, name: &str) -> Result<Loaded, String> {
        self.load(&KeyOptions { identity: vec![self.path(name)], key_from_env: vec![] })
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("openssh-client must be installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn keys(loaded: &Loaded) -> Vec<PublicKey> {
    loaded.signers.iter().map(Signer::public_key).collect()
}

#[test]
fn usual_places_in_order() {
    let mut fake = Fake::new();
    let [first, second, third] = DEFAULT_FILES.map(|file| fake.ed25519(file));
    let in_variable = fake.ed25519("variable");
    fake.set(KEY_VARIABLE, fake.text("variable"));
    let in_agent = fake.ed25519("agent key");
    fake.add_to_agent(&["agent key", ".ssh/id_ed25519"]);
    let loaded = fake.usual().expect("keys");
    assert_eq!(keys(&loaded), [in_variable, first, second, third, in_agent]);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    let described: Vec<String> = loaded.signers.iter().map(Signer::describe).collect();
    assert_eq!(described[0], format!("{} from $CIRUELA_KEY", fingerprint(&in_variable)));
    assert_eq!(described[1], format!("{} from {}", fingerprint(&first), fake.path(".ssh/id_ed25519").display()));
    assert_eq!(described[4], format!("{} from ssh-agent (agent key)", fingerprint(&in_agent)));
}

#[test]
fn nothing_found_says_where_it_looked() {
    let mut fake = Fake::new();
    let error = fake.usual().expect_err("no key");
    let home = fake.folder.path().display().to_string();
    assert_eq!(
        error.replace(&home, "HOME"),
        "no key to sign with. Looked at:
  $CIRUELA_KEY: not set
  HOME/.ssh/id_ed25519: no such file
  HOME/.ssh/id_ciruela: no such file
  HOME/.ciruela/id_ed25519: no such file
  ssh-agent ($SSH_AUTH_SOCK): not set
Make one with: ssh-keygen -t ed25519 -f ~/.ssh/id_ciruela"
    );
    fake.make(".ssh/id_ed25519", "", "rsa");
    fake.encrypted(".ssh/id_ciruela");
    fs::create_dir(fake.path(".ciruela/id_ed25519")).expect("folder");
    fake.make("rsa", "", "rsa");
    fake.add_to_agent(&["rsa"]);
    let error = fake.usual().expect_err("no usable key");
    for part in [
        ".ssh/id_ed25519: a private key of type ssh-rsa; only ssh-ed25519 is supported\n",
        ".ssh/id_ciruela: the key is encrypted: set CIRUELA_KEY_PASSPHRASE, add the key to ssh-agent, or run on a terminal\n",
        ".ciruela/id_ed25519: it is not a regular file\n",
        "ssh-agent ($SSH_AUTH_SOCK): holds no ssh-ed25519 key\n",
    ] {
        assert!(error.contains(part), "{error}\nlacks {part}");
    }
}

#[test]
fn unusable_usual_keys_are_warnings() {
    let mut fake = Fake::new();
    let good = fake.ed25519(".ssh/id_ed25519");
    fake.encrypted(".ssh/id_ciruela");
    fake.set(AGENT_VARIABLE, fake.path("nobody"));
    let loaded = fake.usual().expect("one key");
    assert_eq!(keys(&loaded), [good]);
    assert_eq!(loaded.warnings.len(), 2);
    assert!(loaded.warnings[0].contains(".ssh/id_ciruela is left out: the key is encrypted"), "{:?}", loaded.warnings);
    assert!(loaded.warnings[1].contains("is left out: no ssh-agent at "), "{:?}", loaded.warnings);
}

#[test]
fn passphrase_from_the_variable() {
    let mut fake = Fake::new();
    let key = fake.encrypted(".ssh/id_ed25519");
    fake.set(PASSPHRASE_VARIABLE, "secret");
    assert_eq!(keys(&fake.usual().expect("opened")), [key]);
    assert_eq!(keys(&fake.identity(".ssh/id_ed25519").expect("opened")), [key]);
    fake.set(PASSPHRASE_VARIABLE, "wrong");
    let error = fake.identity(".ssh/id_ed25519").expect_err("wrong passphrase, no terminal");
    assert!(error.ends_with("CIRUELA_KEY_PASSPHRASE is not the passphrase of this key"), "{error}");
}

#[test]
fn passphrase_from_the_terminal() {
    let mut fake = Fake::new();
    let key = fake.encrypted("key");
    fake.answers = Some(RefCell::new(vec!["secret", "wrong"]));
    assert_eq!(keys(&fake.identity("key").expect("opened")), [key]);
    let prompt = format!("Passphrase of {} ({}): ", fake.path("key").display(), fingerprint(&key));
    assert_eq!(*fake.prompts.borrow(), [prompt.clone(), prompt]);

    fake.answers = Some(RefCell::new(vec!["secret", "c", "b", "a"]));
    let error = fake.identity("key").expect_err("three wrong ones");
    assert!(error.ends_with("wrong passphrase"), "{error}");
    assert_eq!(fake.prompts.borrow().len(), 2 + limits::PASSPHRASE_TRIES_MAX);

    fake.answers = Some(RefCell::default());
    let error = fake.identity("key").expect_err("the terminal fails");
    assert!(error.ends_with("can't ask for the passphrase: nobody answers"), "{error}");
    fake.set(PASSPHRASE_VARIABLE, "wrong");
    fake.answers = Some(RefCell::new(vec!["secret"]));
    assert_eq!(keys(&fake.identity("key").expect("asked after the variable failed")), [key]);
}

#[test]
fn an_agent_spares_the_passphrase() {
    let mut fake = Fake::new();
    let key = fake.ed25519(".ssh/id_ed25519");
    fake.add_to_agent(&[".ssh/id_ed25519"]);
    fake.encrypt(".ssh/id_ed25519");
    fake.answers = Some(RefCell::default());
    for loaded in [fake.usual(), fake.identity(".ssh/id_ed25519")] {
        let loaded = loaded.expect("the agent has it");
        assert_eq!(keys(&loaded), [key]);
        assert_eq!(loaded.signers[0].origin(), &Origin::Agent(".ssh/id_ed25519".into()));
        assert_eq!(loaded.warnings, Vec::<String>::new());
    }
    assert_eq!(*fake.prompts.borrow(), Vec::<String>::new());
}

#[test]
fn a_public_key_file_chooses_one_of_the_agent() {
    let mut fake = Fake::new();
    let key = fake.ed25519("one");
    fake.ed25519("two");
    fs::write(fake.path("one.pub"), crate::format::ssh::public_key_line(&key, "one")).expect("write");
    let error = fake.identity("one.pub").expect_err("no agent");
    assert!(error.contains("this is a public key"), "{error}");
    fake.add_to_agent(&["two", "one"]);
    assert_eq!(keys(&fake.identity("one.pub").expect("the agent has it")), [key]);
}

#[test]
fn asked_for_keys_only() {
    let mut fake = Fake::new();
    fake.ed25519(".ssh/id_ed25519");
    let (a, b, c) = (fake.ed25519("a"), fake.ed25519("b"), fake.ed25519("c"));
    fake.set("B", fake.text("b").replace('\n', " "));
    fake.add_to_agent(&["c"]);
    let mut options = KeyOptions { identity: vec![fake.path("a"), fake.path("a")], key_from_env: vec!["B".into()] };
    assert_eq!(keys(&fake.load(&options).expect("keys")), [a, b]);
    options = KeyOptions { identity: vec![], key_from_env: vec!["B".into()] };
    assert_eq!(keys(&fake.load(&options).expect("keys")), [b]);
    fake.set(KEY_VARIABLE, fake.text("c"));
    options.identity.push(fake.path("c"));
    assert_eq!(keys(&fake.load(&options).expect("keys")), [c, b]);
}

#[test]
fn asked_for_keys_must_be_usable() {
    let mut fake = Fake::new();
    fake.ed25519(".ssh/id_ed25519");
    fake.make("rsa", "", "rsa");
    fake.make("ecdsa", "", "ecdsa");
    fake.encrypted("encrypted");
    fs::write(fake.path("garbage"), "garbage").expect("write");
    fs::write(fake.path("huge"), vec![b'x'; 1 << 20]).expect("write");
    for (name, expected) in [
        ("rsa", "a private key of type ssh-rsa; only ssh-ed25519 is supported"),
        ("ecdsa", "a private key of type ecdsa-sha2-nistp256; only ssh-ed25519 is supported"),
        ("encrypted", "the key is encrypted: set CIRUELA_KEY_PASSPHRASE"),
        ("garbage", "not an OpenSSH private key: the line `-----BEGIN OPENSSH PRIVATE KEY-----` is missing"),
        ("huge", "longer than 65536 bytes: not a private key"),
        ("missing", "No such file or directory"),
        (".ssh", "it is not a regular file"),
    ] {
        let error = fake.identity(name).expect_err(name);
        let start = format!("can't use the key from {}: {expected}", fake.path(name).display());
        assert!(error.starts_with(&start), "{error}");
    }
    for (value, expected) in [
        (None, "can't use the key from $K: the variable is not set"),
        (Some(String::new()), "can't use the key from $K: the variable is not set"),
        (Some("garbage".into()), "can't use the key from $K: not an OpenSSH private key"),
        (Some(fake.text("encrypted")), "can't use the key from $K: the key is encrypted"),
    ] {
        fake.variables.remove("K");
        if let Some(value) = value {
            fake.set("K", value);
        }
        let error = fake.load(&KeyOptions { identity: vec![], key_from_env: vec!["K".into()] }).expect_err("unusable");
        assert!(error.starts_with(expected), "{error}");
    }
    fake.set(KEY_VARIABLE, "garbage");
    assert!(fake.usual().expect_err("it was set on purpose").starts_with("can't use the key from $CIRUELA_KEY: "));
    fake.set(KEY_VARIABLE, "");
    assert_eq!(fake.usual().expect("empty is not set").signers.len(), 1);
}

#[test]
fn readable_by_others_is_fine() {
    let fake = Fake::new();
    let key = fake.ed25519("key");
    fs::set_permissions(fake.path("key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    assert_eq!(keys(&fake.identity("key").expect("key")), [key]);
}

#[test]
fn a_key_that_left_the_agent_names_itself() {
    let mut fake = Fake::new();
    let key = fake.ed25519("key");
    fake.add_to_agent(&["key"]);
    let loaded = fake.usual().expect("key");
    run(Command::new("ssh-add").args(["-q", "-D"]).env(AGENT_VARIABLE, fake.path("agent")));
    let error = loaded.signers[0].sign(b"x").expect_err("gone");
    assert_eq!(error.to_string(), format!("can't sign with {} from ssh-agent (key)", fingerprint(&key)));
    assert_eq!(std::error::Error::source(&error).map(ToString::to_string), Some("ssh-agent refused to sign".into()));
}

#[test]
fn at_most_as_many_as_a_change_takes() {
    let fake = Fake::new();
    let identity: Vec<PathBuf> = (0..=limits::SIGNATURES_MAX)
        .map(|n| {
            let path = fake.path(&format!("key{n}"));
            let seed = [u8::try_from(n).expect("small"); 32];
            let text = SecretKey::from_seed(&seed).to_openssh("").expect("text");
            fs::write(&path, text.as_bytes()).expect("write");
            path
        })
        .collect();
    let loaded = fake.load(&KeyOptions { identity, key_from_env: vec![] }).expect("keys");
    assert_eq!(loaded.signers.len(), limits::SIGNATURES_MAX);
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].ends_with("a change has at most 32 signatures"), "{:?}", loaded.warnings);
}

#[test]
fn default_files_are_below_home() {
    assert!(DEFAULT_FILES.iter().all(|file| Path::new(file).is_relative()));
}
