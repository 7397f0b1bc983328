//! `ciruela edit`: one file of a directory on a cluster, in an editor.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use clap::Args;
use tempfile::TempDir;

use super::remote::change::{self, Change, ChangeArgs};
use super::{sync, ui};
use crate::client::INTERRUPTED_STATUS;

/// Variables that name an editor, the first one that is set counts.
const EDITOR_VARIABLES: [&str; 3] = ["CIRUELA_EDITOR", "VISUAL", "EDITOR"];

/// Edit a file of a directory on a cluster: read the directory, open the file in an editor, publish the result.
///
/// The editor is $CIRUELA_EDITOR, $VISUAL, $EDITOR or vi. A file that is left unchanged, and an editor that fails, publish
/// nothing. If the result can't be published, as when somebody else changed the directory meanwhile, the text is kept and its place
/// told.
#[derive(Debug, Args)]
#[command(after_help = change::EXIT_STATUS)]
pub struct EditArgs {
    #[command(flatten)]
    change: ChangeArgs,
}

/// Runs the command. `port`: what stood before the subcommand.
pub fn run(args: &EditArgs, port: Option<u16>) -> ExitCode {
    ExitCode::from(sync::told(edit(args, port)))
}

fn edit(args: &EditArgs, port: Option<u16>) -> Result<u8, anyhow::Error> {
    let change = Change::begin(&args.change, port)?;
    let text = Text::of(&change)?;
    let edited = open_editor(&text.path);
    if !text.is_other(&change)? {
        return edited.map(|finished| {
            if !finished {
                return interrupted();
            }
            ui::note(&format!("{} is unchanged: nothing to publish", change.name()));
            0
        });
    }
    let name = change.name();
    let published = edited.and_then(|finished| {
        if !finished {
            return Ok(interrupted());
        }
        change.put(&text.path)?;
        change.publish()
    });
    if !matches!(published, Ok(0)) {
        text.keep(&name, &args.change, port);
    }
    published
}

/// What is edited: a copy in a folder of its own, with the name that editors know the kind of file by.
struct Text {
    folder: TempDir,
    path: PathBuf,
}

impl Text {
    fn of(change: &Change) -> Result<Self, anyhow::Error> {
        // Who can't read the directory on the machines shall not read it here.
        let owner_only = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("ciruela-edit-").permissions(owner_only).tempdir();
        let folder = folder.with_context(|| {
            format!("can't make a folder for your text in {} (TMPDIR)", std::env::temp_dir().display())
        })?;
        let original = change.path();
        let name = original.file_name().context("the file has no name")?;
        let path = folder.path().join(name);
        if change.is_there() { std::fs::copy(&original, &path) } else { std::fs::write(&path, "").map(|()| 0) }
            .with_context(|| format!("can't write {}", path.display()))?;
        Ok(Self { folder, path })
    }

    /// Whether it isn't what was read.
    fn is_other(&self, change: &Change) -> Result<bool, anyhow::Error> {
        let meta = std::fs::metadata(&self.path);
        let meta = meta.context("the editor removed the file: nothing is published")?;
        if !meta.is_file() {
            bail!("the editor left something that is no regular file: nothing is published");
        }
        if !change.is_there() {
            return Ok(meta.len() > 0);
        }
        let same = change::same(&self.path, &change.path());
        Ok(!same.context("can't read what was edited")?)
    }

    /// It stays where it is. `port`: what stood before the subcommand.
    fn keep(self, name: &str, args: &ChangeArgs, port: Option<u16>) {
        let _ = self.folder.keep();
        let path = self.path.to_string_lossy();
        let next = if args.is_gone(port) {
            "The directory was removed meanwhile: a file can't be put into it. To have it again, publish it as a whole with `ciruela \
             sync`"
                .to_owned()
        } else {
            let (words, source) = (args.words(port), change::quoted(&path));
            format!(
                "Look at what is there now, with `ciruela download` or `ciruela edit`, then publish yours with: ciruela put-file \
                 {words} -s {source}"
            )
        };
        ui::error(&format!("your text of {name} was not published everywhere; it is kept in {path}. {next}"));
    }
}

fn interrupted() -> u8 {
    ui::error("interrupted: nothing is published");
    INTERRUPTED_STATUS
}

/// Runs the editor to its end; `false`: somebody pressed Ctrl-C. It may replace the file.
fn open_editor(path: &Path) -> Result<bool, anyhow::Error> {
    let named = EDITOR_VARIABLES.iter().filter_map(std::env::var_os).find(|editor| !editor.is_empty());
    let editor = named.unwrap_or_else(|| "vi".into());
    // As a shell reads it: it may have arguments.
    let mut script = OsString::from(&editor);
    script.push(" \"$@\"");
    let status = Command::new("sh").arg("-c").arg(script).arg("sh").arg(path).status();
    let shown = editor.to_string_lossy();
    let status = status.with_context(|| format!("can't start the editor {shown}"))?;
    // The shell gives its own form of that.
    if status.signal() == Some(2) || status.code() == Some(INTERRUPTED_STATUS.into()) {
        return Ok(false);
    }
    if !status.success() {
        bail!("the editor {shown} failed ({status}): nothing is published");
    }
    Ok(true)
}
