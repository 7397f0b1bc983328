//! Compares a visible tree with its image, file by file, a bounded part at a time. Nothing is trusted and nothing is changed:
//! what follows from a finding is `engine/scrub`'s.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use super::error::{self, is};
use super::fs::{Access, FileSystem, Kind, Stat};
use super::place::Place;
use super::stage::{MODE_EXECUTABLE, expected_kind, file_path, mode_of};
use super::verify::Checker;
use crate::format::record::content_key;
use crate::model::escape::escaped;
use crate::model::failure::Failure;
use crate::model::fingerprint::{FileIdentity, Fingerprint};
use crate::model::image::{Directory, EntryKind, FileRef, Image, blocks_of};
use crate::model::limits::{
    BLOCK_BYTES, CHECK_BYTES_MAX, SCRUB_EXTRAS_LISTED_MAX, SCRUB_STEP_BYTES_MAX, SCRUB_STEP_ENTRIES_MAX,
};
use crate::model::reuse::Hashed;
use crate::model::scrub::{Cursor, Finding, Flaw, Part, Within};

/// Compares what comes at `from` and after it, as far as one step goes. Also says of which files the content is known now.
/// `None`: the tree at the target isn't the one with the root `expected`.
pub fn scrub<F: FileSystem>(
    fs: &F,
    place: &Place,
    image: &Image,
    expected: FileIdentity,
    from: Cursor,
) -> Result<Option<(Part, Vec<Hashed>)>, Failure> {
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let part = Part { bytes_total: image.total_bytes(), ..Part::default() };
    let step = Step {
        fs,
        root: &root,
        place,
        image,
        dev: expected.dev,
        part,
        checker: Checker::new(image),
        read: Vec::new(),
        wrong: BTreeSet::new(),
    };
    let look = |path: &Path| match fs.stat(&root, path) {
        Err(e) if is(&e, Errno::NOENT) => Ok(None),
        other => other.map(Some).map_err(|e| error::at(place, "look at", path, &e)),
    };
    let base = look(Path::new(""))?;
    match look(place.target())? {
        // By the inode number alone: device numbers may differ after a reboot, and all is on the base's device.
        Some(top) if top.kind == Kind::Directory => {
            let same = top.ino == expected.ino && base.is_some_and(|base| base.dev == top.dev);
            if same { step.run(from).map(Some) } else { Ok(None) }
        }
        top => Ok(Some(step.without_root(top))),
    }
}

/// A file of which something was read in this step.
struct Read<'a> {
    file: FileRef<'a>,
    /// The first block that was read in this step, and how many.
    first: u64,
    count: u64,
    /// Wrong blocks of earlier steps.
    wrong: u64,
    before: Fingerprint,
    /// To the end, and this is what it was then.
    after: Option<Fingerprint>,
}

struct Step<'a, F: FileSystem> {
    fs: &'a F,
    root: &'a F::Root,
    place: &'a Place,
    image: &'a Image,
    dev: u64,
    part: Part,
    checker: Checker<'a>,
    read: Vec<Read<'a>>,
    /// Blocks whose bytes aren't the image's.
    wrong: BTreeSet<u64>,
}

impl<'a, F: FileSystem> Step<'a, F> {
    fn run(mut self, from: Cursor) -> Result<(Part, Vec<Hashed>), Failure> {
        let mut cursor = from;
        let image = self.image;
        while let Some(directory) = image.directories().get(cursor.directory) {
            if self.is_spent() {
                self.part.next = Some(cursor);
                break;
            }
            if cursor.entry.is_none() && !self.directory(directory)? {
                cursor = Cursor { directory: cursor.directory + 1, ..Cursor::default() };
                continue;
            }
            let at = cursor.entry.unwrap_or(0);
            let Some(entry) = directory.entries.get(at) else {
                cursor = Cursor { directory: cursor.directory + 1, ..Cursor::default() };
                continue;
            };
            let within = cursor.within.take();
            self.part.entries += 1;
            let left = match entry.kind {
                EntryKind::Symlink { target } => self.link(directory, entry.name, target).map(|()| None)?,
                EntryKind::File { size, executable, first_block } => {
                    self.file(FileRef { directory, name: entry.name, size, executable, first_block }, within)?
                }
            };
            match left {
                None => cursor.entry = Some(at + 1),
                Some(blocks) => {
                    self.flush();
                    cursor.entry = Some(at);
                    cursor.within = self.read.last().map(|read| {
                        let wrong = read.wrong + self.wrong_in(read);
                        Within { blocks, wrong, before: read.before }
                    });
                    self.part.next = Some(cursor);
                    break;
                }
            }
        }
        Ok(self.end())
    }

