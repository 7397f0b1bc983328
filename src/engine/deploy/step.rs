//! The steps of a deployment.

use std::sync::Arc;

use crate::format::record::{CommittedRecord, IntentRecord};
use crate::model::block_set::BlockSet;
use crate::model::disk_task::{Previous, Target};
use crate::model::image::Image;

/// The steps, in order, each with what it needs to begin again.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// A crash may have interrupted a swap: where is the tree now?
    Recover(IntentRecord),
    /// What is visible at the path now?
    Check,
    /// Get the index. `found`: what is there and isn't known to be ours.
    Index { found: Option<Target> },
    /// Something is there that this node didn't commit: is it the very image?
    Adopt { image: Arc<Image> },
    /// Make or resume the staged tree.
    Stage { image: Arc<Image> },
    /// Throw a staged tree away that can't be trusted, then stage.
    Discard { image: Arc<Image> },
    /// There is no room: what is only kept for convenience goes, then that step begins again.
    Forgo { then: Box<Step> },
    /// Get the blocks; these files are linked.
    Fetch { image: Arc<Image>, linked: Arc<BlockSet> },
    /// Make the staged tree durable.
    Seal { image: Arc<Image>, linked: Arc<BlockSet>, fetched: u64 },
    /// What is visible just before the swap decides how to swap.
    Aim { committed: CommittedRecord },
    /// Write down what will be swapped.
    Intend { intent: IntentRecord },
    /// Make it visible.
    Swap { intent: IntentRecord },
    /// Write down that it is visible.
    Record { committed: CommittedRecord },
    /// Remove what the swap left behind, or set it aside. The deployment is reported already.
    Collect { previous: Previous },
}

impl Step {
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Recover(_) => "recover",
            Self::Check => "check",
            Self::Index { .. } => "index",
            Self::Adopt { .. } => "adopt",
            Self::Stage { .. } | Self::Discard { .. } | Self::Forgo { .. } => "stage",
            Self::Fetch { .. } => "fetch",
            Self::Seal { .. } => "seal",
            Self::Aim { .. } | Self::Intend { .. } => "intend",
            Self::Swap { .. } => "swap",
            Self::Record { .. } => "record",
            Self::Collect { .. } => "collect",
        }
    }

    /// Whether a newer order may drop what this step does: not from the intent on.
    pub(super) const fn abandonable(&self) -> bool {
        !matches!(
            self,
            Self::Recover(_) | Self::Intend { .. } | Self::Swap { .. } | Self::Record { .. } | Self::Collect { .. }
        )
    }

    /// Whether every block is stored.
    pub(super) const fn has_all_blocks(&self) -> bool {
        match self {
            Self::Seal { .. }
            | Self::Aim { .. }
            | Self::Intend { .. }
            | Self::Swap { .. }
            | Self::Record { .. }
            | Self::Collect { .. } => true,
            Self::Recover(_)
            | Self::Check
            | Self::Index { .. }
            | Self::Adopt { .. }
            | Self::Stage { .. }
            | Self::Discard { .. }
            | Self::Forgo { .. }
            | Self::Fetch { .. } => false,
        }
    }
}
