//! What reads and writes files: scans, staging, checks, what is known of files that are there.

use std::time::Duration;

/// Threads that one scan uses at most.
pub const SCAN_THREADS_MAX: usize = 64;
/// Bytes that a scanning thread reads before it hashes them: the size of its buffer.
pub const SCAN_BATCH_BYTES: usize = 512 << 10;
/// Blocks that a scanning thread hashes at once; small files have small blocks.
pub const SCAN_BATCH_BLOCKS_MAX: usize = 256;
/// Bytes, of one file or many, that a scanning thread takes on at once: larger files are shared between threads.
pub const SCAN_CLAIM_BYTES: u64 = 4 << 20;
/// Bytes of files below which a scan keeps nothing for the next one: they are hashed in some milliseconds.
pub const SCAN_CACHE_WORTH_BYTES: u64 = 4 << 20;
/// Directories of which the hashes of files are kept between scans.
pub const SCAN_CACHE_FILES_MAX: usize = 64;
/// Bytes of all that is kept between scans.
pub const SCAN_CACHE_BYTES_MAX: u64 = 1 << 30;
/// A file that was changed so shortly before a scan could change once more and keep its times: file systems count in up to two seconds.
pub const SCAN_CACHE_RACY_SECONDS: u64 = 2;
/// Files that a scanning thread takes on at once.
pub const SCAN_CLAIM_FILES_MAX: usize = 256;
/// Files that an image's reader keeps open.
pub const READER_OPEN_FILES_MAX: usize = 32;
/// The staging directory, next to the directories that it becomes.
pub const STAGING_DIR_NAME: &str = ".ciruela-staging";

/// Files of at least this many bytes get their space reserved when the tree is staged; smaller ones are made when their
/// first block comes.
pub const PREALLOCATE_BYTES_MIN: u64 = 1 << 20;
/// Entries which one step of garbage collection removes.
pub const COLLECT_STEP_ENTRIES_MAX: usize = 10_000;
/// Bytes of a file that are read and hashed at once when a staged or visible tree is checked.
pub const CHECK_BYTES_MAX: usize = 4 << 20;
/// Disk jobs that wait for a thread.
pub const DISK_JOBS_QUEUED_MAX: usize = 65_536;
/// Bytes of the state database that are kept in memory.
pub const DATABASE_CACHE_BYTES_MAX: usize = 16 << 20;

/// First pause before a failed disk step is tried again; it doubles up to [`RETRY_PAUSE_MAX`].
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(500);
/// Longest pause before a failed disk step is tried again.
pub const RETRY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Files of which is remembered that they have a certain content.
pub const SOURCES_PER_FILE_MAX: usize = 4;
/// Files looked up at once: as long, nobody else uses the state database.
pub const FILES_LOOKED_UP_MAX: usize = 1_024;
/// Inodes touched by linking that are written down at once.
pub const TOUCHES_GATHERED_MAX: usize = 65_536;
/// Files of a committed directory that become known in one transaction of the state database.
pub const FILES_WRITTEN_MAX: usize = 32_768;
/// Committed directories, besides the one that is replaced, which are searched for blocks of a new image.
pub const SIBLINGS_MAX: usize = 4;