    /// The root isn't a directory, or isn't there.
    fn without_root(mut self, top: Option<Stat>) -> (Part, Vec<Hashed>) {
        match top {
            None => self.find("", Flaw::Missing, "is gone".to_owned()),
            Some(stat) => self.find("", Flaw::Kind, kinds(stat.kind, Kind::Directory)),
        }
        (self.part, Vec::new())
    }

    fn is_spent(&self) -> bool {
        self.part.bytes >= SCRUB_STEP_BYTES_MAX || self.part.entries >= SCRUB_STEP_ENTRIES_MAX
    }

    fn find(&mut self, file: &str, flaw: Flaw, what: String) {
        let file = if file.is_empty() { ".".to_owned() } else { escaped(file.as_bytes()) };
        self.part.findings.push(Finding { file: file.into(), flaw, what: what.into() });
    }

    /// What has that name; `None`, and a finding, if nothing can be known of it.
    fn look(&mut self, file: &str, path: &Path) -> Result<Option<Stat>, Failure> {
        match self.fs.stat(self.root, path) {
            Ok(stat) => Ok(Some(stat)),
            Err(e) => self.trouble(file, "look at", path, &e).map(|()| None),
        }
    }

    /// An error is a finding if it says something about this file, and not about this moment.
    fn trouble(&mut self, file: &str, what: &str, path: &Path, e: &io::Error) -> Result<(), Failure> {
        let any = |errnos: &[Errno]| errnos.iter().any(|errno| is(e, *errno));
        if any(&[Errno::NOENT, Errno::LOOP, Errno::NOTDIR, Errno::XDEV]) {
            self.find(file, Flaw::Missing, "is gone".to_owned());
        } else if any(&[Errno::IO, Errno::ACCESS, Errno::PERM, Errno::UCLEAN, Errno::BADMSG, Errno::NXIO]) {
            self.find(file, Flaw::Unreadable, format!("can't be read: {}", error::words(e)));
        } else {
            return Err(error::at(self.place, what, path, e));
        }
        Ok(())
    }

    /// Whether its entries are to be looked at.
    fn directory(&mut self, directory: &Directory) -> Result<bool, Failure> {
        self.part.entries += 1;
        let top = self.place.target();
        let path = if directory.path.is_empty() { top.to_owned() } else { top.join(&*directory.path) };
        if !directory.path.is_empty() && !self.has_parent(&path) {
            // Which was told of its parent.
            return Ok(false);
        }
        let Some(stat) = self.look(&directory.path, &path)? else { return Ok(false) };
        if stat.kind != Kind::Directory {
            self.find(&directory.path, Flaw::Kind, kinds(stat.kind, Kind::Directory));
            return Ok(false);
        }
        self.mode(&directory.path, stat.mode, MODE_EXECUTABLE);
        let names = match self.fs.read_dir(self.root, &path) {
            Ok(names) => names,
            Err(e) => return self.trouble(&directory.path, "list", &path, &e).map(|()| false),
        };
        let mut listed = 0;
        for entry in names.iter().filter(|entry| expected_kind(self.image, directory, &entry.name).is_none()) {
            self.part.extras += 1;
            listed += 1;
            if listed <= SCRUB_EXTRAS_LISTED_MAX {
                let inside = if directory.path.is_empty() { String::new() } else { format!("{}/", directory.path) };
                let file = [inside.as_bytes(), entry.name.as_bytes()].concat();
                let what = format!("is {} that isn't in the image", article(entry.kind));
                self.part.findings.push(Finding { file: escaped(&file).into(), flaw: Flaw::Extra, what: what.into() });
            }
        }
        Ok(true)
    }

    fn has_parent(&self, path: &Path) -> bool {
        let parent = path.parent().map(|parent| self.fs.stat(self.root, parent));
        matches!(parent, Some(Ok(stat)) if stat.kind == Kind::Directory)
    }

    fn mode(&mut self, file: &str, mode: u32, expected: u32) {
        if mode != expected {
            self.find(file, Flaw::Mode, format!("has mode {mode:04o}, not {expected:04o}"));
        }
    }

    fn link(&mut self, directory: &Directory, name: &str, target: &str) -> Result<(), Failure> {
        let (file, path) = (directory.join(name), file_path(self.place.target(), directory, name));
        let Some(stat) = self.look(&file, &path)? else { return Ok(()) };
        if stat.kind != Kind::Symlink {
            self.find(&file, Flaw::Kind, kinds(stat.kind, Kind::Symlink));
            return Ok(());
        }
        match self.fs.read_link(self.root, &path) {
            Ok(found) if found.as_bytes() == target.as_bytes() => {}
            Ok(found) => {
                let (found, target) = (escaped(found.as_bytes()), escaped(target.as_bytes()));
                self.find(&file, Flaw::Target, format!("points to {found}, not to {target}"));
            }
            Err(e) => self.trouble(&file, "read the link", &path, &e)?,
        }
        Ok(())
    }

