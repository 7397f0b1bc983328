//! Whether machines would refuse a change of a directory, whatever it is: who has edited a file should not learn that only then.
//!
//! That somebody else was faster, or that a machine has too much to do, is found out when it is published.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::WouldRefuse;
use crate::client::keys::Signer;
use crate::client::sync;
use crate::driver::plan_loop::Asking;
use crate::driver::resolve::{ResolveOptions, resolve};
use crate::driver::{clock, upload_loop::Signing};
use crate::engine::download::Found;
use crate::engine::upload::Refused;
use crate::format::wire::SubmitAnswer;
use crate::model::change::{Change, SignedChange, Verb};
use crate::model::ids::ImageId;
use crate::model::limits;

/// Words of refusals which another content or another moment wouldn't change.
const LASTING: [&str; 4] = ["signature_mismatch", "dir_is_append_only", "config_level_mismatch", "wrong_cluster"];

/// The image of a change that isn't made yet. No content has this id.
const NOT_YET: ImageId = ImageId::new([0; 32]);

/// An error if the first machine that answers would refuse to replace what was found.
pub(super) async fn check(
    (names, port): (&[String], u16),
    found: &Found,
    cluster: Option<&str>,
    signers: &[Signer],
) -> Result<(), WouldRefuse> {
    let change = Change {
        cluster: cluster.map(Into::into),
        verb: Verb::Replace,
        path: found.path.clone(),
        image: Some(NOT_YET),
        old_image: Some(found.id),
        stamp: clock::stamp(),
    };
    // What can't be signed is told when it is published.
    let Signing { result: Ok(signed), .. } = sync::sign_plan(&change, signers) else { return Ok(()) };
    let mut asked = JoinSet::new();
    for address in addresses(names, port).await {
        asked.spawn(ask(address, signed.clone()));
    }
    while let Some(answer) = asked.join_next().await {
        // Others may be able to tell; if none is, it is told when it is published.
        let Ok(Ok((address, answer))) = answer else { continue };
        let Some(word) = answer.reject_reason.clone() else { return Ok(()) };
        if word == "no_config" {
            continue;
        }
        if !LASTING.contains(&word.as_str()) {
            return Ok(());
        }
        let node = format!("{} ({address})", answer.host.hostname);
        let refusal = refusal(word, answer, &change);
        return Err(WouldRefuse(sync::explained(cluster, signers, &found.path, &node, &refusal)));
    }
    Ok(())
}

async fn ask(address: SocketAddr, signed: SignedChange) -> Result<(SocketAddr, SubmitAnswer), String> {
    let mut asking = Asking::open(address, Arc::new(BTreeMap::new())).await?;
    Ok((address, asking.ask(signed).await?.answer))
}

async fn addresses(names: &[String], port: u16) -> Vec<SocketAddr> {
    let mut all = Vec::new();
    for name in names {
        all.extend(resolve(name, port, &ResolveOptions::default()).await.unwrap_or_default());
    }
    all.truncate(limits::INITIAL_CONNECTIONS);
    all
}

fn refusal(word: String, answer: SubmitAnswer, change: &Change) -> Refused {
    Refused {
        word,
        detail: answer.detail.unwrap_or_default(),
        accepted_keys: answer.accepted_keys,
        current: answer.current,
        stamp: answer.stamp,
        signed: Some(change.stamp),
    }
}
