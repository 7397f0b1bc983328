//! Storage for the state database that loses what wasn't synced.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

use super::power::{Power, Survival};

/// The bytes of one database file. Clones are the same file.
#[derive(Debug, Clone)]
pub(crate) struct MemoryStorage {
    power: Power,
    file: Arc<Mutex<Content>>,
}

/// A file's bytes: what a reader sees, what is durable, and the difference.
#[derive(Debug, Clone, Default)]
pub(crate) struct Content {
    pub(crate) live: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, data: Vec<u8> },
    Length(usize),
}

fn write(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    if bytes.len() < offset + data.len() {
        bytes.resize(offset + data.len(), 0);
    }
    bytes[offset..offset + data.len()].copy_from_slice(data);
}

impl Content {
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        write(&mut self.live, offset, data);
        self.pending.push(Pending::Write { offset, data: data.to_vec() });
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        self.live.resize(len, 0);
        self.pending.push(Pending::Length(len));
    }

    pub(crate) fn sync(&mut self) {
        // Only what is still to be written: what an earlier sync failed to write stays lost.
        self.settle(&mut Survival::Everything);
    }

    /// What wasn't written yet never will be, though readers see it until the power is cut.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }

    pub(crate) fn crash(&mut self, survival: &mut Survival) {
        self.settle(survival);
        self.live.clone_from(&self.durable);
    }

    fn settle(&mut self, survival: &mut Survival) {
        for pending in std::mem::take(&mut self.pending) {
            match pending {
                Pending::Write { offset, data } => {
                    let kept = survival.kept_bytes(data.len());
                    if kept > 0 {
                        write(&mut self.durable, offset, &data[..kept]);
                    }
                }
                Pending::Length(len) => {
                    if survival.keeps() {
                        self.durable.resize(len, 0);
                    }
                }
            }
        }
    }
}

impl MemoryStorage {
    pub(crate) fn new(power: Power) -> Self {
        Self { power, file: Arc::default() }
    }

    fn file(&self) -> MutexGuard<'_, Content> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn crash(&self, survival: &mut Survival) {
        self.file().crash(survival);
    }

    /// A copy of its own.
    pub(crate) fn copy(&self, power: Power) -> Self {
        Self { power, file: Arc::new(Mutex::new(self.file().clone())) }
    }
}

fn position(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(io::Error::other)
}

impl StorageBackend for MemoryStorage {
    fn len(&self) -> io::Result<u64> {
        self.power.check()?;
        Ok(self.file().live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.power.check()?;
        let offset = position(offset)?;
        let file = self.file();
        let bytes = file.live.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.power.tick()?;
        self.file().set_len(position(len)?);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.power.tick()?;
        self.file().sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.power.tick()?;
        self.file().write(position(offset)?, data);
        Ok(())
    }
}
