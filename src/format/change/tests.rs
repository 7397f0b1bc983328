//! Golden bytes written by hand from RFC 8949, properties, and what must be refused.

use proptest::prelude::*;

use super::*;
use crate::model::ids::hex;

fn change(verb: Verb) -> Change {
    Change {
        cluster: Some("prod".into()),
        verb,
        path: "/apps/web".parse().expect("valid"),
        image: (verb != Verb::Delete).then(|| ImageId::new([0x11; 32])),
        old_image: (verb == Verb::Replace).then(|| ImageId::new([0x22; 32])),
        stamp: Stamp(1_700_000_000_000),
    }
}

/// `{"path": "/apps/web", "verb": "replace", "image": h'11…', "stamp": 1700000000000, "cluster": "prod", "old_image": h'22…'}`
fn golden_replace() -> String {
    [
        "a6", // map of 6
        "64",
        "70617468", // "path"
        "69",
        "2f617070732f776562", // "/apps/web"
        "64",
        "76657262", // "verb"
        "67",
        "7265706c616365", // "replace"
        "65",
        "696d616765", // "image"
        "5820",
        &"11".repeat(32),
        "65",
        "7374616d70", // "stamp"
        "1b",
        "0000018bcfe56800", // 1700000000000
        "67",
        "636c7573746572", // "cluster"
        "64",
        "70726f64", // "prod"
        "69",
        "6f6c645f696d616765", // "old_image"
        "5820",
        &"22".repeat(32),
    ]
    .concat()
}

#[test]
fn golden_bytes() {
    assert_eq!(hex(&encode(&change(Verb::Replace))), golden_replace());
    let delete = Change { cluster: None, image: None, stamp: Stamp(0), ..change(Verb::Delete) };
    // {"path": "/apps/web", "verb": "delete", "stamp": 0}
    assert_eq!(hex(&encode(&delete)), "a36470617468692f617070732f77656264766572626664656c657465657374616d7000");
}

#[test]
fn golden_signed_bytes() {
    let replace = change(Verb::Replace);
    let v2 = signed_bytes(&replace, Scheme::V2).expect("v2 signs every change");
    assert_eq!(hex(&v2), hex(b"ciruela change v2\0") + &golden_replace());
    let legacy = signed_bytes(&replace, Scheme::Legacy).expect("has an image");
    // ["/apps/web", h'11…', 1700000000000]
    assert_eq!(hex(&legacy), format!("83692f617070732f7765625820{}1b0000018bcfe56800", "11".repeat(32)));
    assert_eq!(signed_bytes(&change(Verb::Delete), Scheme::Legacy), None);
}

#[test]
fn id_is_the_hash_of_the_encoding() {
    use blake2::Digest;
    let change = change(Verb::Append);
    let oracle = blake2::Blake2b::<blake2::digest::consts::U32>::digest(encode(&change));
    assert_eq!(id(&change).as_bytes()[..], oracle[..]);
}

#[test]
fn only_canonical_input_is_taken() {
    let good = encode(&change(Verb::Replace));
    assert_eq!(decode(&good), Ok(change(Verb::Replace)));
    for end in 0..good.len() {
        assert!(decode(&good[..end]).is_err(), "truncated to {end} bytes");
    }
    assert!(decode(&[&good[..], &[0]].concat()).is_err(), "trailing byte");
    assert!(decode(&vec![0; limits::CHANGE_BYTES_MAX + 1]).is_err());
    for (text, what) in [
        ("a364766572626664656c6574656470617468622f61657374616d7000", "keys out of order"),
        ("a36470617468622f6164766572626664656c657465657374616d701800", "a stamp that isn't shortest"),
        ("bf6470617468622f6164766572626664656c657465657374616d7000ff", "an indefinite map"),
        ("a46470617468622f6164766572626664656c657465657374616d7000657374616d7000", "a key twice"),
        ("a46470617468622f6164766572626664656c65746565696d616765f6657374616d7000", "null for an absent option"),
        ("a46470617468622f6164766572626664656c657465657374616d70006666757475726500", "an unknown key"),
        ("a26470617468622f6164766572626664656c657465", "no stamp"),
        ("a36470617468622f616476657262666465737472707a657374616d7000", "an unknown verb"),
        ("a36470617468632f2e2e64766572626664656c657465657374616d7000", "a path that escapes"),
    ] {
        let bytes: Vec<u8> = text
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect();
        assert!(decode(&bytes).is_err(), "{what} was taken");
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let id = || proptest::option::of(any::<[u8; 32]>().prop_map(ImageId::new));
    let verb = prop_oneof![Just(Verb::Append), Just(Verb::Replace), Just(Verb::Delete)];
    let cluster = proptest::option::of("[a-z]{0,20}").prop_map(|name| name.map(Into::into));
    let path = "/[a-zé]{1,9}(/[a-z.]{3,9}x){0,3}".prop_map(|path| path.parse().expect("valid"));
    (cluster, verb, path, id(), id(), any::<u64>()).prop_map(|(cluster, verb, path, image, old_image, stamp)| Change {
        cluster,
        verb,
        path,
        image,
        old_image,
        stamp: Stamp(stamp),
    })
}

proptest! {
    #[test]
    fn round_trip(change in any_change()) {
        prop_assert_eq!(decode(&encode(&change)), Ok(change));
    }

    #[test]
    fn whatever_is_taken_is_canonical(change in any_change(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = encode(&change);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(other) = decode(&bytes) {
            prop_assert_eq!(encode(&other), bytes);
        }
    }
}
