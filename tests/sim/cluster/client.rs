//! A client: the upload engine, the keys, and the blocks that it serves, right or wrong.

use std::time::Duration;

use ciruela::engine::contract::{Engine, Outbox};
use ciruela::engine::upload::{Effect, Event, Input, Rules, Summary, Upload, Uploads};
use ciruela::format::ssh::SecretKey;
use ciruela::format::wire::{Message, Request, Response};
use ciruela::format::{change, index, signature};
use ciruela::model::change::{Change, SignedChange};
use ciruela::model::ids::ImageId;
use ciruela::model::key::{Scheme, Signature};

use super::machine::clock;
use crate::disk::power::Random;
use crate::disk::trees::Sample;

pub(super) struct Client {
    pub(super) engine: Uploads,
    /// The machines that its name leads to; `None`: all.
    pub(super) entries: Option<Vec<usize>>,
    pub(super) sample: Sample,
    pub(super) id: ImageId,
    index: Vec<u8>,
    secret: SecretKey,
    /// Of a thousand answers, how many are wrong.
    pub(super) lies_permille: u64,
    /// Of its rules.
    pub(super) deadline: Duration,
    pub(super) summary: Option<Summary>,
    pub(super) events: Vec<Event>,
}

/// An hour, all nodes, no early rule.
pub(super) fn patient() -> Rules {
    Rules {
        deadline: Duration::from_hours(1),
        early_timeout: None,
        early_fraction: 1.0,
        early_hosts: 1,
        require_all: true,
        initial_connections: 100,
        cluster: None,
    }
}

impl Client {
    pub(super) fn new(sample: Sample, secret: SecretKey, upload: impl FnOnce(ImageId) -> Upload, seed: u64) -> Self {
        Self::with_rules(patient(), sample, secret, upload, seed)
    }

    pub(super) fn with_rules(
        rules: Rules,
        sample: Sample,
        secret: SecretKey,
        upload: impl FnOnce(ImageId) -> Upload,
        seed: u64,
    ) -> Self {
        let (id, index) = index::emit(&sample.image);
        let deadline = rules.deadline;
        let engine = Uploads::new(vec!["cluster".to_owned()], vec![upload(id)], rules, seed);
        Self {
            engine,
            entries: None,
            sample,
            id,
            index,
            secret,
            lies_permille: 0,
            deadline,
            summary: None,
            events: Vec::new(),
        }
    }

    pub(super) fn handle(&mut self, at: Duration, input: Input, outbox: &mut Outbox<Effect>) {
        self.engine.handle(clock(at), input, outbox);
    }

    pub(super) fn sign(&self, change: Change) -> SignedChange {
        let message = change::signed_bytes(&change, Scheme::V2).expect("every change can be signed");
        let bytes = signature::sign(&self.secret, &message);
        let signature = Signature { scheme: Scheme::V2, key: Some(self.secret.public_key()), bytes };
        SignedChange::new(change, vec![signature])
    }

    /// The answer to a daemon's request.
    pub(super) fn serve(&self, id: u64, request: &Request, random: &mut Random) -> Message {
        let lies = random.below(1_000) < self.lies_permille;
        let response = match request {
            Request::GetIndexPart { id, offset } if *id == self.id => {
                let start = usize::try_from(*offset).expect("small").min(self.index.len());
                let end = self.index.len().min(start + 300);
                let data = spoil(self.index[start..end].to_vec(), lies);
                Response::GetIndexPart { data: data.into(), total: self.index.len() as u64 }
            }
            Request::GetBlocks { image, run } if *image == self.id && run.bytes(&self.sample.image).is_some() => {
                Response::GetBlocks { data: spoil(self.sample.data(*run), lies).into() }
            }
            other @ (Request::AppendDir(_)
            | Request::ReplaceDir(_)
            | Request::GetIndex { .. }
            | Request::GetIndexAt { .. }
            | Request::Node(_)
            | Request::GetBlock { .. }
            | Request::SubmitChange(_)
            | Request::Plan(_)
            | Request::GetBlocks { .. }
            | Request::GetIndexPart { .. }) => Response::Error(format!("no {other:?} here")),
        };
        Message::Response { id, response }
    }
}

/// Turns a bit of an answer, if it is to lie.
pub(super) fn spoil(mut data: Vec<u8>, lies: bool) -> Vec<u8> {
    if let (true, Some(byte)) = (lies, data.first_mut()) {
        *byte ^= 0x40;
    }
    data
}
