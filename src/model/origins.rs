//! Where a node had the bytes of an image from.

/// Bytes by their origin; together they are the image's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origins {
    /// Of files that share inodes or extents with others of the host.
    pub linked: u64,
    /// Of blocks that were copied from other files of the host.
    pub copied: u64,
    /// Staged by an earlier attempt, or visible already.
    pub kept: u64,
    /// Over the network.
    pub fetched: u64,
}

impl Origins {
    /// Bytes that were on the host already.
    pub fn reused(self) -> u64 {
        self.linked.saturating_add(self.copied).saturating_add(self.kept)
    }

    /// All of them.
    pub fn total(self) -> u64 {
        self.reused().saturating_add(self.fetched)
    }
}
