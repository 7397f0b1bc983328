//! Who supplied bytes of an image, in reports and messages: `[way, from, bytes]`.

use super::cbor::{self, CborError, Reader};
use crate::model::limits;
use crate::model::origins::{Supply, Way};

/// Appends those of the list which leave it within `room` bytes.
pub(super) fn put_all(out: &mut Vec<u8>, supplies: &[Supply], room: usize) {
    let mut items = Vec::new();
    let mut count = 0;
    for supply in supplies.iter().take(limits::SUPPLIES_MAX) {
        let before = items.len();
        put(&mut items, supply);
        if items.len() + HEAD > room {
            items.truncate(before);
        } else {
            count += 1;
        }
    }
    cbor::put_array(out, count);
    out.extend(items);
}

/// Of an array of at most [`limits::SUPPLIES_MAX`] items.
const HEAD: usize = 2;

fn put(out: &mut Vec<u8>, supply: &Supply) {
    cbor::put_array(out, 3);
    cbor::put_text(out, supply.way.name());
    let from = &*supply.from;
    cbor::put_text(out, &from[..from.floor_char_boundary(limits::SUPPLIER_BYTES_MAX)]);
    cbor::put_uint(out, supply.bytes);
}

/// The inverse of [`put_all`]. Ways that aren't known are left out.
pub(super) fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Supply>, CborError> {
    let mut supplies = Vec::new();
    for _ in 0..reader.array(limits::SUPPLIES_MAX)? {
        if reader.array(3)? != 3 {
            return Err(reader.error("a supply that doesn't have three items"));
        }
        let way = Way::of(reader.text(limits::WORD_BYTES_MAX)?);
        let from = reader.text(limits::SUPPLIER_BYTES_MAX)?.into();
        let bytes = reader.uint()?;
        supplies.extend(way.map(|way| Supply { way, from, bytes }));
    }
    Ok(supplies)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    pub(in crate::format) fn supplies() -> impl Strategy<Value = Vec<Supply>> {
        let ways = vec![Way::Linked, Way::Copied, Way::Client, Way::Node];
        let supply = (select(ways), "[/a-zé0-9.:]{0,30}", any::<u64>()).prop_map(|(way, from, bytes)| Supply {
            way,
            from: from.into(),
            bytes,
        });
        vec(supply, 0..5)
    }

    proptest! {
        #[test]
        fn as_many_as_there_is_room_for(supplies in supplies(), room in HEAD..200_usize) {
            let mut out = Vec::new();
            put_all(&mut out, &supplies, room);
            prop_assert!(out.len() <= room);
            let read = read_all(&mut Reader::new(&out)).expect("an array");
            prop_assert!(read.iter().all(|supply| supplies.contains(supply)));
            if room == 199 && supplies.len() < 4 {
                prop_assert_eq!(read, supplies);
            }
        }
    }

    #[test]
    fn long_names_are_cut() {
        let mut out = Vec::new();
        put_all(&mut out, &[Supply { way: Way::Linked, from: "/é".repeat(4_000).into(), bytes: 1 }], 1_000);
        let read = read_all(&mut Reader::new(&out)).expect("an array");
        assert!(read[0].from.starts_with("/é/é") && read[0].from.len() <= limits::SUPPLIER_BYTES_MAX);
    }
}
