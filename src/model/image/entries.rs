//! The files and links of one directory, packed: an image may have millions.
//!
//! All names stand in one text, and what follows from other entries isn't kept: a row has 12 bytes.

use super::{Directory, FileRef, ImageError};
use crate::model::limits::{BLOCK_BYTES, INDEX_BYTES_MAX};

/// Files and links of one directory, sorted by the bytes of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entries {
    /// The name of each, a link's with its target behind.
    text: String,
    rows: Vec<Row>,
    /// The number of the first block behind them.
    end_block: u32,
    /// The number of their first block.
    first_block: u32,
}

/// A file or link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// One component, never `.` or `..`.
    pub name: &'a str,
    /// What it is.
    pub kind: EntryKind<'a>,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A regular file: `size` bytes, its hashes are `ceil(size / BLOCK_BYTES)` of the image's from `first_block` on.
    File { size: u64, executable: bool, first_block: u64 },
    /// A symbolic link.
    Symlink { target: &'a str },
}

/// What comes with a name.
#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'a> {
    File { executable: bool, size: u64 },
    Symlink { target: &'a str },
}

/// An entry; its text begins where that of the one before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    text_end: u32,
    /// Of a file: where its blocks begin, which end where the next entry's begin. Of a link: the same, as if it had none.
    first_block: u32,
    rest: Rest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// `last`: bytes of the last block, 0 if there is none.
    File { executable: bool, last: u16 },
    /// `name`: bytes of the name.
    Symlink { name: u8 },
}

impl Entries {
    pub(super) fn new(first_block: u32) -> Self {
        Self { text: String::new(), rows: Vec::new(), end_block: first_block, first_block }
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// In their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { entries: self, next: 0 }
    }

    /// Those from that number on.
    pub fn iter_from(&self, first: usize) -> Iter<'_> {
        Iter { entries: self, next: first.min(self.len()) }
    }

    /// The entry of that number.
    pub fn get(&self, at: usize) -> Option<Entry<'_>> {
        let row = self.rows.get(at)?;
        let text = &self.text[self.text_start(at)..row.text_end as usize];
        Some(match row.rest {
            Rest::File { executable, last } => {
                let end = self.rows.get(at + 1).map_or(self.end_block, |next| next.first_block);
                let whole = u64::from(end - row.first_block).saturating_sub(1);
                let size = whole * BLOCK_BYTES as u64 + u64::from(last);
                let kind = EntryKind::File { size, executable, first_block: row.first_block.into() };
                Entry { name: text, kind }
            }
            Rest::Symlink { name } => {
                let (name, target) = text.split_at(name.into());
                Entry { name, kind: EntryKind::Symlink { target } }
            }
        })
    }

    /// The one with that name.
    pub fn named(&self, name: &str) -> Option<Entry<'_>> {
        let (mut from, mut to) = (0, self.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            let entry = self.get(middle)?;
            match entry.name.as_bytes().cmp(name.as_bytes()) {
                std::cmp::Ordering::Less => from = middle + 1,
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Greater => to = middle,
            }
        }
        None
    }

    /// The number of their first block; if they have none: that which it would have.
    pub(super) fn first_block(&self) -> u64 {
        self.first_block.into()
    }

    /// The file which has that block, if it isn't before or behind them.
    pub(super) fn with_block(&self, block: u64) -> Option<Entry<'_>> {
        let at = self.rows.partition_point(|row| u64::from(row.first_block) <= block).checked_sub(1)?;
        self.get(at).filter(|_| block < u64::from(self.end_block))
    }

    pub(super) fn last(&self) -> Option<Entry<'_>> {
        self.get(self.len().checked_sub(1)?)
    }

    /// Adds one whose name is greater, and which is checked otherwise, too. `end_block`: where its blocks end.
    pub(super) fn push(&mut self, name: &str, content: Content<'_>, end_block: u32) -> Result<(), ImageError> {
        let (rest, target) = match content {
            Content::File { executable, size } => (Rest::File { executable, last: last_block_bytes(size) }, ""),
            Content::Symlink { target } => (Rest::Symlink { name: name_bytes(name) }, target),
        };
        let text_end = self.text.len() + name.len() + target.len();
        // Each byte of it is one of the index, at least.
        let Some(text_end) = u32::try_from(text_end).ok().filter(|_| text_end <= INDEX_BYTES_MAX) else {
            return Err(ImageError::TooLarge { what: "bytes of index", max: INDEX_BYTES_MAX as u64 });
        };
        self.text.push_str(name);
        self.text.push_str(target);
        self.rows.push(Row { text_end, first_block: self.end_block, rest });
        self.end_block = end_block;
        Ok(())
    }

    /// Gives back memory for more entries.
    pub(super) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.rows.shrink_to_fit();
    }

    fn text_start(&self, at: usize) -> usize {
        at.checked_sub(1).map_or(0, |before| self.rows[before].text_end as usize)
    }
}

/// Bytes of the last block of a file.
fn last_block_bytes(size: u64) -> u16 {
    let last = size.checked_sub(1).map_or(0, |before| before % BLOCK_BYTES as u64 + 1);
    u16::try_from(last).expect("the length of a block fits in 16 bits")
}

fn name_bytes(name: &str) -> u8 {
    u8::try_from(name.len()).expect("NAME_BYTES_MAX fits in 8 bits")
}

impl<'a> Entry<'a> {
    /// It with its place, if it is a file.
    pub fn file(self, directory: &'a Directory) -> Option<FileRef<'a>> {
        match self.kind {
            EntryKind::File { size, executable, first_block } => {
                Some(FileRef { directory, name: self.name, size, executable, first_block })
            }
            EntryKind::Symlink { .. } => None,
        }
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The entries of a directory, one after the other.
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    entries: &'a Entries,
    next: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let entry = self.entries.get(self.next)?;
        self.next += 1;
        Some(entry)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.entries.len() - self.next;
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_small() {
        assert_eq!(size_of::<Row>(), 12);
    }

    #[test]
    fn what_is_packed_comes_out() {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 0, 7 * BLOCK, 7 * BLOCK + 5, 0];
        let mut entries = Entries::new(3);
        let mut expected = Vec::new();
        let mut block = 3;
        for (number, size) in sizes.into_iter().enumerate() {
            let executable = number % 2 == 0;
            let end = block + u32::try_from(size.div_ceil(BLOCK)).expect("small");
            entries.push(&format!("{number}f"), Content::File { executable, size }, end).expect("added");
            expected.push((format!("{number}f"), Some((size, executable, u64::from(block))), String::new()));
            entries.push(&format!("{number}g"), Content::Symlink { target: "../é" }, end).expect("added");
            expected.push((format!("{number}g"), None, "../é".to_owned()));
            block = end;
        }
        entries.shrink();
        let found = entries.iter().map(|Entry { name, kind }| match kind {
            EntryKind::File { size, executable, first_block } => {
                (name.to_owned(), Some((size, executable, first_block)), String::new())
            }
            EntryKind::Symlink { target } => (name.to_owned(), None, target.to_owned()),
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        for (name, file, _) in &expected {
            assert_eq!(entries.named(name).map(|entry| entry.name), Some(&**name));
            for block in file.iter().flat_map(|(size, _, first)| *first..first + size.div_ceil(BLOCK)) {
                assert_eq!(entries.with_block(block).map(|entry| entry.name), Some(&**name), "block {block}");
            }
        }
        assert_eq!((entries.named(""), entries.named("0"), entries.named("9")), (None, None, None));
        assert_eq!((entries.with_block(2), entries.with_block(block.into())), (None, None));
    }
}
