//! The command line: its subcommands. Each one's options stand beside what it does.

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use super::{demo, diff, download, edit, index, ls, plan, put_file, remove, rollback, status, sync, verify};

/// Puts directories on every machine of a cluster: signed, whole, and fast.
#[derive(Debug, Parser)]
#[command(name = "ciruela", version, max_term_width = 100)]
pub struct Cli {
    /// The port of machines that are named without one [default: 24783]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    Sync(Box<sync::SyncArgs>),
    Plan(Box<plan::PlanArgs>),
    Status(status::StatusArgs),
    Ls(ls::LsArgs),
    Download(download::DownloadArgs),
    Diff(diff::DiffArgs),
    PutFile(put_file::PutFileArgs),
    Edit(edit::EditArgs),
    Rollback(Box<rollback::RollbackArgs>),
    Remove(Box<remove::RemoveArgs>),
    Index(index::IndexArgs),
    Verify(verify::VerifyArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    DemoNode(demo::DemoNodeArgs),
    Completions(CompletionsArgs),
}

/// Print a completion script for a shell.
///
/// For bash: `ciruela completions bash > ~/.local/share/bash-completion/completions/ciruela`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// For which shell.
    #[arg(value_enum)]
    pub shell: Shell,
}

/// The script that `ciruela completions` prints.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ciruela", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn completions_name_every_command() {
        let script = String::from_utf8(completions(Shell::Bash)).expect("UTF-8");
        for command in Cli::command().get_subcommands().filter(|command| !command.is_hide_set()) {
            assert!(script.contains(command.get_name()), "{}", command.get_name());
        }
    }
}
