//! The client of ssh-agent against a real agent, and against ones that lie.

use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};
use std::thread;

use tempfile::TempDir;

use super::*;
use crate::format::ssh::{SecretKey, parse_private};

/// A real ssh-agent in the foreground, in its own folder; it ends with this value.
struct RealAgent {
    process: Child,
    folder: TempDir,
}

impl RealAgent {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        let socket = folder.path().join("agent");
        let mut process = Command::new("ssh-agent")
            .args(["-D", "-a"])
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .expect("ssh-agent must be installed (openssh-client)");
        // It prints its variables after it has bound the socket.
        let mut line = [0; 14];
        process.stdout.as_mut().expect("piped").read_exact(&mut line).expect("the agent's first line");
        assert_eq!(&line, b"SSH_AUTH_SOCK=");
        Self { process, folder }
    }

    fn agent(&self) -> Agent {
        Agent::new(self.folder.path().join("agent"))
    }

    /// Makes a key with ssh-keygen and adds it; gives the key file's text.
    fn add(&self, name: &str, kind: &[&str]) -> Vec<u8> {
        let file = self.folder.path().join(name);
        run(Command::new("ssh-keygen").args(["-q", "-N", "", "-C", name, "-f"]).arg(&file).arg("-t").args(kind));
        let socket = self.folder.path().join("agent");
        run(Command::new("ssh-add").arg("-q").arg(&file).env("SSH_AUTH_SOCK", socket));
        std::fs::read(&file).expect("the key file")
    }

    fn ssh_add(&self, arguments: &[&str]) {
        run(Command::new("ssh-add").args(arguments).env("SSH_AUTH_SOCK", self.folder.path().join("agent")));
    }
}

impl Drop for RealAgent {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("openssh-client must be installed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn real_agent() {
    let real = RealAgent::start();
    assert_eq!(real.agent().identities().expect("empty list"), []);
    real.add("rsa", &["rsa", "-b", "2048"]);
    let first = parse_private(&real.add("first one", &["ed25519"]), None).expect("key");
    real.add("ecdsa", &["ecdsa"]);
    let second = parse_private(&real.add("second", &["ed25519"]), None).expect("key");

    let identities = real.agent().identities().expect("list");
    let expected = [(first.public_key(), "first one"), (second.public_key(), "second")];
    assert_eq!(identities, expected.map(|(key, comment)| AgentIdentity { key, comment: comment.into() }));
    for (key, message) in [(&first, &b"some bytes"[..]), (&second, b""), (&second, &[0xff; 10_000])] {
        let by_agent = real.agent().sign(&key.public_key(), message).expect("signature");
        assert_eq!(by_agent, signature::sign(key, message));
    }

    let stranger = SecretKey::from_seed(&[1; 32]).public_key();
    let refused = real.agent().sign(&stranger, b"x").expect_err("not its key");
    assert!(matches!(refused, AgentError::Refused("sign")), "{refused}");
    real.ssh_add(&["-q", "-D"]);
    assert_eq!(real.agent().identities().expect("emptied"), []);
    let refused = real.agent().sign(&first.public_key(), b"x").expect_err("key is gone");
    assert_eq!(refused.to_string(), "ssh-agent refused to sign");
}

#[test]
fn no_agent() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let socket = folder.path().join("nobody");
    let error = Agent::new(&socket).identities().expect_err("nobody listens");
    assert_eq!(error.to_string(), format!("no ssh-agent at {}", socket.display()));
    drop(UnixListener::bind(&socket).expect("bind"));
    assert!(matches!(Agent::new(&socket).identities(), Err(AgentError::Absent { .. })), "a dead agent's socket");
}

/// An agent that reads one request, answers with `answer` as it is, and closes.
fn fake(answer: Vec<u8>) -> (TempDir, Agent) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let listener = UnixListener::bind(folder.path().join("fake")).expect("bind");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("one connection");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a request");
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).expect("the whole request");
        stream.write_all(&answer).ok();
    });
    let agent = Agent::new(folder.path().join("fake"));
    (folder, agent)
}

fn framed(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body: Vec<u8> = [&[kind][..]].iter().chain(parts).copied().flatten().copied().collect();
    let mut message = Vec::new();
    body.encode(&mut message).expect("short");
    message
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    bytes.encode(&mut out).expect("short");
    out
}

