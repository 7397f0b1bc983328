//! The options of `ciruela sync`, and what they add up to.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::destination::{Destination, Replacement};
use super::exit_statuses;
use super::spread::{Spread, SpreadArgs, SpreadError};
use crate::client::scanning::ScanArgs;
use crate::model::change::Verb;
use crate::model::ids::ImageId;
use crate::model::vpath::VPath;

const EXIT_STATUS: &str = exit_statuses!(
    "done on every live machine, or on as many as an --early-* rule asks for",
    "could not start (bad arguments, a source that can't be read), or a source was changed meanwhile",
    "refused by a machine, or no machine has a configuration for the path",
);

/// Publish directories: sign what should be where, give it to clusters, wait until their machines are done.
///
/// SRC is a local directory, DEST a path as the machines see it, /KEY/name, where KEY is the name of a directory
/// configuration there. SRC ends before the last `:/` behind which there is such a path.
#[derive(Debug, Args)]
#[command(after_help = EXIT_STATUS, override_usage = "ciruela sync [OPTIONS] ENTRY_POINT... [-- ENTRY_POINT...]")]
pub struct SyncArgs {
    /// Add the directory; other content at DEST is an error. Can be repeated, as can the next two.
    #[arg(long, value_name = "SRC:DEST", value_parser = destination())]
    append: Vec<Destination>,
    /// Add the directory unless something is at DEST already, whatever it is.
    #[arg(long, value_name = "SRC:DEST", value_parser = destination())]
    append_weak: Vec<Destination>,
    /// Put the directory in the place of what is at DEST; with OLD_ID only if that is what is there.
    #[arg(long, value_name = "SRC:DEST[:OLD_ID]", value_parser = replacement())]
    replace: Vec<Replacement>,

    #[command(flatten)]
    scan: ScanArgs,
    #[command(flatten)]
    pub(in crate::client) spread: SpreadArgs,
}

/// What the command line asks for, checked.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::client) struct Plan {
    /// Where to, with which keys.
    pub(in crate::client) spread: Spread,
    /// At least one, each path once.
    pub(in crate::client) wishes: Vec<Wish>,
    /// How they are indexed.
    pub(in crate::client) scan: ScanArgs,
}

/// One directory to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::client) struct Wish {
    /// The local directory.
    pub(in crate::client) source: PathBuf,
    /// What it is for people, if they have not named it themselves.
    pub(in crate::client) called: Option<String>,
    /// Where the machines shall have it.
    pub(in crate::client) path: VPath,
    /// How.
    pub(in crate::client) verb: Verb,
    /// Only in the place of this image.
    pub(in crate::client) old_image: Option<ImageId>,
    /// Whatever is there is fine.
    pub(in crate::client) weak: bool,
}

/// Why the command line can't be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::client) enum ArgsError {
    /// Nothing to do.
    #[error("nothing to publish: give at least one --append, --append-weak or --replace SRC:DEST")]
    NoUpload,
    /// Two directories for one path.
    #[error("two directories are to be put at {0}: each destination can be given once")]
    SamePath(VPath),
    /// Of the options that other commands have, too.
    #[error(transparent)]
    Spread(#[from] SpreadError),
}

impl SyncArgs {
    /// `SRC:DEST` among the entry points is something to append.
    pub(in crate::client) fn with_destinations(mut self) -> Result<Self, anyhow::Error> {
        for text in self.spread.take_destinations() {
            self.append.push(Destination::parse(OsStr::new(&text))?);
        }
        Ok(self)
    }

    /// Checks what each option by itself can't. `port`: what stood before the subcommand.
    pub(in crate::client) fn plan(self, port: Option<u16>) -> Result<Plan, ArgsError> {
        let wishes = wishes(self.append, self.append_weak, self.replace)?;
        Ok(Plan { spread: self.spread.checked(port)?, wishes, scan: self.scan })
    }
}

fn wishes(
    append: Vec<Destination>,
    append_weak: Vec<Destination>,
    replace: Vec<Replacement>,
) -> Result<Vec<Wish>, ArgsError> {
    let wish = |to: Destination, verb, old_image, weak| Wish {
        source: to.source,
        called: None,
        path: to.path,
        verb,
        old_image,
        weak,
    };
    let append = append.into_iter().map(|to| wish(to, Verb::Append, None, false));
    let append_weak = append_weak.into_iter().map(|to| wish(to, Verb::Append, None, true));
    let replace = replace.into_iter().map(|with| wish(with.destination, Verb::Replace, with.old_image, false));
    let wishes: Vec<_> = append.chain(append_weak).chain(replace).collect();
    let mut paths = BTreeSet::new();
    match wishes.iter().find(|wish| !paths.insert(&wish.path)) {
        Some(twice) => Err(ArgsError::SamePath(twice.path.clone())),
        None if wishes.is_empty() => Err(ArgsError::NoUpload),
        None => Ok(wishes),
    }
}

fn destination() -> impl TypedValueParser<Value = Destination> {
    OsStringValueParser::new().try_map(|text: OsString| Destination::parse(&text))
}

