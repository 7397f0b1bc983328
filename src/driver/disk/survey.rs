//! What is in use in a config's directory: links that point to something in it, and the keep list. An error is never "nothing
//! is in use". What follows from it is `engine/retention`'s.

use std::path::{Component, Path, PathBuf};

use rustix::io::Errno;

use super::error::{self, is};
use super::fs::{FileSystem, Kind};
use super::place::base_of;
use crate::model::directory::DirectoryConfig;
use crate::model::failure::{Failure, FailureKind};
use crate::model::limits;
use crate::model::retention::{Active, ActiveBy};

/// Reads links and keep list.
pub fn survey<F: FileSystem>(fs: &F, config: &DirectoryConfig) -> Result<Active, Failure> {
    let base = base_of(config)?;
    let root = fs.open_root(&base).map_err(|e| error::base(&base, &e))?;
    let real = fs.canonical(&base).map_err(|e| error::base(&base, &e))?;
    let mut survey = Survey { fs, config, base: &base, real: &real, active: Active::default() };
    if let Some(list) = config.retention.as_ref().and_then(|rules| rules.keep_list_file.as_deref()) {
        survey.keep_list(list)?;
    }
    survey.links(&root)?;
    Ok(survey.active)
}

struct Survey<'a, F: FileSystem> {
    fs: &'a F,
    config: &'a DirectoryConfig,
    base: &'a Path,
    /// The same without links.
    real: &'a Path,
    active: Active,
}

impl<F: FileSystem> Survey<'_, F> {
    fn keep_list(&mut self, path: &Path) -> Result<(), Failure> {
        let text = self.fs.read_small_file(path, limits::KEEP_LIST_BYTES_MAX).map_err(|e| {
            let failure = error::below(Path::new(""), "read the keep list", path, &e);
            Failure { text: format!("nothing is removed: {}", failure.text), ..failure }
        })?;
        for (line, number) in text.split(|byte| *byte == b'\n').zip(1_usize..) {
            let line = line.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii();
            if !line.is_empty() {
                let what = || format!("line {number} of the keep list {}", path.display());
                self.named(Path::new(""), path_of(line), ActiveBy::KeepList, what)?;
            }
        }
        Ok(())
    }

    /// Those in the base directory, and in each down to the one in which the managed directories are.
    fn links(&mut self, root: &F::Root) -> Result<(), Failure> {
        let mut todo = vec![(PathBuf::new(), 1)];
        let mut seen = 0;
        while let Some((directory, level)) = todo.pop() {
            let entries = match self.fs.read_dir(root, &directory) {
                Err(e) if is(&e, Errno::NOENT) && level > 1 => continue,
                other => other.map_err(|e| error::below(self.base, "look for links in", &directory, &e))?,
            };
            seen += entries.len();
            if seen > limits::LINKS_LOOKED_AT_MAX {
                return Err(self.too_many("entries", limits::LINKS_LOOKED_AT_MAX));
            }
            for entry in entries.into_iter().filter(|entry| entry.name != limits::STAGING_DIR_NAME) {
                let path = directory.join(&entry.name);
                match entry.kind {
                    Kind::Symlink => match self.fs.read_link(root, &path) {
                        Err(e) if is(&e, Errno::NOENT) || is(&e, Errno::INVAL) => {}
                        other => {
                            let target = other.map_err(|e| error::below(self.base, "read the link", &path, &e))?;
                            let what = || format!("the link {}", self.base.join(&path).display());
                            self.named(&directory, Path::new(&target), ActiveBy::Link, what)?;
                        }
                    },
                    Kind::Directory if level < self.config.num_levels => todo.push((path, level + 1)),
                    Kind::Directory | Kind::File | Kind::Other => {}
                }
            }
        }
        Ok(())
    }

    /// A path, relative to a directory below the base. It counts as it is written, and as what it leads to. `what` says where it
    /// was found.
    fn named(&mut self, directory: &Path, path: &Path, by: ActiveBy, what: impl Fn() -> String) -> Result<(), Failure> {
        let full = self.base.join(directory).join(path);
        // Nothing there: then nothing else needs to be kept.
        let real = self.fs.canonical(&full).ok();
        for path in std::iter::once(plain(&full)).chain(real) {
            if !self.add(&path, by) {
                let text = format!("nothing is removed: {} names something that isn't UTF-8", what());
                return Err(Failure { kind: FailureKind::Io, text });
            }
        }
        if self.active.len() > limits::ACTIVE_PATHS_MAX {
            return Err(self.too_many("paths in use", limits::ACTIVE_PATHS_MAX));
        }
        Ok(())
    }

    /// `false`: no virtual path has such a name, so which one is meant can't be told.
    fn add(&mut self, path: &Path, by: ActiveBy) -> bool {
        for base in [self.base, self.real] {
            let Ok(relative) = path.strip_prefix(base) else { continue };
            // What follows isn't part of any virtual path.
            let names = relative.components().take(self.config.num_levels);
            let Some(names) = names.map(|name| name.as_os_str().to_str()).collect::<Option<Vec<_>>>() else {
                return false;
            };
            self.active.add(&names.join("/"), by);
        }
        true
    }

    fn too_many(&self, what: &str, max: usize) -> Failure {
        let text = format!("nothing is removed: {} has more than {max} {what}", self.base.display());
        Failure { kind: FailureKind::Io, text }
    }
}

