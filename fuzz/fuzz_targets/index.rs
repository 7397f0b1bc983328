//! Index texts: whatever is accepted is exactly what would be printed.

#![no_main]

use ciruela::format::hash::Hasher;
use ciruela::format::index::{IndexErrorKind, emit, id_of, parse, parse_for, text_bytes};
use ciruela::model::ids::ImageId;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    check(text);
    // A fuzzer can't guess hashes: close the text with the right one and try again.
    let body_start = text.iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let (header, body) = text.split_at(body_start);
    for kind in ciruela::model::hash_kind::HashKind::ALL {
        let id = ImageId::new(Hasher::new(kind).update(body).finish());
        check(&[header, body, format!("{id}\n").as_bytes()].concat());
    }
});

fn check(text: &[u8]) {
    match parse(text) {
        Ok((id, image)) => {
            assert_eq!(emit(&image), (id, text.to_vec()));
            assert_eq!(id_of(&image), id);
            assert_eq!(text_bytes(&image), text.len() as u64);
            assert_eq!(parse_for(id, text).as_ref(), Ok(&image));
            for block in 0..image.block_count() {
                assert!(image.place(block).is_some());
            }
            for file in image.files() {
                assert_eq!(image.file(&file.directory.join(file.name)), Some(file));
            }
        }
        Err(error) => {
            assert!(error.to_string().len() < 20_000);
            if let IndexErrorKind::Footer { computed, .. } = error.kind {
                assert!(parse_for(computed, text).is_err());
            }
        }
    }
}