fn replacement() -> impl TypedValueParser<Value = Replacement> {
    OsStringValueParser::new().try_map(|text: OsString| Replacement::parse(&text))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::client::args::{Cli, Command};
    use crate::model::limits;

    fn plan(line: &str) -> Result<Plan, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|error| error.to_string())?;
        let Command::Sync(args) = cli.command else { return Err("another command".to_owned()) };
        args.plan(cli.port).map_err(|error| error.to_string())
    }

    fn clusters_of(line: &str) -> Vec<Vec<String>> {
        plan(line).expect(line).spread.clusters
    }

    #[test]
    fn entry_points_and_clusters() {
        let start = "ciruela sync --append a:/k/x";
        assert_eq!(clusters_of(&format!("{start} n1 n2:5")), [["n1"], ["n2:5"]]);
        assert_eq!(clusters_of(&format!("{start} n1 -- n2 -- n3")), [["n1"], ["n2"], ["n3"]]);
        assert_eq!(
            clusters_of(&format!("{start} -m n1 n2 -- n3 -- n4 n5")),
            [vec!["n1", "n2"], vec!["n3"], vec!["n4", "n5"]]
        );
        assert_eq!(clusters_of(&format!("{start} -m -- n1 n2 -- -- n3")), [vec!["n1", "n2"], vec!["n3"]]);
        assert_eq!(clusters_of("ciruela sync n1 --append a:/k/x -m n2"), [["n1", "n2"]]);
        for (rest, reason) in [
            ("-m n -- --json n", "before the first `--`"),
            ("", "no entry point"),
            ("-m --", "no entry point"),
            ("a:b:c", "[ADDRESS]:PORT"),
            ("http://x", "bad host"),
        ] {
            let error = plan(&format!("{start} {rest}")).expect_err(rest);
            assert!(error.contains(reason), "{rest}: {error}");
        }
        let many = "n ".repeat(limits::ENTRY_POINTS_MAX + 1);
        assert!(plan(&format!("{start} {many}")).expect_err("too many").contains("at most 256"));
    }

    #[test]
    fn wishes_of_all_kinds() {
        let id = "ab".repeat(32);
        let plan = plan(&format!(
            "ciruela sync n --replace b:/k/b:{id} --append a:/k/a --append-weak a:/k/w --replace c:/k/c --append d:/k/d"
        ));
        let wishes = plan.expect("valid").wishes;
        let found: Vec<_> = wishes.iter().map(|w| (w.path.as_str(), w.verb, w.weak, w.old_image.is_some())).collect();
        assert_eq!(
            found,
            [
                ("/k/a", Verb::Append, false, false),
                ("/k/d", Verb::Append, false, false),
                ("/k/w", Verb::Append, true, false),
                ("/k/b", Verb::Replace, false, true),
                ("/k/c", Verb::Replace, false, false),
            ]
        );
    }

    #[test]
    fn what_cant_be_carried_out() {
        for (line, reason) in [
            ("ciruela sync n", "nothing to publish"),
            ("ciruela sync n --append a:/k/x --replace b:/k/x", "/k/x"),
            ("ciruela sync n --append a", "SRC:DEST"),
            ("ciruela sync n --append a:/k/../x", "`..`"),
            ("ciruela sync n --append a:/k/x -t 0s", "longer than nothing"),
            ("ciruela sync n --append a:/k/x -t 5", "90s"),
            ("ciruela sync n --append a:/k/x -t 900000000y", "a year"),
            ("ciruela sync n --append a:/k/x --early-hosts 2", "--early-timeout"),
            ("ciruela sync n --append a:/k/x --early-timeout 1m --early-fraction 75", "0 to 1"),
            ("ciruela sync n --append a:/k/x --early-timeout 1m --early-fraction NaN", "0 to 1"),
            ("ciruela sync n --append a:/k/x --port 0", "port"),
            ("ciruela sync n --append a:/k/x --hash md5", "blake2b/256"),
        ] {
            let error = plan(line).expect_err(line);
            assert!(error.contains(reason), "{line}: {error}");
        }
    }

    #[test]
    fn rules_and_ports() {
        let plain = plan("ciruela sync n --append a:/k/x").expect("valid");
        assert_eq!((plain.spread.port, plain.spread.rules.deadline), (24_783, Duration::from_mins(30)));
        assert_eq!((plain.spread.rules.early_timeout, plain.spread.rules.early_hosts), (None, 3));
        let port = |line: &str| plan(line).expect(line).spread.port;
        assert_eq!(port("ciruela --port 5 sync n --append a:/k/x"), 5);
        assert_eq!(port("ciruela sync n --append a:/k/x --port 6"), 6);
        assert_eq!(port("ciruela --port 5 sync --port 6 n --append a:/k/x"), 6);
        let early = plan("ciruela sync n --append a:/k/x --early-timeout 2m --early-hosts 1 -t 1m").expect("valid");
        assert_eq!(
            (early.spread.rules.early_timeout, early.spread.rules.early_hosts),
            (Some(Duration::from_mins(2)), 1)
        );
        assert_eq!(early.spread.warnings.len(), 1);
    }
}