    /// `Some`: so many blocks of it are read, which is enough for this step.
    fn file(&mut self, file: FileRef<'a>, within: Option<Within>) -> Result<Option<u64>, Failure> {
        let (name, path) = (file.directory.join(file.name), file_path(self.place.target(), file.directory, file.name));
        let Some(stat) = self.look(&name, &path)? else { return Ok(None) };
        if stat.kind != Kind::File {
            self.find(&name, Flaw::Kind, kinds(stat.kind, Kind::File));
            return Ok(None);
        }
        if within.is_none() {
            self.mode(&name, stat.mode, mode_of(file.executable));
        }
        if stat.size != file.size {
            self.find(&name, Flaw::Size, format!("has {} bytes, not {}", stat.size, file.size));
            return Ok(None);
        }
        if file.size == 0 {
            return Ok(None);
        }
        let opened = match self.fs.open_file(self.root, &path, Access::Read) {
            Ok(opened) => opened,
            Err(e) => return self.trouble(&name, "open", &path, &e).map(|()| None),
        };
        let before = match within {
            Some(within) => within.before,
            None => self.stat_of(&opened, &path)?.fingerprint(),
        };
        let (start, wrong) = within.map_or((0, 0), |within| (within.blocks, within.wrong));
        let mut offset = start.saturating_mul(BLOCK_BYTES as u64).min(file.size);
        while offset < file.size && self.part.bytes < SCRUB_STEP_BYTES_MAX {
            let bytes = usize::try_from(file.size - offset).map_or(CHECK_BYTES_MAX, |left| left.min(CHECK_BYTES_MAX));
            let block = file.first_block + offset / BLOCK_BYTES as u64;
            // What isn't there any more stays zero, and so hashes as wrong.
            if let Err(e) = self.fs.read_at(&opened, offset, self.checker.room(bytes)) {
                self.checker.keep_last(bytes, 0);
                return self.trouble(&name, "read", &path, &e).map(|()| None);
            }
            self.checker.filled_with(block, bytes);
            self.part.bytes += bytes as u64;
            offset += bytes as u64;
            if self.checker.is_full() {
                self.flush();
            }
        }
        let done = offset >= file.size;
        let blocks = if done { blocks_of(file.size) } else { offset / BLOCK_BYTES as u64 };
        let after = if done { Some(self.stat_of(&opened, &path)?.fingerprint()) } else { None };
        let (first, count) = (file.first_block + start, blocks - start.min(blocks));
        self.read.push(Read { file, first, count, wrong, before, after });
        Ok((!done).then_some(blocks))
    }

    fn stat_of(&self, opened: &F::File, path: &Path) -> Result<Stat, Failure> {
        self.fs.file_stat(opened).map_err(|e| error::at(self.place, "look at", path, &e))
    }

    fn flush(&mut self) {
        let wrong = &mut self.wrong;
        self.checker.flush(|block, _, right| {
            if !right {
                wrong.insert(block);
            }
        });
    }

    fn wrong_in(&self, read: &Read<'_>) -> u64 {
        self.wrong.range(read.first..read.first + read.count).count() as u64
    }

    /// Hashes what is left, and says what that means for each file that was read to its end.
    fn end(mut self) -> (Part, Vec<Hashed>) {
        self.flush();
        let mut hashed = Vec::new();
        for read in std::mem::take(&mut self.read) {
            let Some(after) = read.after else { continue };
            let wrong = read.wrong + self.wrong_in(&read);
            if wrong > 0 {
                let (name, all) = (read.file.directory.join(read.file.name), blocks_of(read.file.size));
                self.find(&name, Flaw::Content, format!("was changed on this node: {wrong} of {all} blocks don't fit"));
            }
            // Changed while it was read: then it isn't known what it is.
            if after == read.before {
                let content = content_key(self.image, &read.file);
                hashed.push(Hashed { dev: self.dev, fingerprint: after, content, right: wrong == 0 });
            }
        }
        (self.part, hashed)
    }
}

fn article(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "a file",
        Kind::Directory => "a directory",
        Kind::Symlink => "a link",
        Kind::Other => "something that is neither file, directory nor link",
    }
}

fn kinds(found: Kind, expected: Kind) -> String {
    format!("is {}, not {}", article(found), article(expected))
}

#[cfg(test)]
mod tests;
