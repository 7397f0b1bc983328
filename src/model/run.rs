//! Runs of blocks: what one `GetBlocks` asks for.

use super::image::Image;
use super::limits;

/// `count` consecutive blocks of an image, in index order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Run {
    /// The number of the first block.
    pub first: u64,
    /// How many blocks; at least one.
    pub count: u32,
}

impl Run {
    /// One past the number of the last block.
    pub fn end(&self) -> u64 {
        self.first + u64::from(self.count)
    }

    /// Block numbers.
    pub fn blocks(&self) -> std::ops::Range<u64> {
        self.first..self.end()
    }

    /// Sum of the blocks' lengths; `None` if the run goes beyond the image or is over a bound.
    pub fn bytes(&self, image: &Image) -> Option<usize> {
        if self.count == 0
            || self.count > limits::RUN_BLOCKS_MAX
            || self.first.checked_add(u64::from(self.count))? > image.block_count()
        {
            return None;
        }
        let bytes = self.blocks().map(|block| image.place(block).map_or(0, |place| place.len)).sum::<usize>();
        (bytes <= limits::RUN_BYTES_MAX).then_some(bytes)
    }
}

/// Cuts the whole image into runs of at most [`limits::RUN_BYTES_MAX`] bytes and [`limits::RUN_BLOCKS_MAX`] blocks.
pub fn runs_of(image: &Image) -> Vec<Run> {
    let mut runs = Vec::<Run>::new();
    let mut bytes = 0;
    for (block, len) in (0..).zip(image.block_lengths()) {
        match runs.last_mut() {
            Some(run) if bytes + len <= limits::RUN_BYTES_MAX as u64 && run.count < limits::RUN_BLOCKS_MAX => {
                run.count += 1;
                bytes += len;
            }
            _ => {
                runs.push(Run { first: block, count: 1 });
                bytes = len;
            }
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::hash_kind::HashKind;
    use crate::model::ids::BlockHash;
    use crate::model::image::{ImageBuilder, blocks_of};

    #[test]
    fn runs_cover_every_block_once() {
        let mut builder = ImageBuilder::new(HashKind::default());
        builder.directory("").expect("root");
        for (i, size) in [0, 1, 3_000_000, 40_000, 0, 7].into_iter().enumerate() {
            let count = usize::try_from(blocks_of(size)).expect("small");
            builder.file(&format!("f{i}"), false, size, &vec![BlockHash::new([0; 32]); count]).expect("file");
        }
        let image = builder.finish().expect("complete");
        let runs = runs_of(&image);
        assert_eq!(runs.iter().flat_map(Run::blocks).collect::<Vec<_>>(), (0..image.block_count()).collect::<Vec<_>>());
        assert_eq!(
            runs.iter().map(|run| run.bytes(&image).expect("in bounds") as u64).sum::<u64>(),
            image.total_bytes()
        );
        assert_eq!(Run { first: image.block_count(), count: 1 }.bytes(&image), None);
        assert_eq!(Run { first: u64::MAX, count: 2 }.bytes(&image), None);
    }
}
