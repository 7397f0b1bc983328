//! Blocks that arrive: checked, several at once, and only then written to the staged tree.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::error::{self, is};
use super::folder::LastFolder;
use super::fs::{Access, FileSystem, Kind};
use super::place::Place;
use super::stage::{file_path, mode_of};
use super::verify;
use crate::model::failure::{Failure, FailureKind};
use crate::model::image::{BlockPlace, FileRef, Image};
use crate::model::limits::{BLOCK_BYTES, RUN_BLOCKS_MAX};
use crate::model::run::Run;

/// What became of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Numbers of the blocks that weren't what the image says, ascending; they were not written.
    pub bad: Vec<u64>,
}

/// Writes the blocks of `run` whose hashes are right. If `data` doesn't have the run's length, none of them is.
pub fn store<F: FileSystem>(fs: &F, place: &Place, image: &Image, run: Run, data: &[u8]) -> Result<Stored, Failure> {
    if run.bytes(image) != Some(data.len()) {
        let bad = run.first..run.first.saturating_add(u64::from(run.count.min(RUN_BLOCKS_MAX)));
        return Ok(Stored { bad: bad.collect() });
    }
    let places: Vec<_> = run.blocks().filter_map(|block| image.place(block)).collect();
    let mut rest = data;
    let blocks: Vec<_> = places.iter().map_while(|place| rest.split_off(..place.len)).collect();
    let bad = verify::wrong(image, run.first, &blocks);
    let root = fs.open_root(place.base()).map_err(|e| error::base(place.base(), &e))?;
    let mut target = Target { fs, place, tree: place.tree(), root, folder: LastFolder::none() };
    let mut start = 0;
    let mut byte = 0;
    while start < places.len() {
        let wrong = bad.binary_search(&(run.first + start as u64)).is_ok();
        let (mut end, mut bytes) = (start + 1, places[start].len);
        while end < places.len()
            && places[start].same_file(&places[end])
            && bad.binary_search(&(run.first + end as u64)).is_ok() == wrong
        {
            bytes += places[end].len;
            end += 1;
        }
        if !wrong {
            target.write(&places[start], &data[byte..byte + bytes])?;
        }
        byte += bytes;
        start = end;
    }
    Ok(Stored { bad })
}

/// The staged tree.
struct Target<'a, F: FileSystem> {
    fs: &'a F,
    place: &'a Place,
    tree: PathBuf,
    root: F::Root,
    folder: LastFolder<F::Root>,
}

impl<F: FileSystem> Target<'_, F> {
    /// Writes consecutive blocks of one file, the first of which is `first`.
    fn write(&mut self, first: &BlockPlace<'_>, data: &[u8]) -> Result<(), Failure> {
        let Self { fs, place, tree, root, folder } = self;
        let file = &first.file;
        let path = || file_path(tree, file.directory, file.name);
        let changed = |why: &str| error::found(FailureKind::Poisoned, place, &path(), why);
        let directory = Path::new(&*file.directory.path);
        let folder = folder.get(tree, directory, || fs.open_dir(root, &tree.join(directory)));
        let handle = match folder.and_then(|folder| open(*fs, folder, file)) {
            Ok(Opened::Made(handle)) => handle,
            Ok(Opened::Found(handle)) => {
                let stat = fs.file_stat(&handle).map_err(|e| error::at(place, "look at", &path(), &e))?;
                if stat.kind != Kind::File || stat.links != 1 {
                    return Err(changed("isn't a file of our own any more"));
                }
                handle
            }
            Err(e) if is(&e, Errno::NOENT) => {
                return Err(changed("the staged tree was changed: its directory is gone"));
            }
            Err(e) => return Err(error::at(place, "open for writing", &path(), &e)),
        };
        fs.write_at(&handle, first.offset, data).map_err(|e| error::at(place, "write", &path(), &e))
    }
}

enum Opened<F> {
    Made(F),
    Found(F),
}

/// Opens a file, or makes it: first what is more likely.
fn open<F: FileSystem>(fs: &F, folder: &F::Root, file: &FileRef<'_>) -> io::Result<Opened<F::File>> {
    let name = Path::new(file.name);
    let make = || fs.create_file(folder, name, mode_of(file.executable)).map(Opened::Made);
    let find = || fs.open_file(folder, name, Access::Write).map(Opened::Found);
    if file.size > BLOCK_BYTES as u64 {
        match find() {
            Err(e) if is(&e, Errno::NOENT) => {}
            other => return other,
        }
    }
    match make() {
        // Another thread, or an earlier try.
        Err(e) if is(&e, Errno::EXIST) => find(),
        other => other,
    }
}
