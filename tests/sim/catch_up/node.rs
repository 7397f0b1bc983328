//! A node with nothing but heads, access and catch-up. Writes take time, and one that goes off forgets what wasn't written.

use std::collections::BTreeMap;
use std::sync::Arc;

use ciruela::engine::access::{self, Decision, Head};
use ciruela::engine::catch_up::{CatchUp, Effect, Input};
use ciruela::engine::contract::{Engine, Outbox};
use ciruela::format::change;
use ciruela::format::ssh::SecretKey;
use ciruela::format::wire::{ProposalVerdict, VerdictWord};
use ciruela::model::change::SignedChange;
use ciruela::model::directory::{DirectoryConfig, NodeConfig};
use ciruela::model::ids::MachineId;
use ciruela::model::key::NamedKey;
use ciruela::model::peer::NodeId;
use ciruela::model::time::Now;
use ciruela::model::verdict::Verdict;
use ciruela::model::vpath::VPath;

/// One directory that only grows, and one whose paths are replaced.
pub(super) const DIRECTORIES: [&str; 2] = ["append", "replace"];

pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) up: bool,
    pub(super) catch_up: CatchUp,
    /// What holds, written or not yet.
    heads: BTreeMap<VPath, SignedChange>,
    /// What was written.
    pub(super) durable: BTreeMap<VPath, SignedChange>,
    config: Arc<NodeConfig>,
}

pub(super) fn secret() -> SecretKey {
    SecretKey::from_seed(&[7; 32])
}

pub(super) fn config() -> Arc<NodeConfig> {
    let directory = |name: &str| DirectoryConfig {
        append_only: name == "append",
        upload_keys: vec!["ci".into()],
        ..DirectoryConfig::plain(name, format!("/srv/{name}"))
    };
    let key = NamedKey { key: secret().public_key(), name: "ci".into() };
    Arc::new(NodeConfig {
        directories: DIRECTORIES.iter().map(|name| ((*name).into(), Arc::new(directory(name)))).collect(),
        keys: [("ci".into(), vec![key])].into(),
        ..NodeConfig::default()
    })
}

impl Node {
    pub(super) fn new(number: u8, config: Arc<NodeConfig>) -> Self {
        let machine_id = MachineId::new([number; 16]);
        Self {
            id: NodeId { address: ([10, 0, 0, number], 24_783).into(), machine_id, incarnation: 1 },
            up: true,
            catch_up: CatchUp::default(),
            heads: BTreeMap::new(),
            durable: BTreeMap::new(),
            config,
        }
    }

    pub(super) fn tell(&mut self, now: Now, input: Input) -> Outbox<Effect> {
        let mut outbox = Outbox::new();
        self.catch_up.handle(now, input, &mut outbox);
        outbox
    }

    /// A client's change: what is to be written, if it is accepted.
    pub(super) fn submit(&mut self, now: Now, signed: &SignedChange) -> Option<SignedChange> {
        let decision = access::decide(signed, &self.config, None, head(&self.heads, signed), now.stamp);
        self.take(decision)
    }

    /// A change of another node: the verdict, and what is to be written.
    pub(super) fn decide(&mut self, now: Now, signed: &SignedChange) -> (ProposalVerdict, Option<SignedChange>) {
        if let Some(reason) = self.catch_up.withdrawn(change::id(&signed.change)) {
            let reason = Some(reason.to_owned());
            return (ProposalVerdict { verdict: VerdictWord::Refused, reason, newer: None }, None);
        }
        let decision = access::decide_from_node(signed, &self.config, None, head(&self.heads, signed), now.stamp);
        let (verdict, newer) = match &decision.verdict {
            Verdict::Accept => (VerdictWord::Accept, None),
            Verdict::Have => (VerdictWord::Have, None),
            Verdict::Superseded(newer) => (VerdictWord::Superseded, Some((**newer).clone())),
            Verdict::Refused(_) => (VerdictWord::Refused, None),
        };
        let reason = decision.verdict.reject_word().map(str::to_owned);
        (ProposalVerdict { verdict, reason, newer }, self.take(decision))
    }

    fn take(&mut self, decision: Decision) -> Option<SignedChange> {
        let accepted = (decision.verdict == Verdict::Accept).then_some(decision.verified)?;
        self.heads.insert(accepted.change.path.clone(), accepted.clone());
        Some(accepted)
    }

    pub(super) fn get(&self, path: &VPath) -> Option<&SignedChange> {
        self.heads.get(path)
    }

    pub(super) fn written(&mut self, now: Now, changes: Vec<SignedChange>) -> Outbox<Effect> {
        let mut effects = Outbox::new();
        for signed in changes {
            let (path, id) = (signed.change.path.clone(), change::id(&signed.change));
            self.durable.insert(path.clone(), signed);
            effects.absorb(self.tell(now, Input::Head { path, change: Some(id) }), |effect| effect);
        }
        effects
    }

    /// Comes back as another start of the same node, with what was written; or with nothing: its disk was replaced.
    pub(super) fn start(&mut self, now: Now, empty: bool) {
        self.up = true;
        self.id.incarnation += 1;
        if empty {
            self.durable.clear();
        }
        self.heads = self.durable.clone();
        self.catch_up = CatchUp::default();
        for (path, signed) in &self.heads {
            let change = Some(change::id(&signed.change));
            self.catch_up.handle(now, Input::Head { path: path.clone(), change }, &mut Outbox::new());
        }
    }

    /// The rule, once more: whether one change is to be preferred to another in a path's directory.
    pub(super) fn prefers(&self, new: &SignedChange, old: &SignedChange) -> bool {
        let key = |signed: &SignedChange| (signed.change.stamp, change::id(&signed.change));
        let directory = self.config.directory_of(&new.change.path).expect("configured");
        match (directory.append_only, new.change.overrides(), old.change.overrides()) {
            (true, false, false) => key(new) < key(old),
            (true, true, false) => true,
            (true, false, true) => false,
            (true, true, true) | (false, _, _) => key(new) > key(old),
        }
    }
}

fn head<'a>(heads: &'a BTreeMap<VPath, SignedChange>, signed: &SignedChange) -> Option<Head<'a>> {
    let change = heads.get(&signed.change.path)?;
    Some(Head { change, id: change::id(&change.change), committed: true, gone: false })
}
