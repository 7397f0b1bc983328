//! Rows there and back, and damaged ones.

use proptest::prelude::*;

use super::*;
use crate::model::origins::Origins;

fn head() -> HeadRecord {
    let change = Change {
        cluster: Some("prod".into()),
        verb: Verb::Replace,
        path: "/key/a/ü".parse().expect("valid"),
        image: Some(ImageId::new([1; 32])),
        old_image: None,
        stamp: Stamp(u64::MAX),
    };
    let signature = |n, scheme, key| Signature { scheme, key, bytes: SignatureBytes([n; 64]) };
    let signatures = vec![signature(1, Scheme::V2, Some(PublicKey([9; 32]))), signature(2, Scheme::Legacy, None)];
    HeadRecord { change: SignedChange::new(change, signatures), admitted: Stamp(17), before: None, cleaned: false }
}

fn committed(fingerprints: Vec<Fingerprint>) -> CommittedRecord {
    CommittedRecord {
        change: ChangeId::new([1; 32]),
        image: ImageId::new([2; 32]),
        root: FileIdentity { dev: 1, ino: u64::MAX },
        bytes: Origins { linked: 3, copied: 4, kept: 5, fetched: 1 << 40 },
        fingerprints: fingerprints.into(),
        previous: None,
    }
}

/// With what it took the place of.
fn replaced() -> CommittedRecord {
    let previous = Some((ImageId::new([3; 32]), FileIdentity { dev: 2, ino: 9 }));
    CommittedRecord { previous, ..committed(vec![Fingerprint { ino: 7, size: 8, mtime_ns: -9, ctime_ns: 10 }]) }
}

fn intent() -> IntentRecord {
    IntentRecord {
        committed: committed(vec![Fingerprint { ino: 7, size: 8, mtime_ns: -9, ctime_ns: 10 }]),
        exchange: true,
    }
}

#[test]
fn round_trips() {
    assert_eq!(HeadRecord::decode(&head().encode()), Ok(head()));
    assert_eq!(IntentRecord::decode(&intent().encode()), Ok(intent()));
    let delete = HeadRecord {
        change: SignedChange::new(
            Change { cluster: None, verb: Verb::Delete, image: None, ..head().change.change },
            Vec::new(),
        ),
        admitted: Stamp(0),
        before: None,
        cleaned: false,
    };
    assert_eq!(HeadRecord::decode(&delete.encode()), Ok(delete.clone()));
    let after = HeadRecord { before: Some(Box::new(head())), ..delete };
    assert_eq!(HeadRecord::decode(&after.encode()), Ok(after));
    let cleaned = HeadRecord { cleaned: true, ..head() };
    assert_eq!(HeadRecord::decode(&cleaned.encode()), Ok(cleaned.clone()));
    let after = HeadRecord { before: Some(Box::new(cleaned)), ..head() };
    assert_eq!(HeadRecord::decode(&after.encode()), Ok(after));
    let empty = committed(Vec::new());
    assert_eq!(CommittedRecord::decode(&empty.encode()), Ok(empty));
    let replaced = replaced();
    assert_eq!(CommittedRecord::decode(&replaced.encode()), Ok(replaced.clone()));
    let intent = IntentRecord { committed: replaced, exchange: true };
    assert_eq!(IntentRecord::decode(&intent.encode()), Ok(intent));
}

#[test]
fn damage_is_refused() {
    let after = HeadRecord { before: Some(Box::new(head())), ..head() };
    for row in [head().encode(), after.encode(), intent().encode(), committed(Vec::new()).encode(), replaced().encode()]
    {
        let mut longer = row.clone();
        longer.push(0);
        let mut newer = row.clone();
        newer[0] = 9;
        for (bytes, error) in [(&longer[..], "more bytes"), (&newer, "version 9"), (&[], "empty")] {
            let texts = [
                HeadRecord::decode(bytes).map(|_| ()),
                IntentRecord::decode(bytes).map(|_| ()),
                CommittedRecord::decode(bytes).map(|_| ()),
            ]
            .map(|result| result.expect_err("damaged").to_string());
            assert!(texts.iter().any(|text| text.contains(error)), "{error}: {texts:?}");
        }
        for len in 0..row.len() {
            assert!(HeadRecord::decode(&row[..len]).is_err());
            assert!(IntentRecord::decode(&row[..len]).is_err());
            assert!(CommittedRecord::decode(&row[..len]).is_err());
        }
    }
}

#[test]
fn rows_keep_their_bytes() {
    // The format on disk: a change of these bytes needs a new version.
    let text = crate::model::ids::hex(&committed(Vec::new()).encode());
    let (change, image) = ("01".repeat(32), "02".repeat(32));
    let row = format!("03875820{change}5820{image}011bffffffffffffffff840304051b00000100000000000040");
    assert_eq!(text, row);
    let tail = [&[1, 0x1b][..], &[0xff; 8], &[5, 0x1b, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x40]].concat();
    let older = [&[1, 0x88, 0x58, 0x20][..], &[1; 32], &[0x58, 0x20], &[2; 32], &tail].concat();
    let older = CommittedRecord::decode(&older);
    let bytes = Origins { linked: 0, copied: 0, ..committed(Vec::new()).bytes };
    assert_eq!(older, Ok(CommittedRecord { bytes, ..committed(Vec::new()) }));
    let intent = IntentRecord { committed: committed(Vec::new()), exchange: true };
    assert_eq!(crate::model::ids::hex(&intent.encode()), format!("0182f558{:02x}{row}", row.len() / 2));
    let fingerprint = Fingerprint { ino: 64, size: 3, mtime_ns: -1, ctime_ns: 1 };
    assert_eq!(pack(&[fingerprint, fingerprint]), [0x80, 1, 6, 1, 4, 0, 0, 0, 0]);
}

#[test]
fn twenty_thousand_files_are_small() {
    let files = (0..20_000).map(|i: i64| Fingerprint {
        ino: 1_000_000 + i.cast_unsigned(),
        size: (i * 7_919 % 50_000).cast_unsigned(),
        mtime_ns: 1_790_000_000_000_000_000 + i * 33_000,
        ctime_ns: 1_790_000_000_000_000_000 + i * 33_000 + 2_500,
    });
    let row = committed(files.collect());
    let bytes = row.encode();
    assert!(bytes.len() < 20_000 * 12, "{} bytes", bytes.len());
    assert_eq!(CommittedRecord::decode(&bytes), Ok(row));
}

proptest! {
    #[test]
    fn any_fingerprints_round_trip(fields in proptest::collection::vec(any::<(u64, u64, i64, i64)>(), 0..50)) {
        let fingerprints = fields
            .into_iter()
            .map(|(ino, size, mtime_ns, ctime_ns)| Fingerprint { ino, size, mtime_ns, ctime_ns })
            .collect();
        let row = committed(fingerprints);
        prop_assert_eq!(CommittedRecord::decode(&row.encode()), Ok(row));
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&bytes);
        for bytes in [&bytes, &versioned] {
            let _ = (HeadRecord::decode(bytes), IntentRecord::decode(bytes), CommittedRecord::decode(bytes));
        }
        for count in [0, 1, 50, u64::MAX] {
            let _ = unpack(&bytes, count);
        }
    }
}
