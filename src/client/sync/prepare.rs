//! What must be there before anything is sent: scanned directories and a way to sign.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;

use super::args::{Plan, Wish};
use crate::client::keys::Signer;
use crate::client::scanning::with_progress;
use crate::client::with_causes;
use crate::driver::clock::Clock;
use crate::driver::image_reader::ImageReader;
use crate::driver::scan::{ScanStats, scan};
use crate::driver::upload_loop::{Sign, Signing, Source};
use crate::format::change::{signed_bytes, signed_plan_bytes};
use crate::model::change::{Change, SignedChange};
use crate::model::escape::escaped;
use crate::model::ids::ImageId;
use crate::model::key::{Scheme, Signature};

/// A directory that was scanned.
#[derive(Debug, Clone)]
pub(in crate::client) struct Prepared {
    /// As it was named first.
    pub(in crate::client) source: String,
    /// What is in it.
    pub(in crate::client) image: ImageId,
    /// How much.
    pub(in crate::client) stats: ScanStats,
    /// How long it took.
    pub(in crate::client) took: Duration,
    /// Where it shall go.
    pub(in crate::client) wishes: Vec<Wish>,
}

/// All that was scanned.
#[derive(Debug)]
pub(in crate::client) struct Scanned {
    /// For people.
    pub(in crate::client) prepared: Vec<Prepared>,
    /// For nodes.
    pub(in crate::client) sources: Vec<Source>,
    /// The image of each wish.
    pub(in crate::client) images: Vec<ImageId>,
}

/// Scans each directory once, however it is named.
pub(super) fn scan_all(plan: &Plan, clock: Clock) -> Result<Scanned, anyhow::Error> {
    let mut prepared = Vec::<Prepared>::new();
    let (mut sources, mut images, mut known) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
    for wish in &plan.wishes {
        let real = real_path(&wish.source);
        let number = match known.get(&real) {
            Some(number) => *number,
            None => {
                let (one, source) = scan_one(wish, plan, clock)?;
                sources.insert(one.image, source);
                known.insert(real, prepared.len());
                prepared.push(one);
                prepared.len() - 1
            }
        };
        images.push(prepared[number].image);
        prepared[number].wishes.push(wish.clone());
    }
    Ok(Scanned { prepared, sources: sources.into_values().collect(), images })
}

/// One name for one directory; the scan says what is wrong with others.
fn real_path(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn scan_one(wish: &Wish, plan: &Plan, clock: Clock) -> Result<(Prepared, Source), anyhow::Error> {
    let (start, dir) = (clock.now().time, &wish.source);
    let options = plan.scan.options();
    let scanned = with_progress("indexing", |progress| scan(dir, &options, progress));
    let scanned = scanned.map_err(anyhow::Error::from);
    let read = scanned.and_then(|scan| Ok((ImageReader::new(dir.to_owned(), &scan)?, scan)));
    let (reader, scan) = read.map_err(|error| as_called(wish, error))?;
    let took = clock.now().time.since(start);
    let source = wish.called.clone().unwrap_or_else(|| dir.display().to_string());
    let prepared = Prepared { source, image: scan.id, stats: scan.stats, took, wishes: Vec::new() };
    Ok((prepared, Source { id: scan.id, index: scan.index, reader }))
}

/// An error that names the directory as people do.
fn as_called(wish: &Wish, error: anyhow::Error) -> anyhow::Error {
    let Some(called) = &wish.called else { return error };
    anyhow!(with_causes(&error).replace(&escaped(wish.source.as_os_str().as_encoded_bytes()), called))
}

/// Signs with all keys. One that fails, such as an agent's whose user says no, doesn't stop the others.
pub(super) fn sign_with(signers: Arc<Vec<Signer>>) -> Sign {
    Arc::new(move |change: &Change| signed(change, &signers, signed_bytes))
}

/// The same for a question what the change would do.
pub(in crate::client) fn sign_plans_with(signers: Arc<Vec<Signer>>) -> Sign {
    Arc::new(move |change: &Change| signed(change, &signers, signed_plan_bytes))
}

/// The same, at once.
pub(in crate::client) fn sign_plan(change: &Change, signers: &[Signer]) -> Signing {
    signed(change, signers, signed_plan_bytes)
}

fn signed(change: &Change, signers: &[Signer], covered: fn(&Change, Scheme) -> Option<Vec<u8>>) -> Signing {
    let Some(message) = covered(change, Scheme::V2) else {
        return Signing { result: Err("this change can't be signed".to_owned()), warnings: Vec::new() };
    };
    let (mut signatures, mut problems) = (Vec::new(), Vec::new());
    for signer in signers {
        match signer.sign(&message) {
            Ok(bytes) => {
                signatures.push(Signature { scheme: Scheme::V2, key: Some(signer.public_key()), bytes });
            }
            Err(error) => problems.push(with_causes(&error.into())),
        }
    }
    if signatures.is_empty() {
        return Signing { result: Err(problems.join("; ")), warnings: Vec::new() };
    }
    Signing { result: Ok(SignedChange::new(change.clone(), signatures)), warnings: problems }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::keys::Origin;
    use crate::format::signature::verify;
    use crate::format::ssh::SecretKey;
    use crate::model::change::Verb;
    use crate::model::time::Stamp;

    #[test]
    fn every_key_signs_all_of_the_change() {
        let secrets = [1, 2].map(|seed| SecretKey::from_seed(&[seed; 32]));
        let signers = secrets.map(|secret| Signer::of_secret(secret, Origin::Variable("K".into())));
        let sign = sign_with(Arc::new(signers.into()));
        let change = Change {
            cluster: Some("c".into()),
            verb: Verb::Replace,
            path: "/k/x".parse().expect("valid"),
            image: Some(ImageId::new([3; 32])),
            old_image: Some(ImageId::new([4; 32])),
            stamp: Stamp(5),
        };
        let signed = sign(&change).result.expect("signed");
        assert_eq!(signed.signatures.len(), 2);
        let message = signed_bytes(&change, Scheme::V2).expect("expressible");
        for signature in &signed.signatures {
            let key = signature.key.expect("named");
            assert!(signature.scheme == Scheme::V2 && verify(&key, &message, &signature.bytes));
        }
    }
}