fn path_of(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt as _;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

/// Without `.` and `..`, as far as that can be told without looking.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => _ = plain.pop(),
            Component::Normal(_) | Component::RootDir | Component::Prefix(_) => plain.push(component),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::driver::disk::real::RealFileSystem;
    use crate::model::directory::Retention;

    fn config(base: &Path, num_levels: usize, keep_list: Option<&Path>) -> DirectoryConfig {
        let rules = Retention {
            keep_min_directories: 1,
            keep_max_directories: 1,
            keep_recent: Duration::ZERO,
            keep_list_file: keep_list.map(Path::to_owned),
        };
        DirectoryConfig { num_levels, retention: Some(rules), ..DirectoryConfig::plain("k", base.to_owned()) }
    }

    fn in_use(config: &DirectoryConfig, names: &[&str]) -> Vec<String> {
        let active = survey(&RealFileSystem, config).expect("readable");
        names.iter().filter(|name| active.by(name).is_some()).map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn links_of_all_kinds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (real, base) = (folder.path().join("real"), folder.path().join("base"));
        for name in ["a/v1", "a/v2/bin", "a/v3", "a/v4", "a/v5", "b/v1", ".ciruela-staging"] {
            std::fs::create_dir_all(real.join(name)).expect("made");
        }
        symlink(&real, &base).expect("made");
        symlink("v1", real.join("a/current")).expect("made");
        symlink("a/v2/bin", real.join("tool")).expect("made");
        // By way of another link outside, and by another name of the base.
        symlink(folder.path().join("outside"), real.join("there")).expect("made");
        symlink(base.join("a/v3"), folder.path().join("outside")).expect("made");
        symlink("../a/./x/../v9", real.join("b/dangling")).expect("made");
        // Too deep: that is inside a managed directory.
        symlink("../../a/v4", real.join("b/v1/link")).expect("made");
        symlink("a/v5", real.join(".ciruela-staging/link")).expect("made");
        symlink("/etc", real.join("elsewhere")).expect("made");
        let names = ["a/v1", "a/v2", "a/v3", "a/v4", "a/v5", "a/v9", "b/v1"];
        for base in [&base, &real] {
            assert_eq!(in_use(&config(base, 2, None), &names), ["a/v1", "a/v2", "a/v3", "a/v9"]);
        }
        // Lower down nothing is looked at.
        assert_eq!(in_use(&config(&base, 1, None), &["a", "b"]), ["a"]);
    }

    /// It isn't known what is meant: that is said, rather than keeping all without a word.
    #[test]
    fn names_that_are_not_utf_8() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (base, list) = (folder.path().join("base"), folder.path().join("list"));
        std::fs::create_dir_all(base.join("a")).expect("made");
        let config = config(&base, 2, Some(&list));
        let refused = || survey(&RealFileSystem, &config).expect_err("not UTF-8").text;
        for line in [&b"v\xe9"[..], b"a/v\xe9/x", b"  ./\xff # no"] {
            std::fs::write(&list, [b"# in use\na/v1\n", line, b"\na/v2\n"].concat()).expect("written");
            let said = format!("nothing is removed: line 3 of the keep list {} names", list.display());
            assert!(refused().starts_with(&said), "{}", refused());
        }
        // What no directory of the config can be, may be called anything.
        std::fs::write(&list, b"/else/\xff\na/v1/\xff\n# \xff\n").expect("written");
        assert_eq!(in_use(&config, &["a/v1", "a/v2"]), ["a/v1"]);
        symlink(path_of(b"v\xff"), base.join("a/current")).expect("made");
        assert!(refused().contains(&format!("the link {} names", base.join("a/current").display())), "{}", refused());
    }

    #[test]
    fn keep_lists() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (base, list) = (folder.path().join("base"), folder.path().join("list"));
        std::fs::create_dir(&base).expect("made");
        let config = config(&base, 2, Some(&list));
        let missing = survey(&RealFileSystem, &config).expect_err("missing");
        assert!(missing.text.contains("nothing is removed: can't read the keep list"), "{missing}");
        let absolute = base.join("b/v2/x/y");
        let text = format!("# all\n  a/v1 # one\n\n{}\n./c/\n/srv/other/d/v1\n\u{fffd}", absolute.display());
        std::fs::write(&list, text).expect("written");
        let names = ["a/v1", "a/v2", "b/v1", "b/v2", "c/v1", "d/v1"];
        assert_eq!(in_use(&config, &names), ["a/v1", "b/v2", "c/v1"]);
        std::fs::remove_file(&list).expect("removed");
        std::fs::create_dir(&list).expect("made");
        assert!(survey(&RealFileSystem, &config).is_err(), "a directory is no list");
        std::fs::remove_dir(&list).expect("removed");
        std::fs::File::create(&list).and_then(|file| file.set_len(9 << 20)).expect("made");
        assert!(survey(&RealFileSystem, &config).is_err(), "too long");
        std::fs::remove_file(&list).expect("removed");
        symlink("elsewhere", &list).expect("made");
        std::fs::write(folder.path().join("elsewhere"), "a/v2").expect("written");
        assert_eq!(in_use(&config, &names), ["a/v2"], "links to the list are followed");
        std::fs::remove_dir(&base).expect("removed");
        assert_eq!(survey(&RealFileSystem, &config).map_err(|e| e.kind), Err(FailureKind::MissingBase));
    }
}
