//! Rows of the state database. (Stand-in until the disk branch is merged.)
use crate::model::change::SignedChange;
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::ids::{ChangeId, ImageId};
use crate::model::time::Stamp;
use crate::model::vpath::VPath;
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRecord { pub change: SignedChange, pub admitted: Stamp }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntentRecord { pub committed: CommittedRecord, pub exchange: bool }
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedRecord { pub change: ChangeId, pub image: ImageId, pub root: FileIdentity, pub bytes_reused: u64, pub bytes_fetched: u64, pub fingerprints: Vec<Fingerprint> }
#[derive(Debug, Clone)]
pub enum Row { Head { path: VPath, record: HeadRecord }, NoHead { path: VPath }, Intent { path: VPath, record: IntentRecord }, Committed { path: VPath, record: CommittedRecord } }
