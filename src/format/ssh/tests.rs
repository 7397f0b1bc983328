//! Keys against what the real `ssh-keygen` makes and prints.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use tempfile::TempDir;

use super::authorized::KeyLineProblem;
use super::*;
use crate::model::limits;

fn keygen(arguments: &[&str]) -> String {
    let mut command = Command::new("ssh-keygen");
    let output =
        command.args(arguments).stdin(Stdio::null()).output().expect("ssh-keygen must be installed (openssh-client)");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

/// Files made by ssh-keygen.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("temporary folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a key and gives its private text and its public line.
    fn make(&self, name: &str, passphrase: &str, more: &[&str]) -> (Vec<u8>, String) {
        let path = self.path(name);
        let path = path.to_str().expect("text");
        keygen(&[&["-q", "-C", "bob@desk", "-N", passphrase, "-f", path], more].concat());
        (fs::read(path).expect("private"), fs::read_to_string(format!("{path}.pub")).expect("public"))
    }

    /// What `ssh-keygen -l` says of a text.
    fn listed(&self, text: &str) -> String {
        let path = self.path("listed");
        fs::write(&path, text).expect("write");
        keygen(&["-l", "-f", path.to_str().expect("text")])
    }
}

#[test]
fn public_keys_and_fingerprints() {
    let files = Files::new();
    let (_, line) = files.make("key", "", &["-t", "ed25519"]);
    let (key, comment) = parse_public_key(&line).expect("public key");
    assert_eq!(comment, "bob@desk");
    assert_eq!(public_key_line(&key, "bob@desk"), line.trim_end());
    assert_eq!(files.listed(&line).split(' ').nth(1), Some(&*fingerprint(&key)));
    assert_eq!(files.listed(&public_key_line(&key, "")).split(' ').nth(1), Some(&*fingerprint(&key)));
    assert_eq!(public_key_of_blob(&public_key_blob(&key)), Some(key));
    assert_eq!(public_key_of_blob(&public_key_blob(&key)[1..]), None);
}

#[test]
fn private_keys() {
    let files = Files::new();
    let (text, line) = files.make("plain", "", &["-t", "ed25519"]);
    let (public, _) = parse_public_key(&line).expect("public key");
    for passphrase in [None, Some("not used")] {
        assert_eq!(parse_private(&text, passphrase).expect("plain").public_key(), public);
    }
    assert_eq!(inspect_private(&text), Ok(PrivateKeyInfo { key: public, encrypted: false }));
    for cipher in ["aes256-ctr", "aes128-ctr", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com"] {
        let (text, line) = files.make(cipher, "söme words", &["-t", "ed25519", "-Z", cipher]);
        let (public, _) = parse_public_key(&line).expect("public key");
        assert_eq!(inspect_private(&text), Ok(PrivateKeyInfo { key: public, encrypted: true }), "{cipher}");
        assert_eq!(parse_private(&text, Some("söme words")).expect(cipher).public_key(), public);
        assert_eq!(parse_private(&text, None).expect_err(cipher), PrivateKeyError::Encrypted);
        for wrong in ["", "some words", "söme words "] {
            assert_eq!(parse_private(&text, Some(wrong)).expect_err(cipher), PrivateKeyError::WrongPassphrase);
        }
    }
}

#[test]
fn signatures_are_those_of_openssh() {
    let files = Files::new();
    let (text, line) = files.make("key", "", &["-t", "ed25519"]);
    let message = files.path("message");
    fs::write(&message, "some bytes").expect("write");
    keygen(&[
        "-q",
        "-Y",
        "sign",
        "-n",
        "test",
        "-f",
        files.path("key").to_str().expect("text"),
        message.to_str().expect("text"),
    ]);
    let signature = fs::read_to_string(files.path("message.sig")).expect("signature");
    let signature = ssh_key::SshSig::from_pem(&signature).expect("signature");
    let signed = ssh_key::SshSig::signed_data("test", signature.hash_alg(), b"some bytes").expect("signed bytes");
    let bytes = crate::model::key::SignatureBytes(signature.signature_bytes().try_into().expect("64 bytes"));
    let (public, _) = parse_public_key(&line).expect("public key");
    assert!(crate::format::signature::verify(&public, &signed, &bytes));
    let ours = crate::format::signature::sign(&parse_private(&text, None).expect("key"), &signed);
    assert_eq!(ours, bytes);
}

