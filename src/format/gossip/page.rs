//! Pages of members, which one node gives another over a connection.

use bytes::Bytes;
use foca::Member;

use super::{GossipError, MemberId, small, swim};
use crate::format::cbor::{self, CborError, Reader};
use crate::model::limits;

/// A member and its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageEntry {
    /// Who, and how it is.
    pub member: Member<MemberId>,
    /// Its values, whole: slot, counter, bytes.
    pub values: Vec<(u32, u64, Bytes)>,
}

/// A page being filled.
#[derive(Debug, Default)]
pub struct PageWriter(Vec<u8>);

impl PageWriter {
    /// Adds a member unless the page is full. Of its values those that don't fit are left out: they are asked for later.
    pub fn push(&mut self, entry: &PageEntry) -> bool {
        let start = self.0.len();
        swim::write_member(&mut self.0, &entry.member);
        let size = |value: &(u32, u64, Bytes)| value.2.len() + 18;
        let mut room = limits::PAGE_MEMBER_BYTES_MAX;
        let fitting = entry.values.iter().take_while(|value| {
            let fits = room >= size(value);
            room = room.saturating_sub(size(value));
            fits
        });
        let fitting: Vec<_> = fitting.collect();
        cbor::put_array(&mut self.0, fitting.len());
        for (slot, counter, bytes) in fitting {
            cbor::put_uint(&mut self.0, u64::from(*slot));
            cbor::put_uint(&mut self.0, *counter);
            cbor::put_bytes(&mut self.0, bytes);
        }
        let fits = start == 0 || self.0.len() <= limits::PAGE_BYTES_MAX;
        if !fits {
            self.0.truncate(start);
        }
        fits
    }

    /// The page.
    pub fn finish(self) -> Bytes {
        self.0.into()
    }
}

/// Reads a page.
pub fn read_page(page: &[u8]) -> Result<Vec<PageEntry>, GossipError> {
    let mut reader = Reader::new(page);
    let mut entries = Vec::new();
    while reader.end().is_err() {
        entries.push(entry(&mut reader)?);
    }
    Ok(entries)
}

fn entry(reader: &mut Reader<'_>) -> Result<PageEntry, CborError> {
    let member = swim::read_member(reader)?;
    let count = reader.array(limits::WATCHES_MAX + 1)?;
    let mut values = Vec::new();
    for _ in 0..count {
        let (slot, counter) = (small(reader)?, reader.uint()?);
        values.push((slot, counter, Bytes::copy_from_slice(reader.bytes(limits::VALUE_BYTES_MAX)?)));
    }
    Ok(PageEntry { member, values })
}
