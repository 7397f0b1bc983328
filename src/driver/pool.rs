//! Bounded thread pools for what takes a processor or a disk. What runs on them, and what happens when one is full, is
//! the caller's.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// What a pool runs.
pub type Job = Box<dyn FnOnce() + Send>;

/// As many jobs wait as may; the job comes back.
pub struct Full(pub Job);

/// Some threads and a queue with a bound. Dropping it runs what was submitted, then ends the threads.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    name: &'static str,
    queue_max: usize,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    closed: bool,
    panics: u64,
}

impl Shared {
    /// The state is consistent at every unlock, so a panic while it was locked doesn't matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self) {
        while let Some(job) = self.next() {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(job)) {
                let text = panic.downcast_ref::<&str>().copied();
                let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
                tracing::error!(pool = self.name, "a job panicked: {}", text.unwrap_or("no text"));
                self.lock().panics += 1;
            }
        }
    }
}

impl Pool {
    /// Starts `threads` threads (at least one); at most `queue_max` jobs wait for them.
    pub fn new(name: &'static str, threads: usize, queue_max: usize) -> std::io::Result<Self> {
        let (state, work) = (Mutex::new(State::default()), Condvar::new());
        let mut pool = Self { shared: Arc::new(Shared { name, queue_max, state, work }), threads: Vec::new() };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&pool.shared);
            let builder = std::thread::Builder::new().name(format!("{name}-{number}"));
            pool.threads.push(builder.spawn(move || shared.run())?);
        }
        Ok(pool)
    }

    /// Queues a job; never waits.
    pub fn submit(&self, job: Job) -> Result<(), Full> {
        let mut state = self.shared.lock();
        if state.queue.len() >= self.shared.queue_max {
            return Err(Full(job));
        }
        state.queue.push_back(job);
        drop(state);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Forgets the jobs that no thread has begun.
    pub fn discard(&self) {
        let forgotten = std::mem::take(&mut self.shared.lock().queue);
        drop(forgotten);
    }

    /// Jobs that wait for a thread.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }

    /// Jobs that panicked so far; each was logged.
    pub fn panics(&self) -> u64 {
        self.shared.lock().panics
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread ends only by returning: jobs that panic are caught.
            let _ = thread.join();
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({}, {} threads, {} waiting)", self.shared.name, self.threads.len(), self.waiting())
    }
}

impl std::fmt::Debug for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Full")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    use super::*;

    #[test]
    fn dropping_runs_everything_submitted() {
        let done = Arc::new(AtomicUsize::new(0));
        let pool = Pool::new("test", 3, 100).expect("threads");
        for _ in 0..100 {
            let done = Arc::clone(&done);
            let job: Job = Box::new(move || _ = done.fetch_add(1, Ordering::Relaxed));
            pool.submit(job).expect("room");
        }
        drop(pool);
        assert_eq!(done.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn the_queue_has_a_bound() {
        let pool = Pool::new("test", 1, 2).expect("threads");
        let (started, wait_started) = sync_channel(0);
        let (release, wait_release) = sync_channel::<()>(0);
        pool.submit(Box::new(move || {
            started.send(()).expect("the test waits");
            wait_release.recv().expect("the test sends");
        }))
        .expect("room");
        wait_started.recv().expect("the job sends");
        pool.submit(Box::new(|| {})).expect("room");
        pool.submit(Box::new(|| {})).expect("room");
        let Err(Full(job)) = pool.submit(Box::new(|| {})) else { panic!("a third job was queued") };
        release.send(()).expect("the job waits");
        job();
    }

    #[test]
    fn a_panic_ends_only_its_job() {
        let pool = Pool::new("test", 1, 10).expect("threads");
        let (send, receive) = sync_channel(1);
        pool.submit(Box::new(|| panic!("on purpose"))).expect("room");
        pool.submit(Box::new(move || send.send(5).expect("the test waits"))).expect("room");
        assert_eq!(receive.recv(), Ok(5));
        assert_eq!(pool.panics(), 1);
    }
}