#[test]
fn other_types_are_named() {
    let files = Files::new();
    let cases = [
        (vec!["-t", "rsa", "-b", "2048"], "ssh-rsa", "ssh-rsa"),
        (vec!["-t", "rsa", "-b", "2048", "-m", "PEM"], "ssh-rsa", "ssh-rsa"),
        (vec!["-t", "ecdsa"], "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp256"),
        (vec!["-t", "ecdsa", "-b", "521"], "ecdsa-sha2-nistp521", "ecdsa-sha2-nistp521"),
        (vec!["-t", "ecdsa", "-m", "PEM"], "ecdsa-sha2-nistp256", "ecdsa"),
    ];
    for (index, (arguments, public_type, private_type)) in cases.into_iter().enumerate() {
        for passphrase in ["", "secret"] {
            let (text, line) = files.make(&format!("key{index}{passphrase}"), passphrase, &arguments);
            let private = Err(PrivateKeyError::NotEd25519(private_type.into()));
            assert_eq!(inspect_private(&text), private, "{arguments:?}");
            assert_eq!(parse_public_key(&line), Err(PublicKeyError::Unsupported(public_type.into())));
        }
    }
    let sk = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t x";
    assert_eq!(parse_public_key(sk), Err(PublicKeyError::Unsupported("sk-ssh-ed25519@openssh.com".into())));
}

