//! Asks every machine that the entry points lead to, and all that those name.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use tokio::task::JoinSet;

use crate::client::status::gather::{Gathered, gather};
use crate::client::sync::Plan;
use crate::driver::clock;
use crate::driver::plan_loop::{Asking, Indexes};
use crate::driver::upload_loop::Sign;
use crate::engine::upload::signed_again;
use crate::format::wire::PlanAnswer;
use crate::model::change::{Change, SignedChange};
use crate::model::ids::ImageId;
use crate::model::limits;
use crate::model::peer::Host;

/// All that was answered.
pub(super) struct Asked {
    /// One for each machine that carries one of the directories, or can't be asked.
    pub(super) nodes: Vec<Node>,
    /// Names that weren't found, and why.
    pub(super) unresolved: Vec<(String, String)>,
    /// Machines beyond the bound.
    pub(super) left_out: usize,
    /// Paths which no machine that was reached carries.
    pub(super) homeless: Vec<usize>,
}

/// One for each wish; `None`: the machine doesn't carry that directory.
pub(super) type Answers = Vec<Option<Result<PlanAnswer, String>>>;

/// A machine.
pub(super) struct Node {
    pub(super) cluster: usize,
    pub(super) address: SocketAddr,
    pub(super) hostname: Option<String>,
    /// Who it is, and what it answers; or why it can't be asked.
    pub(super) result: Result<(Host, Answers), String>,
}

/// Asks the machines of all clusters, a few at a time.
pub(super) async fn ask_all(
    plan: &Plan,
    images: &[ImageId],
    indexes: Indexes,
    sign: Sign,
) -> Result<Asked, anyhow::Error> {
    let changes = signed(plan, images, &sign).await?;
    let mut asked = Asked { nodes: Vec::new(), unresolved: Vec::new(), left_out: 0, homeless: Vec::new() };
    let mut carried = BTreeSet::new();
    for (cluster, names) in plan.spread.clusters.iter().enumerate() {
        let gathered = gather(names, plan.spread.port).await;
        let found = machines(gathered, plan, &mut asked.unresolved);
        asked.left_out += found.len().saturating_sub(limits::PLAN_NODES_MAX);
        let mut waiting = found.into_iter().take(limits::PLAN_NODES_MAX);
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < limits::PLANS_ASKED_AT_ONCE_MAX
                && let Some((address, hostname, page)) = waiting.next()
            {
                let (changes, indexes, sign) = (changes.clone(), indexes.clone(), sign.clone());
                under_way.spawn(async move {
                    let result = match page {
                        Ok(carries) => ask(address, &carries, &changes, indexes, sign).await,
                        Err(reason) => Err(reason),
                    };
                    Node { cluster, address, hostname, result }
                });
            }
            let Some(node) = under_way.join_next().await else { break };
            let Ok(node) = node else { continue };
            if let Ok((_, answers)) = &node.result {
                carried.extend(answers.iter().enumerate().filter(|(_, one)| one.is_some()).map(|(wish, _)| wish));
            }
            asked.nodes.push(node);
        }
    }
    asked.nodes.sort_by(|a, b| (a.cluster, &a.hostname, a.address).cmp(&(b.cluster, &b.hostname, b.address)));
    asked.homeless = (0..plan.wishes.len()).filter(|wish| !carried.contains(wish)).collect();
    Ok(asked)
}

type Found = (SocketAddr, Option<String>, Result<Vec<bool>, String>);

/// The machines to be asked, each once, and which of the wishes' directories they carry.
fn machines(gathered: Gathered, plan: &Plan, unresolved: &mut Vec<(String, String)>) -> Vec<Found> {
    unresolved.extend(gathered.unresolved);
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for (address, page) in gathered.answers {
        match page {
            Ok(page) => {
                let carries = |key: &str| page.directories.iter().any(|directory| directory == key);
                let carries: Vec<_> = plan.wishes.iter().map(|wish| carries(wish.path.key())).collect();
                if carries.contains(&true) && told.insert((page.machine_id.clone(), page.hostname.clone())) {
                    found.push((address, Some(page.hostname), Ok(carries)));
                }
            }
            Err(reason) => found.push((address, None, Err(reason))),
        }
    }
    found
}

/// The questions, each signed once: somebody may have to be asked for a signature.
async fn signed(plan: &Plan, images: &[ImageId], sign: &Sign) -> Result<Arc<Vec<SignedChange>>, anyhow::Error> {
    let cluster = plan.spread.rules.cluster.clone();
    let change = |(wish, image): (&crate::client::sync::Wish, &ImageId)| Change {
        cluster: cluster.clone(),
        verb: wish.verb,
        path: wish.path.clone(),
        image: Some(*image),
        old_image: wish.old_image,
        stamp: clock::stamp(),
    };
    let mut changes = Vec::new();
    for change in plan.wishes.iter().zip(images).map(change) {
        changes.push(sign_one(sign, change).await.map_err(|reason| anyhow!("not signed: {reason}"))?);
    }
    Ok(Arc::new(changes))
}

async fn sign_one(sign: &Sign, change: Change) -> Result<SignedChange, String> {
    let sign = sign.clone();
    let signing = tokio::task::spawn_blocking(move || sign(&change)).await;
    signing.map_err(|error| error.to_string())?.result
}

async fn ask(
    address: SocketAddr,
    carries: &[bool],
    changes: &[SignedChange],
    indexes: Indexes,
    sign: Sign,
) -> Result<(Host, Answers), String> {
    let mut asking = Asking::open(address, indexes).await?;
    let mut answers = Vec::new();
    for (change, carries) in changes.iter().zip(carries) {
        let answer = if *carries { Some(ask_one(&mut asking, change.clone(), &sign).await) } else { None };
        answers.push(answer);
    }
    Ok((asking.host.clone(), answers))
}

/// Asks as `sync` submits: a change that has to say more is signed again.
async fn ask_one(asking: &mut Asking, mut change: SignedChange, sign: &Sign) -> Result<PlanAnswer, String> {
    let mut answer = asking.ask(change.clone()).await?;
    for _ in 0..limits::SIGN_AGAIN_MAX {
        let Some(again) = signed_again(&change.change, &answer.answer, clock::stamp()) else { break };
        change = sign_one(sign, again).await?;
        answer = asking.ask(change.clone()).await?;
    }
    Ok(answer)
}
