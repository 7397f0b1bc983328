//! The opening handshake of RFC 6455, section 4, as far as it isn't plain HTTP.

use std::hash::{BuildHasher, RandomState};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use sha1_smol::Sha1;

/// Section 1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A `Sec-WebSocket-Key`: 16 bytes that are others each time.
pub(super) fn new_key() -> String {
    let state = RandomState::new();
    STANDARD.encode([state.hash_one(0), state.hash_one(1)].map(u64::to_ne_bytes).concat())
}

/// The `Sec-WebSocket-Accept` for a key.
pub(super) fn accept_key(key: &[u8]) -> String {
    let mut hash = Sha1::from(key);
    hash.update(GUID);
    STANDARD.encode(hash.digest().bytes())
}

/// The answer that switches protocols; `None`: the request is no handshake.
pub(super) fn answer<B, T: Default>(request: &Request<B>) -> Option<Response<T>> {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?.as_bytes();
    let is_handshake = request.method() == Method::GET
        && request.version() >= Version::HTTP_11
        && has_word(headers, header::CONNECTION, "upgrade")
        && has_word(headers, header::UPGRADE, "websocket")
        && headers.get(header::SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13")
        && STANDARD.decode(key).is_ok_and(|key| key.len() == 16);
    let mut answer = is_handshake.then(|| Response::new(T::default()))?;
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let accept = HeaderValue::try_from(accept_key(key)).ok()?;
    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    answer.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    answer.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    Some(answer)
}

/// Whether a header's list has a word, however it is written.
fn has_word(headers: &HeaderMap, name: HeaderName, word: &str) -> bool {
    let lists = headers.get_all(name).into_iter().filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

    use super::*;

    #[test]
    fn keys_are_accepted_as_others_do() {
        // Section 1.3.
        assert_eq!(accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let keys = [new_key(), new_key()];
        assert_ne!(keys[0], keys[1]);
        for key in keys {
            assert_eq!((key.len(), accept_key(key.as_bytes())), (24, derive_accept_key(key.as_bytes())));
        }
    }
}
