//! Which image it is: most of the nodes that were asked decide.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::nodes::key_of;
use super::{Answer, Download, Effect, Event, Failure, Phase};
use crate::engine::contract::Outbox;
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

impl Download {
    /// Decides once everybody who was asked has answered.
    pub(super) fn decide(&mut self, outbox: &mut Outbox<Effect>) {
        let looking = |node: &super::Node| node.link == super::nodes::Link::Looking;
        if !self.resolving.is_empty() || self.nodes.values().any(looking) {
            return;
        }
        match self.elect() {
            Err(failure) => self.finish(Err(failure), outbox),
            Ok(chosen) => {
                if self.carriers().any(|(_, node)| node.there.as_ref() != Some(&chosen)) {
                    let answers = self.answers();
                    outbox.push(Effect::Event(Event::Differ { chosen: chosen.clone(), answers }));
                }
                let (path, id) = chosen;
                self.phase = Phase::Index { path, id, from: None, text: Vec::new() };
                let all: Vec<SocketAddr> = self.nodes.keys().copied().collect();
                for address in all {
                    self.connect_if_useful(address, outbox);
                }
            }
        }
    }

    fn elect(&self) -> Result<(VPath, ImageId), Failure> {
        if self.nodes.values().all(super::Node::is_gone) {
            return Err(Failure::Unreachable(self.troubles()));
        }
        let names = |nodes: &mut dyn Iterator<Item = (SocketAddr, &super::Node)>| {
            nodes.map(|(address, node)| node.name(address)).collect::<Vec<_>>()
        };
        if self.carriers().next().is_none() {
            let key = key_of(&self.wanted.path).to_owned();
            let mut there =
                self.nodes.iter().filter(|(_, node)| !node.is_gone()).map(|(address, node)| (*address, node));
            return Err(Failure::NotCarried { key, asked: names(&mut there) });
        }
        let mut votes = BTreeMap::<_, usize>::new();
        for (_, node) in self.carriers() {
            if let Some(there) = &node.there {
                *votes.entry(there.clone()).or_default() += 1;
            }
        }
        if votes.is_empty() {
            let asked = names(&mut self.carriers());
            return Err(Failure::NothingThere { path: self.wanted.path.to_string(), asked });
        }
        if let Some(image) = self.wanted.image {
            votes.retain(|(_, id), _| *id == image);
            let no_such = || Failure::NoSuchImage { image, answers: self.answers() };
            return votes.into_keys().next().ok_or_else(no_such);
        }
        let most = votes.values().copied().max().unwrap_or(0);
        let mut first = votes.into_iter().filter(|(_, count)| *count == most).map(|(there, _)| there);
        match (first.next(), first.next()) {
            (Some(chosen), None) => Ok(chosen),
            _ => Err(Failure::Disagree(self.answers())),
        }
    }

    /// Nodes that answered and are configured for the directory.
    fn carriers(&self) -> impl Iterator<Item = (SocketAddr, &super::Node)> {
        let nodes = self.nodes.iter().filter(|(_, node)| !node.is_gone() && node.carries);
        nodes.map(|(address, node)| (*address, node))
    }

    fn answers(&self) -> Vec<Answer> {
        let answer = |(address, node): (SocketAddr, &super::Node)| Answer {
            node: node.name(address),
            there: node.there.as_ref().map(|(path, id)| (path.to_string(), *id)),
        };
        self.carriers().map(answer).collect()
    }

    /// What didn't work, and why.
    pub(super) fn troubles(&self) -> Vec<(String, String)> {
        let names = self.unresolved.iter().map(|(name, reason)| (name.clone(), reason.clone()));
        let nodes = self.nodes.iter();
        let nodes = nodes.filter_map(|(address, node)| Some((node.name(*address), node.trouble()?.to_owned())));
        names.chain(nodes).collect()
    }
}
