//! An index text that isn't kept, but printed part by part when it is asked for: the image says all that is in it.

use std::sync::Arc;

use super::emit::{
    HASH_BYTES, directory_bytes, emit, entry_bytes, footer, hash_text, header, id_of, push_directory, push_entry,
};
use crate::model::ids::{BlockHash, ImageId};
use crate::model::image::Image;

/// Bytes of text from one mark to the next, at least.
const MARK_BYTES: u64 = 64 << 10;

/// The index text of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexText {
    image: Arc<Image>,
    id: ImageId,
    /// Where some of the lines begin, ascending; the first directory's is the first.
    marks: Vec<Mark>,
    len: u64,
}

/// A line of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: u64,
    directory: u32,
    /// 0: that of the directory itself.
    line: u32,
}

impl IndexText {
    /// Hashes the text, for the id.
    pub fn of(image: Arc<Image>) -> Self {
        let id = id_of(&image);
        let mut marks = Vec::<Mark>::new();
        let mut offset = header(&image).len() as u64;
        let mut mark = |directory, line, offset| {
            if marks.last().is_none_or(|last| offset - last.offset >= MARK_BYTES) {
                marks.push(Mark { offset, directory, line });
            }
        };
        for (number, directory) in (0..).zip(image.directories()) {
            mark(number, 0, offset);
            offset += directory_bytes(directory);
            for (line, entry) in (1..).zip(&directory.entries) {
                mark(number, line, offset);
                offset += entry_bytes(entry);
            }
        }
        let len = offset + footer(id).len() as u64;
        Self { image, id, marks, len }
    }

    /// The image's id.
    pub fn id(&self) -> ImageId {
        self.id
    }

    /// Bytes of the whole text.
    #[expect(clippy::len_without_is_empty, reason = "it has a header at least")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// The whole text.
    pub fn to_vec(&self) -> Vec<u8> {
        emit(&self.image).1
    }

    /// At most `len` bytes from `offset` on: fewer where the text ends.
    pub fn part(&self, offset: u64, len: usize) -> Vec<u8> {
        let end = self.len.min(offset.saturating_add(len as u64));
        let mut window = Window { from: offset, to: end, at: 0, out: Vec::new() };
        if offset >= end {
            return window.out;
        }
        window.out.reserve_exact(len.min(usize::try_from(end - offset).unwrap_or(len)));
        let Some(mark) = self.marks.partition_point(|mark| mark.offset <= offset).checked_sub(1) else {
            window.put(header(&self.image).as_bytes());
            self.print(&mut window, self.marks.first());
            return window.out;
        };
        self.print(&mut window, self.marks.get(mark));
        window.out
    }

    /// Prints all from the mark on, as far as it is in the window.
    fn print(&self, window: &mut Window, from: Option<&Mark>) {
        let Some(Mark { offset, directory: first, line }) = from.copied() else { return };
        window.at = offset;
        let mut skipped = line as usize;
        let mut text = Vec::new();
        for directory in self.image.directories().iter().skip(first as usize) {
            if skipped == 0 {
                push_directory(&mut text, directory);
            }
            for entry in directory.entries.iter_from(skipped.saturating_sub(1)) {
                if window.is_full() {
                    return;
                }
                let hashes = push_entry(&mut text, &self.image, directory, entry);
                window.put(&text);
                window.put_hashes(hashes);
                text.clear();
                text.push(b'\n');
            }
            window.put(&text);
            text.clear();
            skipped = 0;
        }
        window.put(footer(self.id).as_bytes());
    }
}

/// Keeps of a text that goes by what is from one place to another.
struct Window {
    from: u64,
    to: u64,
    at: u64,
    out: Vec<u8>,
}

impl Window {
    fn is_full(&self) -> bool {
        self.at >= self.to
    }

    fn put(&mut self, text: &[u8]) {
        let within =
            |place: u64| usize::try_from(place.saturating_sub(self.at)).map_or(text.len(), |n| n.min(text.len()));
        self.out.extend_from_slice(&text[within(self.from)..within(self.to)]);
        self.at += text.len() as u64;
    }

    /// What comes before the window isn't printed: a file may have millions.
    fn put_hashes(&mut self, hashes: &[BlockHash]) {
        let before = self.from.saturating_sub(self.at) / HASH_BYTES as u64;
        let before = usize::try_from(before).map_or(hashes.len(), |before| before.min(hashes.len()));
        self.at += (before * HASH_BYTES) as u64;
        for (number, hash) in hashes.iter().enumerate().skip(before) {
            if self.is_full() {
                self.at += ((hashes.len() - number) * HASH_BYTES) as u64;
                return;
            }
            self.put(&hash_text(hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_kind::HashKind;
    use crate::model::image::{ImageBuilder, blocks_of};
    use crate::model::limits::BLOCK_BYTES;

    /// Of many marks, some of them in directories with many files, and a line that is longer than what is between two.
    fn image() -> Image {
        let mut builder = ImageBuilder::new(HashKind::Blake3);
        let mut number = 0_u32;
        let mut file = |builder: &mut ImageBuilder, name: &str, blocks: u64| {
            let size = (blocks * BLOCK_BYTES as u64).saturating_sub(u64::from(number % 900));
            let hashes = (0..blocks_of(size)).map(|_| {
                number += 1;
                BlockHash::new(std::array::from_fn(|at| number.to_le_bytes()[at % 4]))
            });
            let hashes: Vec<_> = hashes.collect();
            builder.file(name, number.is_multiple_of(3), size, &hashes).expect("added");
        };
        for directory in ["", "a", "a/b c", "d"] {
            builder.directory(directory).expect("added");
            for name in 0..800 {
                file(&mut builder, &format!("{name:04} \u{fc}"), name % 4);
            }
            builder.symlink("link", "../\\").expect("added");
            file(&mut builder, "long", if directory == "a" { 3_000 } else { 1 });
        }
        builder.directory("e").expect("added");
        builder.finish().expect("an image")
    }

    #[test]
    fn any_part_is_that_of_the_text() {
        let image = Arc::new(image());
        let (id, expected) = emit(&image);
        let text = IndexText::of(image);
        assert_eq!((text.id(), text.len()), (id, expected.len() as u64));
        assert!(text.marks.len() > 5 && text.to_vec() == expected);
        for len in [4_099, 65_536, 1 << 20, expected.len(), usize::MAX] {
            for start in (0..expected.len()).step_by(9_973) {
                let end = expected.len().min(start.saturating_add(len));
                assert!(text.part(start as u64, len) == expected[start..end], "{len} bytes from {start}");
            }
        }
        let marks = text.marks.iter().flat_map(|mark| [mark.offset - 1, mark.offset, mark.offset + 1]);
        for offset in marks.chain([0, text.len() - 66, text.len() - 65, text.len() - 1]) {
            let start = usize::try_from(offset).expect("small");
            let end = expected.len().min(start + 200);
            assert!(text.part(offset, 200) == expected[start..end], "from {offset}");
        }
        assert!(text.part(text.len(), 1).is_empty() && text.part(u64::MAX, usize::MAX).is_empty());
    }
}
