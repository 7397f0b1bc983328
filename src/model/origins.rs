//! Where a node had the bytes of an image from.

use super::limits;

/// The way that bytes came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Files of a directory of the host, by sharing inodes or extents.
    Linked,
    /// Blocks of files of a directory of the host.
    Copied,
    /// From a client, over the network.
    Client,
    /// From another node, over the network.
    Node,
}

impl Way {
    const ALL: [Self; 4] = [Self::Linked, Self::Copied, Self::Client, Self::Node];

    /// On the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Linked => "linked",
            Self::Copied => "copied",
            Self::Client => "client",
            Self::Node => "node",
        }
    }

    /// The inverse of [`Self::name`].
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// Whether it leads over the network.
    pub const fn is_fetched(self) -> bool {
        matches!(self, Self::Client | Self::Node)
    }
}

/// Bytes of an image that came one way from one source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supply {
    /// How.
    pub way: Way,
    /// The path of the directory, or the address of the client or node.
    pub from: Box<str>,
    /// How many.
    pub bytes: u64,
}

/// Few enough for a report: of each way those which gave most, and all others as one without a name.
pub fn folded(sources: &[Supply]) -> Vec<Supply> {
    let mut folded = Vec::new();
    for way in Way::ALL {
        let mut supplies: Vec<_> = sources.iter().filter(|supply| supply.way == way).cloned().collect();
        supplies.sort_by_key(|supply| std::cmp::Reverse(supply.bytes));
        let rest = supplies.split_off(supplies.len().min(limits::SUPPLIES_NAMED_MAX));
        let others = rest.iter().map(|supply| supply.bytes).sum();
        supplies.extend((!rest.is_empty()).then(|| Supply { way, from: "".into(), bytes: others }));
        folded.extend(supplies);
    }
    folded
}

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
