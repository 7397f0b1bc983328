//! The directory that was used last, open: files come in the order of their directories.

use std::io;
use std::path::{Path, PathBuf};

/// At most one directory, of one of several trees.
#[derive(Debug)]
pub(super) struct LastFolder<R>(Option<Folder<R>>);

#[derive(Debug)]
struct Folder<R> {
    base: PathBuf,
    path: PathBuf,
    root: R,
}

impl<R> LastFolder<R> {
    pub(super) const fn none() -> Self {
        Self(None)
    }

    /// The directory at `path` below `base`, opened if it isn't the one that was used last.
    pub(super) fn get(&mut self, base: &Path, path: &Path, open: impl FnOnce() -> io::Result<R>) -> io::Result<&R> {
        let last = self.0.take().filter(|last| last.path == path && last.base == base);
        let folder = match last {
            Some(folder) => folder,
            None => Folder { root: open()?, base: base.to_owned(), path: path.to_owned() },
        };
        Ok(&self.0.insert(folder).root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_one_is_opened() {
        let mut last = LastFolder::none();
        let opened = std::cell::Cell::new(0);
        let mut get = |base: &str, path: &str| {
            let open = || {
                opened.set(opened.get() + 1);
                Ok(opened.get())
            };
            last.get(Path::new(base), Path::new(path), open).copied().expect("opens")
        };
        assert_eq!([get("a", "x"), get("a", "x"), get("a", "y"), get("b", "y"), get("a", "x")], [1, 1, 2, 3, 4]);
        assert!(last.get(Path::new("a"), Path::new("z"), || Err(io::ErrorKind::NotFound.into())).is_err());
        assert_eq!(last.get(Path::new("a"), Path::new("x"), || Ok(9)).copied().expect("opens"), 9, "nothing is kept");
    }
}
