//! ed25519: bytes signed and verified. Which bytes stand for a change is [`super::change`]'s.

use ed25519_dalek::{Signature, Signer, VerifyingKey};

use super::ssh::SecretKey;
use crate::model::key::{PublicKey, SignatureBytes};

/// Signs `message`. The same key and message always give the same signature.
pub fn sign(key: &SecretKey, message: &[u8]) -> SignatureBytes {
    SignatureBytes(key.0.sign(message).to_bytes())
}

/// Whether `key` signed `message`. Strict: keys and points of small order are refused, so that no signature fits two messages.
pub fn verify(key: &PublicKey, message: &[u8], signature: &SignatureBytes) -> bool {
    VerifyingKey::from_bytes(&key.0)
        .is_ok_and(|key| key.verify_strict(message, &Signature::from_bytes(&signature.0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let digits: Vec<u8> =
            hex.chars().map(|c| u8::try_from(c.to_digit(16).expect("digit")).expect("small")).collect();
        let pairs: Vec<u8> = digits.chunks(2).map(|pair| pair[0] * 16 + pair[1]).collect();
        pairs.try_into().expect("length")
    }

    /// RFC 8032, section 7.1, tests 2 and 3.
    #[test]
    fn published_vectors() {
        let cases: [(&str, &str, &[u8], &str); 2] = [
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
                 085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
            (
                "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
                &[0xaf, 0x82],
                "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                 18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
            ),
        ];
        for (seed, public, message, signature) in cases {
            let key = SecretKey::from_seed(&bytes(seed));
            assert_eq!(key.public_key(), PublicKey(bytes(public)));
            assert_eq!(sign(&key, message), SignatureBytes(bytes(signature)));
            assert!(verify(&key.public_key(), message, &SignatureBytes(bytes(signature))));
        }
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let key = SecretKey::from_seed(&[7; 32]);
        let signature = sign(&key, b"message");
        assert!(verify(&key.public_key(), b"message", &signature));
        assert!(!verify(&key.public_key(), b"messagf", &signature));
        assert!(!verify(&SecretKey::from_seed(&[8; 32]).public_key(), b"message", &signature));
        for bit in 0..512 {
            let mut wrong = signature;
            wrong.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify(&key.public_key(), b"message", &wrong), "bit {bit}");
        }
    }

    /// With the identity as key and R, and s = 0, the equation holds for every message: only the strict check refuses.
    #[test]
    fn key_of_small_order_signs_nothing() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert!(!verify(&PublicKey(identity), b"anything", &SignatureBytes(signature)));
    }
}