#[test]
fn what_is_not_a_private_key() {
    let files = Files::new();
    let (text, line) = files.make("key", "", &["-t", "ed25519"]);
    let text = String::from_utf8(text).expect("text");
    let public = parse_public_key(&line).expect("public key").0;
    assert_eq!(inspect_private(line.as_bytes()), Err(PrivateKeyError::PublicKey(public)));
    let too_long = "x".repeat(limits::PRIVATE_KEY_BYTES_MAX + 1);
    assert_eq!(inspect_private(too_long.as_bytes()), Err(PrivateKeyError::TooLong));
    let cut = &text[..text.len() - 60];
    let pkcs8 = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n";
    let damaged = text.replacen('A', "B", 3);
    for (text, part) in [
        ("", "is missing"),
        ("garbage", "is missing"),
        (cut, "its last line is missing"),
        (pkcs8, "it is a \"PRIVATE KEY\"; `ssh-keygen -t ed25519` makes a fitting one"),
        (damaged.as_str(), ""),
    ] {
        let error = inspect_private(text.as_bytes()).expect_err(text);
        assert!(matches!(error, PrivateKeyError::Malformed(_)), "{text}: {error:?}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    assert!(matches!(inspect_private(b"\xff\xfe"), Err(PrivateKeyError::Malformed(_))));
}

/// CI systems hand keys on through variables, which lose or change line ends.
#[test]
fn line_ends_do_not_matter() {
    let text = SecretKey::from_seed(&[3; 32]).to_openssh("x").expect("text");
    let public = SecretKey::from_seed(&[3; 32]).public_key();
    for variant in [
        text.replace('\n', "\r\n"),
        text.replace('\n', " "),
        text.replace('\n', ""),
        text.trim_end().into(),
        format!("\n  {}\n\n", text.replace('\n', "\n  ")),
    ] {
        assert_eq!(parse_private(variant.as_bytes(), None).expect(&variant).public_key(), public, "{variant}");
    }
}

#[test]
fn too_many_rounds_are_refused() {
    let files = Files::new();
    let (text, _) = files.make("key", "secret", &["-t", "ed25519"]);
    let key = ssh_key::PrivateKey::from_openssh(&text).expect("key");
    let mut bytes = key.to_bytes().expect("bytes").to_vec();
    let salt = 15 + 4 + "aes256-ctr".len() + 4 + "bcrypt".len() + 4;
    let rounds = salt + 4 + 16;
    assert!(u32::from_be_bytes(bytes[rounds..rounds + 4].try_into().expect("4 bytes")) < 1_000);
    bytes[rounds..rounds + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    let key = ssh_key::PrivateKey::from_bytes(&bytes).expect("still a key");
    let text = key.to_openssh(ssh_key::LineEnding::LF).expect("text");
    let error = parse_private(text.as_bytes(), Some("secret")).expect_err("would take years");
    assert!(error.to_string().contains("4294967295 rounds of bcrypt, more than 10000"), "{error}");
}

/// A file whose public part was exchanged would make us sign in a way that reveals the private key.
#[test]
fn exchanged_public_part_is_refused() {
    let pair = Ed25519Pair { public: [9; 32], secret: [3; 32] };
    let error = parse_private(pair.text().as_bytes(), None).expect_err("halves of different keys");
    assert!(error.to_string().contains("doesn't belong"), "{error}");
}

struct Ed25519Pair {
    public: [u8; 32],
    secret: [u8; 32],
}

impl Ed25519Pair {
    fn text(&self) -> String {
        let public = Ed25519PublicKey(self.public);
        let private = ssh_key::private::Ed25519PrivateKey::from_bytes(&self.secret);
        let data = ssh_key::private::KeypairData::Ed25519(ssh_key::private::Ed25519Keypair { public, private });
        let key = ssh_key::PrivateKey::new(data, "").expect("key");
        key.to_openssh(ssh_key::LineEnding::LF).expect("text").to_string()
    }
}

#[test]
fn generated_keys_are_openssh_keys() {
    let files = Files::new();
    let secret = SecretKey::from_seed(&[7; 32]);
    let text = secret.to_openssh("demo key").expect("text");
    let path = files.path("generated");
    fs::write(&path, text.as_bytes()).expect("write");
    // ssh-keygen refuses keys that others can read.
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let public = keygen(&["-y", "-f", path.to_str().expect("text")]);
    assert_eq!(public.trim_end(), public_key_line(&secret.public_key(), "demo key"));
    assert_eq!(parse_private(text.as_bytes(), None).expect("our own").public_key(), secret.public_key());
}

#[test]
fn secrets_are_not_shown() {
    let secret = SecretKey::from_seed(&[7; 32]);
    assert_eq!(format!("{secret:?}"), format!("SecretKey({})", fingerprint(&secret.public_key())));
}

#[test]
fn authorized_keys() {
    let key = |n: u8| SecretKey::from_seed(&[n; 32]).public_key();
    let line = |n, comment| public_key_line(&key(n), comment);
    let text = format!(
        "# keys of the team\n\n{}\r\n  {}  \n{}\n{}\n\t#{}\n",
        line(1, "bob at # desk"),
        line(2, ""),
        line(1, "again"),
        line(3, "\x1b[31mred").replacen(' ', "\t", 1),
        line(4, "")
    );
    let named = |n, name: &str| NamedKey { key: key(n), name: name.into() };
    let expected = vec![named(1, "ci (bob at # desk)"), named(2, "ci"), named(3, "ci (\u{fffd}[31mred)")];
    assert_eq!(parse_authorized_keys("ci", &text), Ok(expected));
    assert_eq!(parse_authorized_keys("ci", ""), Ok(vec![]));
}

use crate::model::key::NamedKey;

#[test]
fn bad_lines_are_all_named() {
    let good = public_key_line(&SecretKey::from_seed(&[1; 32]).public_key(), "");
    let body = good.split(' ').nth(1).expect("base64");
    let weak = public_key_line(&PublicKey([0; 32]), "weak");
    let text = format!(
        "{good}\nssh-rsa AAAAB3 x\nfrom=\"10.*\",no-pty {good}\nssh-ed25519\nssh-ed25519 AAAA\nssh-ed25519 {body}AAAA\n{weak}\n\
         ecdsa-sha2-nistp256 AAAA\ngarbage \x1b\n-----BEGIN OPENSSH PRIVATE KEY-----\ncert-authority {good}\n"
    );
    let errors = parse_authorized_keys("ci", &text).expect_err("bad lines");
    let shown: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (shown, expected) in shown.iter().zip([
        "line 2: a key of type ssh-rsa; only ssh-ed25519 is supported",
        "line 3: options before the key (from=\"10.*\",no-pty) are not supported: remove them",
        "line 4: the key after `ssh-ed25519` is damaged: ",
        "line 5: the key after `ssh-ed25519` is damaged: ",
        "line 6: the key after `ssh-ed25519` is damaged: ",
        "line 7: the key is not a valid ed25519 key",
        "line 8: a key of type ecdsa-sha2-nistp256; only ssh-ed25519 is supported",
        "line 9: expected `ssh-ed25519 AAAA… comment`, found \"garbage \u{fffd}\"",
        "line 10: expected `ssh-ed25519 AAAA… comment`, found \"-----BEGIN OPENSSH PRIVATE KEY-----\"",
        "line 11: options before the key (cert-authority) are not supported: remove them",
    ]) {
        assert!(shown.starts_with(expected), "{shown}\n{expected}");
    }
    assert_eq!(shown.len(), 10);
}

#[test]
fn lists_are_bounded() {
    let lines: Vec<String> = (0..=limits::KEYS_PER_DIRECTORY_MAX)
        .map(|n| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&(n as u64).to_be_bytes());
            public_key_line(&SecretKey::from_seed(&seed).public_key(), "")
        })
        .collect();
    assert_eq!(parse_authorized_keys("x", &lines[1..].join("\n")).expect("as many as may be").len(), lines.len() - 1);
    let errors = parse_authorized_keys("x", &lines.join("\n")).expect_err("one more");
    assert_eq!(errors, [AuthorizedKeysError { line: lines.len(), problem: KeyLineProblem::TooMany }]);
    let errors = parse_authorized_keys("x", &"bad\n".repeat(100_000)).expect_err("bad");
    assert_eq!(errors.len(), limits::CONFIG_PROBLEMS_MAX);
}

proptest! {
    #[test]
    fn public_lines_round_trip(seed: [u8; 32], comment in "[a-z0-9@. ]{0,20}") {
        let key = SecretKey::from_seed(&seed).public_key();
        prop_assert_eq!(parse_public_key(&public_key_line(&key, &comment)), Ok((key, comment.trim().to_owned())));
    }

    #[test]
    fn private_texts_round_trip(seed: [u8; 32], comment in ".{0,40}") {
        let secret = SecretKey::from_seed(&seed);
        let text = secret.to_openssh(&comment).expect("text");
        prop_assert_eq!(parse_private(text.as_bytes(), None).expect("ours").public_key(), secret.public_key());
    }

    #[test]
    fn damaged_private_keys_do_not_panic(at in 0_usize..400, byte: u8) {
        let mut text = SecretKey::from_seed(&[1; 32]).to_openssh("comment").expect("text").as_bytes().to_vec();
        let at = at % text.len();
        text[at] = byte;
        // Whatever was damaged, no other key comes out of it.
        if let Ok(secret) = parse_private(&text, Some("x")) {
            prop_assert_eq!(secret.public_key(), SecretKey::from_seed(&[1; 32]).public_key());
        }
    }

    #[test]
    fn garbage_does_not_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_authorized_keys("x", &text);
        let _ = parse_public_key(&format!("ssh-ed25519 {text}"));
        let _ = inspect_private(&bytes);
        let _ = public_key_of_blob(&bytes);
    }
}
