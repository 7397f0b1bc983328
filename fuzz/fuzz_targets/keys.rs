//! Key files: lists of public keys, private keys as text, and private keys as the bytes inside that text.
#![no_main]

use ciruela::format::ssh::{
    inspect_private, parse_authorized_keys, parse_private, public_key_blob, public_key_line, public_key_of_blob,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(keys) = parse_authorized_keys("fuzz", text)
    {
        // What was read can be written and read again.
        for named in keys {
            let line = public_key_line(&named.key, "");
            let again = parse_authorized_keys("fuzz", &line).expect("our own line");
            assert_eq!(again[0].key, named.key);
        }
    }
    if let Some(key) = public_key_of_blob(data) {
        assert_eq!(public_key_blob(&key), data);
    }
    private(data);
    // Reaching the parser behind base64 takes too much luck otherwise.
    let magic: &[u8] = b"openssh-key-v1\0";
    private(
        format!(
            "-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n",
            base64(&[magic, data].concat())
        )
        .as_bytes(),
    );
});

fn private(text: &[u8]) {
    // No passphrase: deriving a key takes up to a minute.
    if let Ok(secret) = parse_private(text, None) {
        let info = inspect_private(text).expect("it could be parsed");
        assert!(!info.encrypted && info.key == secret.public_key());
        let again = secret.to_openssh("fuzz").expect("text");
        assert_eq!(parse_private(again.as_bytes(), None).expect("our own text").public_key(), info.key);
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for index in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