#[test]
fn lists_that_lie() {
    let huge = [0xff, 0xff, 0xff, 0xff, IDENTITIES_ANSWER].to_vec();
    let over = u32::try_from(limits::AGENT_MESSAGE_BYTES_MAX + 1).expect("small").to_be_bytes().to_vec();
    let good = public_key_blob(&SecretKey::from_seed(&[1; 32]).public_key());
    let cases = [
        (huge, "a message of 4294967295 bytes"),
        (over, "a message of 262145 bytes"),
        (vec![0; 4], "an empty message"),
        (framed(6, &[]), "a message of type 6 instead of 12"),
        (framed(IDENTITIES_ANSWER, &[b"\0\0"]), ""),
        (framed(IDENTITIES_ANSWER, &[&[0xff; 4]]), ""),
        (framed(IDENTITIES_ANSWER, &[&[0, 0, 0, 1], &string(&good)]), ""),
        (framed(IDENTITIES_ANSWER, &[&[0, 0, 0, 1], &[0, 0xff, 0xff, 0xff]]), ""),
        (framed(IDENTITIES_ANSWER, &[&[0, 0, 0, 0], b"more"]), ""),
    ];
    for (answer, expected) in cases {
        let (_folder, agent) = fake(answer.clone());
        match agent.identities() {
            Err(AgentError::Malformed(text)) => assert!(text.contains(expected), "{answer:?}: {text}"),
            other => panic!("{answer:?}: {other:?}"),
        }
    }
    let (_folder, agent) = fake(framed(FAILURE, &[]));
    assert!(matches!(agent.identities(), Err(AgentError::Refused("list its keys"))));
}

#[test]
fn closes_early() {
    for answer in [vec![], vec![0, 0], vec![0, 0, 0, 9], vec![0, 0, 0, 9, IDENTITIES_ANSWER, 0]] {
        let (_folder, agent) = fake(answer.clone());
        let error = agent.identities().expect_err("nothing whole came");
        assert!(matches!(error, AgentError::Broken { .. }), "{answer:?}: {error:?}");
    }
}

#[test]
fn never_answers() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let _listener = UnixListener::bind(folder.path().join("mute")).expect("bind");
    let short = Duration::from_millis(1);
    let agent = Agent::new(folder.path().join("mute")).with_timeouts(short, short);
    assert!(matches!(agent.identities(), Err(AgentError::Timeout { .. })));
    let key = SecretKey::from_seed(&[1; 32]).public_key();
    assert!(matches!(agent.sign(&key, b"x"), Err(AgentError::Timeout { .. })));
}

#[test]
fn identities_are_filtered_and_cleaned() {
    let good = public_key_blob(&SecretKey::from_seed(&[1; 32]).public_key());
    let mut weak = good.clone();
    weak[19..].copy_from_slice(&[0; 32]);
    let long = [&good[..], b"x"].concat();
    let parts = [
        vec![0, 0, 0, 4],
        string(&weak),
        string(b"weak"),
        string(&long),
        string(b"long"),
        string(b""),
        string(b""),
        string(&good),
        string(b"bob\x1b[2J\n\xff"),
    ];
    let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
    let (_folder, agent) = fake(framed(IDENTITIES_ANSWER, &parts));
    let identities = agent.identities().expect("a list");
    assert_eq!(identities.len(), 1);
    assert_eq!(identities[0].comment, "bob\u{fffd}[2J\u{fffd}\u{fffd}");
}

#[test]
fn signatures_that_lie() {
    let key = SecretKey::from_seed(&[1; 32]);
    let right = signature::sign(&key, b"message").0;
    let other = signature::sign(&SecretKey::from_seed(&[2; 32]), b"message").0;
    let blob = |kind: &[u8], bytes: &[u8]| [string(kind), string(bytes)].concat();
    let sign = |blob: &[u8]| {
        let (_folder, agent) = fake(framed(SIGN_RESPONSE, &[&string(blob)]));
        agent.sign(&key.public_key(), b"message")
    };
    assert_eq!(sign(&blob(b"ssh-ed25519", &right)).expect("honest"), SignatureBytes(right));
    assert!(matches!(sign(&blob(b"ssh-ed25519", &other)), Err(AgentError::WrongSignature)));
    assert!(matches!(sign(&blob(b"ssh-ed25519", &right[..63])), Err(AgentError::Malformed(_))));
    assert!(matches!(sign(&blob(b"rsa-sha2-512", &right)), Err(AgentError::Malformed(_))));
    assert!(matches!(sign(&[blob(b"ssh-ed25519", &right), vec![0]].concat()), Err(AgentError::Malformed(_))));
    assert!(matches!(sign(b""), Err(AgentError::Malformed(_))));
}
